package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

func aged(name string, age int64) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(age, 0))}
}

// routedScene is a scene whose pools are announced over BGP to the peers "near" (192.0.2.254, AS 65001) and "far" (10.0.0.1, AS 64512).
func routedScene() *scene {
	s := newScene()
	for i := range s.objects.Pools {
		s.objects.Pools[i].Spec.Advertise = []v1beta1.Protocol{v1beta1.ProtocolBGP}
	}
	peer := func(name, address string, asn int64) v1beta1.BGPPeer {
		return v1beta1.BGPPeer{ObjectMeta: aged(name, 1), Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: &asn, PeerAddress: address}}
	}
	s.objects.BGPPeers = []v1beta1.BGPPeer{peer("near", "192.0.2.254", 65001), peer("far", "10.0.0.1", 64512)}
	return s
}

// advertised makes advertisements the only ones, the elder first.
func (s *scene) advertised(specs ...v1beta1.BGPAdvertisementSpec) {
	for i := range s.objects.Pools {
		s.objects.Pools[i].Spec.Advertise = nil
	}
	for i, spec := range specs {
		s.objects.BGPAdvertisements = append(s.objects.BGPAdvertisements, v1beta1.BGPAdvertisement{ObjectMeta: aged(fmt.Sprint("adv", i), int64(i)), Spec: spec})
	}
}

// decide decides, and says what of each session is to be seen: its routes, and whether they are drained.
func (s *scene) routes() (said map[string][]string, verdict *Routed, plan Plan) {
	s.Config, _ = config.Parse(s.objects)
	plan = Decide(s.View)
	said = map[string][]string{}
	for name, session := range plan.BGP {
		said[name] = []string{}
		for prefix, route := range session.Routes {
			text := []string{prefix.String()}
			if route.LocalPref != nil {
				text = append(text, fmt.Sprint("pref ", *route.LocalPref))
			}
			if route.MED != nil {
				text = append(text, fmt.Sprint("med ", *route.MED))
			}
			for _, c := range route.Communities {
				text = append(text, c.String())
			}
			if route.Drain {
				text = append(text, "drained")
			}
			said[name] = append(said[name], strings.Join(text, " "))
		}
		slices.Sort(said[name])
		if session.Close {
			said[name] = append(said[name], "closed")
		}
	}
	return said, plan.Why[s.Services[0].Key][0].BGP, plan
}

func TestRoutes(t *testing.T) {
	one := []string{"192.0.2.1/32"}
	both := map[string][]string{"near": one, "far": one}
	none := map[string][]string{"near": {}, "far": {}}
	drained := []string{"192.0.2.1/32 drained", "closed"}
	local := func(serving ...string) func(*scene) {
		return func(s *scene) {
			s.Services[0].TrafficPolicy, s.Services[0].Serving = cluster.TrafficLocal, serving
		}
	}
	number := func(n int64) *int64 { return &n }
	length := func(n int32) *int32 { return &n }
	for _, c := range []struct {
		says   string
		change func(s *scene)
		want   map[string][]string
		reason Reason
	}{
		{"every node announces to every peer", func(*scene) {}, both, Announced},
		{"nothing announces the pool", func(s *scene) { s.advertised() }, none, ""},
		{"one peer only", func(s *scene) { s.advertised(v1beta1.BGPAdvertisementSpec{Peers: []string{"far"}}) }, map[string][]string{"near": {}, "far": one}, Announced},
		{"the advertisement is for other nodes", func(s *scene) { s.advertised(v1beta1.BGPAdvertisementSpec{NodeSelectors: onNodes("b")}) }, none, NodeNotSelected},
		{"the peer is of other nodes", func(s *scene) { s.objects.BGPPeers[0].Spec.NodeSelectors = onNodes("b") }, map[string][]string{"far": one}, Announced},
		{"no peer is of this node", func(s *scene) {
			s.objects.BGPPeers = s.objects.BGPPeers[:1]
			s.objects.BGPPeers[0].Spec.NodeSelectors = onNodes("b")
		}, map[string][]string{}, NodeNotSelected},
		{"two advertisements unite their communities, and the elder's preference counts", func(s *scene) {
			s.advertised(v1beta1.BGPAdvertisementSpec{LocalPref: number(100), Communities: []string{"1:2"}},
				v1beta1.BGPAdvertisementSpec{LocalPref: number(200), MED: number(7), Communities: []string{"1:1", "1:2"}, Peers: []string{"far"}})
		}, map[string][]string{"near": {"192.0.2.1/32 pref 100 1:2"}, "far": {"192.0.2.1/32 pref 100 med 7 1:1 1:2"}}, Announced},
		{"an aggregate", func(s *scene) {
			s.advertised(v1beta1.BGPAdvertisementSpec{AggregationLength: length(24), Peers: []string{"far"}}, v1beta1.BGPAdvertisementSpec{})
		},
			map[string][]string{"near": one, "far": {"192.0.2.0/24", "192.0.2.1/32"}}, Announced},
		{"IPv6 is not announced over a session of IPv4", func(s *scene) {
			s.objects.Pools[0].Spec.Addresses = append(s.objects.Pools[0].Spec.Addresses, "2001:db8::/64")
			s.hold("2001:db8::1")
		}, none, NoPeer},
		{"unless it is for both, and leads somewhere", func(s *scene) {
			s.objects.Pools[0].Spec.Addresses = append(s.objects.Pools[0].Spec.Addresses, "2001:db8::/64")
			s.objects.BGPPeers[0].Spec.DualStackAddressFamily = true
			s.objects.BGPPeers[1].Spec.DualStackAddressFamily = true
			s.member("a", func(m *cluster.Member) {
				m.Links[0].Prefixes = append(slices.Clone(m.Links[0].Prefixes), netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8:1::1/64"))
			})
			s.hold("2001:db8::1")
		}, map[string][]string{"near": {"2001:db8::1/128"}, "far": {}}, Announced},
		{"an endpoint here", local("a", "b"), both, Announced},
		{"this node does not forward to its endpoints yet", func(s *scene) { s.Services[0].NotYetHere = true }, none, NoLocalEndpoint},
		{"no endpoint here", local("b"), none, NoLocalEndpoint},
		{"this speaker has not settled", func(s *scene) { s.member("a", func(m *cluster.Member) { m.Ready = false }) }, map[string][]string{}, SpeakerStarting},
		{"this node is drained", func(s *scene) { s.node("a", func(n *cluster.Node) { n.Draining = true }) }, map[string][]string{"near": drained, "far": drained}, Announced},
		{"every node is drained", func(s *scene) {
			for _, name := range []string{"a", "b", "c"} {
				s.node(name, func(n *cluster.Node) { n.Draining = true })
			}
		}, both, Announced},
		{"this node is drained, and no other has an endpoint", func(s *scene) {
			s.node("a", func(n *cluster.Node) { n.Draining = true })
			local("a")(s)
		}, both, Announced},
		{"another node is drained", func(s *scene) { s.node("b", func(n *cluster.Node) { n.Draining = true }) }, both, Announced},
		{"this node is excluded", func(s *scene) { s.node("a", func(n *cluster.Node) { n.Excluded = true }) }, none, NodeExcluded},
		{"every node is excluded", func(s *scene) {
			for _, name := range []string{"a", "b", "c"} {
				s.node(name, func(n *cluster.Node) { n.Excluded = true })
			}
		}, both, Announced},
		{"this node is not ready", func(s *scene) { s.node("a", func(n *cluster.Node) { n.NotReady = true }) }, none, NodeNotReady},
		{"this node is out of service", func(s *scene) { s.node("a", func(n *cluster.Node) { n.OutOfService = true }) }, none, NodeOutOfService},
		{"this speaker leaves", func(s *scene) { s.member("a", func(m *cluster.Member) { m.Leaving = true }) }, map[string][]string{"near": drained, "far": drained}, Announced},
		{"this speaker leaves, and a peer keeps its routes meanwhile", func(s *scene) {
			s.member("a", func(m *cluster.Member) { m.Leaving = true })
			s.objects.BGPPeers[0].Spec.GracefulRestart = &v1beta1.GracefulRestart{Enabled: true}
		}, map[string][]string{"near": one, "far": drained}, Announced},
		{"this speaker leaves a node that is drained, and a peer would keep its routes", func(s *scene) {
			s.member("a", func(m *cluster.Member) { m.Leaving = true })
			s.node("a", func(n *cluster.Node) { n.Draining = true })
			s.objects.BGPPeers[0].Spec.GracefulRestart = &v1beta1.GracefulRestart{Enabled: true}
		}, map[string][]string{"near": drained, "far": drained}, Announced},
	} {
		t.Run(c.says, func(t *testing.T) {
			s := routedScene()
			slices.SortFunc(s.objects.Pools, func(a, b v1beta1.IPAddressPool) int { return slices.Compare([]string{a.Name}, []string{b.Name}) })
			c.change(s)
			said, verdict, _ := s.routes()
			if diff := cmp.Diff(c.want, said); diff != "" {
				t.Error(diff)
			}
			reason := Reason("")
			if verdict != nil {
				reason = verdict.Reason
			}
			if reason != c.reason {
				t.Errorf("the reason is %q, want %q", reason, c.reason)
			}
		})
	}
}

func TestWhatLeadsToThisNode(t *testing.T) {
	s := routedScene()
	for i := range s.objects.BGPPeers {
		s.objects.BGPPeers[i].Spec.DualStackAddressFamily = true
	}
	s.node("a", func(n *cluster.Node) {
		n.Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("2001:db8:9::1")}
	})
	s.member("a", func(m *cluster.Member) {
		m.Links[0].Prefixes = append(slices.Clone(m.Links[0].Prefixes), netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8:1::1/64"))
	})
	_, _, plan := s.routes()
	near, far := plan.BGP["near"], plan.BGP["far"]
	if near.Far || !far.Far {
		t.Errorf("near is far: %t, far is far: %t", near.Far, far.Far)
	}
	if got := near.NextHop6.String(); got != "2001:db8:1::1" {
		t.Errorf("IPv6 leads to %s for the near one, want the address on its link", got)
	}
	if got := far.NextHop6.String(); got != "2001:db8:9::1" {
		t.Errorf("IPv6 leads to %s for the far one, want the node's address", got)
	}
	if near.NextHop4.IsValid() || near.Session.RouterID.String() != "192.0.2.200" {
		t.Errorf("IPv4 leads to %s, the router ID is %s", near.NextHop4, near.Session.RouterID)
	}
}

// TestTheRouterOnALink is told both families, and is near wherever it is.
func TestTheRouterOnALink(t *testing.T) {
	s := routedScene()
	s.objects.BGPPeers[0].Spec.PeerAddress, s.objects.BGPPeers[0].Spec.Interface = "", "eth0"
	s.objects.Pools[0].Spec.Addresses = append(s.objects.Pools[0].Spec.Addresses, "2001:db8::/120")
	s.Services[0].Held = append(s.Services[0].Held, netip.MustParseAddr("2001:db8::1"))
	_, _, plan := s.routes()
	near := plan.BGP["near"]
	if near.Far || !near.DualStack || near.Session.Interface != "eth0" || len(near.Routes) != 2 {
		t.Errorf("the session is %+v", near)
	}
	if far := plan.BGP["far"]; len(far.Routes) != 1 {
		t.Errorf("the other session, over IPv4, is %+v", far)
	}
}
