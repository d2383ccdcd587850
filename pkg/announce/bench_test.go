package announce

import (
	"fmt"
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// bigView has 10,000 Services on 100 nodes; one in ten is Local.
func bigView(selectors bool) View {
	v := View{Self: "node-42", Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{}}}
	for i := range 100 {
		name := fmt.Sprintf("node-%d", i)
		v.Nodes = append(v.Nodes, cluster.Node{Name: name, Labels: map[string]string{"rack": fmt.Sprint(i % 4)}})
		v.Alive.Alive[name] = cluster.Member{Ready: true, Links: []cluster.Link{
			{Name: "eth0", Index: 2, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.200.%d/16", i))}},
			{Name: "eth1", Index: 3, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.1.200.%d/16", i))}},
		}}
	}
	pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}
	pool.Spec.Addresses = []v1beta1.AddressRange{"10.0.0.0/17"}
	pool.Spec.Advertise = []v1beta1.Protocol{v1beta1.ProtocolL2}
	objects := config.Objects{Pools: []v1beta1.IPAddressPool{pool}}
	if selectors {
		for i := range 4 {
			adv := v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("rack-%d", i)}}
			adv.Spec.NodeSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": fmt.Sprint(i)}}}
			adv.Spec.ServiceSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": fmt.Sprint(i)}}}
			objects.L2Advertisements = append(objects.L2Advertisements, adv)
		}
	}
	v.Config, _ = config.Parse(objects)
	for i := range 10_000 {
		s := cluster.Service{
			Key:      cluster.Key{Namespace: "default", Name: fmt.Sprintf("service-%d", i)},
			Labels:   map[string]string{"rack": fmt.Sprint(i % 4)},
			Held:     []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
			HeldFrom: []string{"pool"},
		}
		if i%10 == 0 {
			s.TrafficPolicy = cluster.TrafficLocal
			s.Serving = []string{"node-11", "node-42", "node-7"}
		}
		v.Services = append(v.Services, s)
	}
	return v
}

func BenchmarkDecide(b *testing.B) {
	for _, selectors := range []bool{false, true} {
		b.Run(fmt.Sprintf("services=10000/nodes=100/selectors=%t", selectors), func(b *testing.B) {
			v := bigView(selectors)
			b.ReportAllocs()
			for b.Loop() {
				Decide(v)
			}
		})
	}
}

// routedView has 2,000 Services on 3 nodes, each announced to 4 routers.
func routedView() View {
	v := bigView(false)
	v.Self, v.Nodes, v.Services = "node-1", v.Nodes[:3], v.Services[:2000]
	objects := config.Objects{Pools: []v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "pool"},
		Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"10.0.0.0/17"}, Advertise: []v1beta1.Protocol{v1beta1.ProtocolBGP}}}}}
	for i := range 4 {
		objects.BGPPeers = append(objects.BGPPeers, v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("peer-%d", i)},
			Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: new(int64(65001)), PeerAddress: fmt.Sprintf("10.0.201.%d", i)}})
	}
	v.Config, _ = config.Parse(objects)
	return v
}

func BenchmarkDecideRoutes(b *testing.B) {
	v := routedView()
	b.ReportAllocs()
	for b.Loop() {
		Decide(v)
	}
}

func BenchmarkPlansAreEqual(b *testing.B) {
	layer2, other, routed, same := Decide(bigView(false)), Decide(bigView(false)), Decide(routedView()), Decide(routedView())
	for b.Loop() {
		if !layer2.L2.Equal(other.L2) || !routed.BGP.Equal(same.BGP) {
			b.Fatal("plans of equal views differ")
		}
	}
}
