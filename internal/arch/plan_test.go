package arch

// module is the path that all our rooms lie under.
const module = "github.com/bellwether-lb/bellwether/"

// room is one line of the floor plan. The standard library is open to every room, save what pure rooms do without.
type room struct {
	pure   bool
	ours   []string // rooms it may import
	others []string // import path prefixes of other modules
}

// floorPlan is the import table of the house. Imports go strictly down, and rooms of one floor do not import each other;
// both follow from the lists.
func floorPlan() map[string]room {
	below := []string{
		"api/v1beta1", "pkg/cluster", "internal/reconcile", "pkg/config", "pkg/config/metallb", "pkg/allocator", "pkg/announce", "pkg/explain",
		"pkg/announce/l2", "pkg/announce/bgp", "pkg/announce/bfd", "pkg/announce/discovery",
		"pkg/membership", "pkg/heartbeat", "pkg/links", "internal/kube", "internal/obs",
	}
	wiring := []string{"k8s.io/api", "k8s.io/apimachinery", "github.com/prometheus/client_golang", "golang.org/x/sync/errgroup"}
	const netipx, labels, meta = "go4.org/netipx", "k8s.io/apimachinery/pkg/labels", "k8s.io/apimachinery/pkg/apis/meta/v1"
	return map[string]room{
		"api/v1beta1":        {others: []string{"k8s.io/apimachinery"}},
		"pkg/cluster":        {pure: true, others: []string{netipx}},
		"internal/reconcile": {},
		"internal/rawio":     {others: []string{"golang.org/x/sys"}},

		"pkg/config": {pure: true, ours: []string{"api/v1beta1", "pkg/cluster"}, others: []string{netipx, labels, meta}},

		"pkg/config/metallb": {pure: true, ours: []string{"api/v1beta1", "pkg/config"}, others: []string{"k8s.io/api", meta, "sigs.k8s.io/json"}},

		"pkg/allocator": {pure: true, ours: []string{"pkg/cluster", "pkg/config"}, others: []string{netipx, labels}},
		"pkg/announce":  {pure: true, ours: []string{"pkg/cluster", "pkg/config"}, others: []string{netipx, labels}},

		"pkg/explain": {pure: true, ours: []string{"api/v1beta1", "pkg/cluster", "pkg/config", "pkg/allocator", "pkg/announce"}, others: []string{meta}},

		"pkg/announce/l2": {ours: []string{"pkg/announce", "pkg/cluster", "internal/reconcile", "internal/rawio"},
			others: []string{"github.com/mdlayher", "golang.org/x/net", "golang.org/x/sys"}},
		"pkg/announce/bgp": {ours: []string{"pkg/announce", "pkg/announce/bfd", "pkg/announce/discovery", "pkg/config", "pkg/cluster", "internal/reconcile"},
			others: []string{"github.com/osrg/gobgp", "google.golang.org/protobuf", "golang.org/x/sys"}},
		"pkg/announce/bfd":       {others: []string{"golang.org/x/sys"}},
		"pkg/announce/discovery": {ours: []string{"internal/reconcile"}, others: []string{"github.com/mdlayher/ndp", "golang.org/x/net"}},
		"pkg/membership":         {ours: []string{"pkg/cluster", "internal/reconcile"}, others: []string{"github.com/hashicorp/memberlist"}},
		"pkg/heartbeat": {ours: []string{"pkg/cluster", "internal/reconcile", "internal/rawio"},
			others: []string{"github.com/mdlayher/packet", "golang.org/x/net", "golang.org/x/sys"}},
		"pkg/links": {ours: []string{"pkg/cluster", "internal/reconcile"},
			others: []string{"github.com/vishvananda/netlink", "golang.org/x/sys"}},
		"internal/kube": {ours: []string{"api/v1beta1", "pkg/cluster", "pkg/config", "pkg/config/metallb", "pkg/explain", "internal/reconcile"},
			others: []string{"k8s.io/client-go", "k8s.io/api", "k8s.io/apimachinery", "golang.org/x/sync/errgroup", "sigs.k8s.io/yaml"}},
		"internal/kube/lease": {ours: []string{"internal/reconcile"}, others: []string{"k8s.io/client-go", "k8s.io/apimachinery"}},
		"internal/obs": {ours: []string{"internal/reconcile"},
			others: []string{"github.com/prometheus", "github.com/go-logr/logr", "k8s.io/klog"}},

		"internal/page": {ours: []string{"api/v1beta1", "pkg/cluster", "pkg/explain", "internal/kube", "internal/reconcile"}, others: []string{"golang.org/x/sync/errgroup"}},

		"controller": {ours: append([]string{"internal/kube/lease", "internal/page"}, below...), others: wiring},
		"speaker":    {ours: below, others: wiring},
		"cli":        {ours: below, others: append([]string{"github.com/spf13/cobra", "k8s.io/cli-runtime", "sigs.k8s.io/yaml", "sigs.k8s.io/json"}, wiring...)},

		"internal/arch": {},
		"sim":           {},
	}
}

// doors are the libraries that only one room may see, and why.
func doors() map[string]string {
	return map[string]string{
		"github.com/osrg/gobgp":           "gobgp stays behind one door: only pkg/announce/bgp sees its types",
		"github.com/hashicorp/memberlist": "only pkg/membership sees memberlist: the others read cluster.Members",
		"github.com/vishvananda/netlink":  "only pkg/links sees netlink: the others read cluster.Link",
		"github.com/mdlayher/arp":         "only pkg/announce/l2 speaks ARP and NDP",
		"github.com/mdlayher/ndp":         "only pkg/announce/l2 speaks ARP and NDP",
		"k8s.io/client-go":                "only internal/kube sees client-go: the others read what it publishes",
	}
}

// impure is what a pure room does without, and why.
func impure() map[string]string {
	return map[string]string{
		"context":               "a pure function cannot be cancelled, it just returns",
		"log":                   "a pure room does not log: it returns its reasons",
		"log/slog":              "a pure room does not log: it returns its reasons",
		"os":                    "a pure room does no I/O",
		"io":                    "a pure room does no I/O",
		"net/http":              "a pure room does no I/O",
		"sync":                  "a pure room has no goroutine, so nothing to guard",
		"sync/atomic":           "a pure room has no goroutine, so nothing to guard",
		"math/rand":             "a pure room decides the same every time",
		"math/rand/v2":          "a pure room decides the same every time",
		"github.com/prometheus": "a pure room has no metrics: they are rendered from its result",
	}
}
