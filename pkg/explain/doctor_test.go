package explain_test

import (
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

func TestDoctor(t *testing.T) {
	well := explain.Surroundings{KubeProxyMode: "nftables"}
	for _, s := range healthy().Doctor(well) {
		if s.State != explain.OK {
			t.Errorf("in a healthy cluster: %+v", s)
		}
	}
	for _, c := range []struct {
		name  string
		harm  func(*explain.World, *explain.Surroundings)
		state explain.State
		says  string
	}{
		{"no controller", func(w *explain.World, _ *explain.Surroundings) { w.Controller.Running = false }, explain.Broken, "no controller runs"},
		{"a node without a speaker", func(w *explain.World, _ *explain.Surroundings) { w.Speakers = w.Speakers[:1] }, explain.Broken, "no speaker has ever run on node-2"},
		{"a node whose speaker does not run", func(w *explain.World, _ *explain.Surroundings) { w.Running = map[string]bool{"node-1": true} }, explain.Broken, "no speaker runs on node-2"},
		{"a speaker that is not ready", func(w *explain.World, _ *explain.Surroundings) {
			w.Speakers[0].Status.Conditions[0] = condition("Ready", metav1.ConditionFalse, "Starting", "the first lists are not complete")
		}, explain.Broken, "node-1: the first lists are not complete"},
		{"a kube-proxy that is down", func(w *explain.World, _ *explain.Surroundings) {
			w.Speakers[0].Status.Conditions[2] = condition("KubeProxyHealthy", metav1.ConditionFalse, "Unhealthy", "it is down")
		}, explain.Broken, "node-1: it is down"},
		{"two versions", func(w *explain.World, _ *explain.Surroundings) { w.Speakers[0].Status.Version = "v2" }, explain.Warning, "of 2 versions"},
		{"ipvs without strictARP", func(_ *explain.World, s *explain.Surroundings) { s.KubeProxyMode = "ipvs" }, explain.Broken, "without strictARP"},
		{"another load balancer", func(_ *explain.World, s *explain.Surroundings) { s.Others = []string{"MetalLB (Pod x/y)"} }, explain.Warning, "MetalLB (Pod x/y) serves"},
		{"all nodes excluded", func(w *explain.World, _ *explain.Surroundings) {
			for i := range w.Nodes {
				w.Nodes[i].Excluded = true
			}
		}, explain.Warning, "it is ignored"},
		{"a pool of another network", func(w *explain.World, _ *explain.Surroundings) {
			w.Objects.Pools[0].Spec.Addresses = []v1beta1.AddressRange{"203.0.113.0/24"}
			parse(w)
		}, explain.Warning, "lies in no subnet of any node"},
		{"an interface that nobody has", func(w *explain.World, _ *explain.Surroundings) {
			w.Objects.L2Advertisements = []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1beta1.L2AdvertisementSpec{Interfaces: []string{"bond*"}}}}
			parse(w)
		}, explain.Warning, "no node has such an interface"},
		{"a pool that nobody advertises", func(w *explain.World, _ *explain.Surroundings) { w.Objects.Pools[0].Spec.Advertise = nil; parse(w) }, explain.Warning, "no advertisement selects pool public"},
		{"no pool", func(w *explain.World, _ *explain.Surroundings) { w.Objects.Pools = nil; parse(w) }, explain.Warning, "there is no IPAddressPool"},
		{"an object that is wrong", func(w *explain.World, _ *explain.Surroundings) {
			w.Objects.Pools[0].Spec.Addresses = append(w.Objects.Pools[0].Spec.Addresses, "192.0.2.300")
			parse(w)
		}, explain.Broken, "IPAddressPool public:"},
		{"another controller's Service without a class", func(w *explain.World, _ *explain.Surroundings) {
			s := &w.Services[0]
			s.Marked, s.Held, s.Ingress = false, nil, []netip.Addr{netip.MustParseAddr("203.0.113.9")}
		}, explain.Warning, "shop/web has 203.0.113.9 from another controller"},
		{"gossip is blocked", func(w *explain.World, _ *explain.Surroundings) {
			w.Speakers[0].Status.Conditions[1] = condition("MembersAgree", metav1.ConditionFalse, "GossipBlocked", "heard on the network and not by gossip")
		}, explain.Warning, "not by gossip"},
	} {
		w, s := healthy(), well
		c.harm(w, &s)
		found := false
		for _, step := range w.Doctor(s) {
			if step.State != explain.OK && !strings.Contains(step.Says, c.says) {
				t.Errorf("%s: it is said too that %+v", c.name, step)
			}
			found = found || step.State == c.state && strings.Contains(step.Says, c.says)
		}
		if !found {
			t.Errorf("%s is not found: %+v", c.name, w.Doctor(s))
		}
	}
}
