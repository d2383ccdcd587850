package kube

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Overlay is the controller's one memory: what it wrote, or is writing, to Services, laid over what the informer shows
// until the informer has caught up. Without it a pure allocator would act on its own stale write and give an address
// twice. One goroutine uses it.
type Overlay struct {
	assumed map[cluster.Key]assumption
}

type assumption struct {
	uid     types.UID
	written *Record[Service] // what the API server answered; nil while the write is under way
	addrs   []netip.Addr
	from    []string
}

// NewOverlay returns an empty overlay.
func NewOverlay() *Overlay { return &Overlay{assumed: map[cluster.Key]assumption{}} }

// Begin says that a write is under way which gives a Service these addresses.
func (o *Overlay) Begin(r *Record[Service], addrs []netip.Addr, from []string) {
	o.assumed[r.Value.Key] = assumption{uid: r.UID, addrs: addrs, from: from}
}

// Done says what the API server answered to a write.
func (o *Overlay) Done(written *Record[Service]) {
	o.assumed[written.Value.Key] = assumption{uid: written.UID, written: written}
}

// Forget says that a write changed nothing.
func (o *Overlay) Forget(key cluster.Key) { delete(o.assumed, key) }

// Writing reports whether a write to the Service is under way.
func (o *Overlay) Writing(key cluster.Key) bool {
	a, assumed := o.assumed[key]
	return assumed && a.written == nil
}

// Lay returns the records with the newer of what was written and what the informer shows, and forgets what the informer
// has caught up with. Records are not changed; those under the overlay are replaced.
func (o *Overlay) Lay(records []*Record[Service]) []*Record[Service] {
	if len(o.assumed) == 0 {
		return records
	}
	seen := make(map[cluster.Key]struct{}, len(o.assumed))
	for i, r := range records {
		a, assumed := o.assumed[r.Value.Key]
		if !assumed {
			continue
		}
		seen[r.Value.Key] = struct{}{}
		switch {
		case a.uid != r.UID:
			delete(o.assumed, r.Value.Key)
		case a.written == nil:
			laid := *r
			laid.Value.Held, laid.Value.HeldFrom = a.addrs, a.from
			records[i] = &laid
		case older(r.ResourceVersion, a.written.ResourceVersion):
			records[i] = a.written
		default:
			delete(o.assumed, r.Value.Key)
		}
	}
	for key, a := range o.assumed {
		if _, present := seen[key]; !present && a.written != nil {
			delete(o.assumed, key)
		}
	}
	return records
}

// older reports whether resource version a is older than b. Versions that cannot be compared are taken to be current.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}
