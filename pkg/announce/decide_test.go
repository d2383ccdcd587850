package announce

import (
	"net/netip"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// scene is a cluster of three nodes "a", "b" and "c", each with eth0 in 192.0.2.0/24 and eth1 in 198.51.100.0/24, a pool "p"
// of 192.0.2.0/25 that is announced, a pool "routed" of 203.0.113.0/24 likewise, and one Service on 192.0.2.1. It is seen from a.
type scene struct {
	View
	objects config.Objects
}

func newScene() *scene {
	s := &scene{View: View{Self: "a", Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{}}}}
	for i, name := range []string{"a", "b", "c"} {
		s.Nodes = append(s.Nodes, cluster.Node{Name: name, Labels: map[string]string{"name": name}})
		link := func(name string, index int, subnet byte) cluster.Link {
			base := [4]byte{192, 0, 2, byte(200 + i)}
			if subnet == 1 {
				base = [4]byte{198, 51, 100, byte(200 + i)}
			}
			return cluster.Link{Name: name, Index: index, Up: true, Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(base), 24)}}
		}
		s.Alive.Alive[name] = cluster.Member{Ready: true, Links: []cluster.Link{link("eth0", 2, 0), link("eth1", 3, 1)}}
	}
	for name, addresses := range map[string]v1beta1.AddressRange{"p": "192.0.2.0/25", "routed": "203.0.113.0/24"} {
		pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
		pool.Spec.Addresses = []v1beta1.AddressRange{addresses}
		pool.Spec.Advertise = []v1beta1.Protocol{v1beta1.ProtocolL2}
		s.objects.Pools = append(s.objects.Pools, pool)
	}
	s.hold("192.0.2.1")
	return s
}

// hold makes the Services hold one address.
func (s *scene) hold(addr string, change ...func(*cluster.Service)) {
	service := cluster.Service{Key: cluster.Key{Namespace: "ns", Name: "web"}, Held: []netip.Addr{netip.MustParseAddr(addr)}}
	for _, c := range change {
		c(&service)
	}
	s.Services = []cluster.Service{service}
}

// only makes an advertisement the only one.
func (s *scene) only(spec v1beta1.L2AdvertisementSpec) {
	for i := range s.objects.Pools {
		s.objects.Pools[i].Spec.Advertise = nil
	}
	s.objects.L2Advertisements = []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "adv"}, Spec: spec}}
}

func (s *scene) member(name string, change func(*cluster.Member)) {
	m := s.Alive.Alive[name]
	m.Links = slices.Clone(m.Links)
	change(&m)
	s.Alive.Alive[name] = m
}

func (s *scene) node(name string, change func(*cluster.Node)) {
	change(&s.Nodes[slices.IndexFunc(s.Nodes, func(n cluster.Node) bool { return n.Name == name })])
}

// leaveOnlyA takes the other nodes out of the running.
func (s *scene) leaveOnlyA() {
	delete(s.Alive.Alive, "b")
	delete(s.Alive.Alive, "c")
}

func onNodes(name string) []metav1.LabelSelector {
	return []metav1.LabelSelector{{MatchLabels: map[string]string{"name": name}}}
}

func TestEveryReason(t *testing.T) {
	for _, c := range []struct {
		says   string
		change func(s *scene)
		reason Reason
		self   Reason
	}{
		{"the only candidate announces", func(s *scene) { s.leaveOnlyA() }, Announced, Candidate},
		{"who is not the owner says so", func(s *scene) { s.only(v1beta1.L2AdvertisementSpec{NodeSelectors: onNodes("b")}) }, NotOwner, NodeNotSelected},
		{"nothing announces the pool", func(s *scene) { s.only(v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"routed"}}) }, NoAdvertisement, ""},
		{"no advertisement selects the Service", func(s *scene) { s.only(v1beta1.L2AdvertisementSpec{ServiceSelectors: onNodes("x")}) }, NoAdvertisement, ""},
		{"no pool covers an address that nobody knows the pool of", func(s *scene) { s.hold("10.0.0.1") }, NoAdvertisement, ""},
		{"an address that its pool does not cover any more stays announced", func(s *scene) {
			s.hold("192.0.2.200", func(x *cluster.Service) { x.HeldFrom = []string{"p"} })
			s.leaveOnlyA()
		}, Announced, Candidate},
		{"no node is selected", func(s *scene) { s.only(v1beta1.L2AdvertisementSpec{NodeSelectors: onNodes("x")}) }, NoCandidate, NodeNotSelected},
		{"no speaker lives here", func(s *scene) { delete(s.Alive.Alive, "a") }, NotOwner, SpeakerDown},
		{"this node is not in the cluster", func(s *scene) { s.Self = "x" }, NotOwner, SpeakerDown},
		{"the speaker is not ready", func(s *scene) { s.member("a", func(m *cluster.Member) { m.Ready = false }) }, NotOwner, SpeakerStarting},
		{"the speaker leaves", func(s *scene) { s.member("a", func(m *cluster.Member) { m.Leaving = true }) }, NotOwner, SpeakerLeaving},
		{"the node is excluded", func(s *scene) { s.node("a", func(n *cluster.Node) { n.Excluded = true }) }, NotOwner, NodeExcluded},
		{"the node's network is away", func(s *scene) { s.node("a", func(n *cluster.Node) { n.NetworkUnavailable = true }) }, NotOwner, NodeNetworkUnavailable},
		{"the node has no such link", func(s *scene) {
			s.only(v1beta1.L2AdvertisementSpec{Interfaces: []string{"bond0"}})
			s.member("b", func(m *cluster.Member) { m.Links[0].Name = "bond0" })
		}, NotOwner, NoLink},
		{"the link is down", func(s *scene) {
			s.only(v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth0"}})
			s.member("a", func(m *cluster.Member) { m.Links[0].Up = false })
		}, NotOwner, NoLink},
		{"no node has such a link", func(s *scene) { s.only(v1beta1.L2AdvertisementSpec{Interfaces: []string{"bond*"}}) }, NoCandidate, NoLink},
		{"Local: endpoints elsewhere", func(s *scene) {
			s.hold("192.0.2.1", func(x *cluster.Service) { x.TrafficPolicy, x.Serving = cluster.TrafficLocal, []string{"b"} })
		}, NotOwner, NoLocalEndpoint},
		{"Local: endpoints here only", func(s *scene) {
			s.hold("192.0.2.1", func(x *cluster.Service) { x.TrafficPolicy, x.Serving = cluster.TrafficLocal, []string{"a"} })
		}, Announced, Candidate},
		{"Local: no endpoints", func(s *scene) {
			s.hold("192.0.2.1", func(x *cluster.Service) { x.TrafficPolicy = cluster.TrafficLocal })
		}, NoEndpoints, NoLocalEndpoint},
		{"Local: endpoints only where nobody may announce", func(s *scene) {
			s.hold("192.0.2.1", func(x *cluster.Service) { x.TrafficPolicy, x.Serving = cluster.TrafficLocal, []string{"a"} })
			s.only(v1beta1.L2AdvertisementSpec{NodeSelectors: onNodes("b")})
		}, NoEndpoints, NodeNotSelected},
		{"Cluster: endpoints do not count", func(s *scene) {
			s.hold("192.0.2.1", func(x *cluster.Service) { x.Serving = []string{"b"} })
			s.leaveOnlyA()
		}, Announced, Candidate},
		{"membership is off: every node is taken to be alive", func(s *scene) {
			s.Alive = cluster.Members{Alive: map[string]cluster.Member{"a": s.Alive.Alive["a"]}}
			s.node("b", func(n *cluster.Node) { n.Excluded = true })
			s.node("c", func(n *cluster.Node) { n.Excluded = true })
		}, Announced, Candidate},
	} {
		t.Run(c.says, func(t *testing.T) {
			s := newScene()
			c.change(s)
			s.Config, _ = config.Parse(s.objects)
			plan := Decide(s.View)
			verdict := plan.Why[cluster.Key{Namespace: "ns", Name: "web"}][0]
			if verdict.Reason != c.reason || verdict.Self != c.self {
				t.Errorf("got %s, self %q; want %s, %q", verdict.Reason, verdict.Self, c.reason, c.self)
			}
			what, planned := plan.L2.Addrs[verdict.Addr]
			switch {
			case (verdict.Reason == Announced || verdict.Reason == NotOwner) != planned:
				t.Errorf("%s, and planned %t", verdict.Reason, planned)
			case what.Yield != (verdict.Reason == NotOwner):
				t.Errorf("%s, and yields %t", verdict.Reason, what.Yield)
			case (verdict.Reason == Announced) != (verdict.Owner == s.Self):
				t.Errorf("%s, and owned by %q", verdict.Reason, verdict.Owner)
			}
		})
	}
}

func TestOnWhichLinks(t *testing.T) {
	for _, c := range []struct {
		says   string
		change func(s *scene)
		want   []string // nil: not announced by a
	}{
		{"the one whose subnet holds the address", func(*scene) {}, []string{"eth0"}},
		{"all, where no subnet holds it", func(s *scene) { s.hold("203.0.113.1") }, []string{"eth0", "eth1"}},
		{"those that the advertisement names, whatever the subnet", func(s *scene) {
			s.only(v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth1"}})
		}, []string{"eth1"}},
		{"those that a glob names", func(s *scene) { s.only(v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth[01]"}}) }, []string{"eth0", "eth1"}},
		{"a ? is one character", func(s *scene) { s.only(v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth?"}}) }, []string{"eth0", "eth1"}},
		{"a name is not a prefix", func(s *scene) { s.only(v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth"}}) }, nil},
		{"two advertisements add up", func(s *scene) {
			s.objects.L2Advertisements = []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth1"}}}}
		}, []string{"eth0", "eth1"}},
		{"only links that are up", func(s *scene) {
			s.hold("203.0.113.1")
			s.member("a", func(m *cluster.Member) { m.Links[1].Up = false })
		}, []string{"eth0"}},
		{"a node whose link in the subnet is down leaves it to others", func(s *scene) {
			s.member("a", func(m *cluster.Member) { m.Links[0].Up = false })
			s.member("b", func(m *cluster.Member) { m.Ready = true })
		}, nil},
		{"an address on a link-local subnet does not count as held", func(s *scene) {
			s.member("a", func(m *cluster.Member) { m.Links[1].Prefixes = []netip.Prefix{netip.MustParsePrefix("fe80::1/64")} })
			s.hold("203.0.113.1")
		}, []string{"eth0", "eth1"}},
	} {
		t.Run(c.says, func(t *testing.T) {
			s := newScene()
			s.node("b", func(n *cluster.Node) { n.Labels = nil })
			c.change(s)
			if c.want != nil {
				s.leaveOnlyA()
			}
			s.Config, _ = config.Parse(s.objects)
			got := Decide(s.View).L2.Addrs[s.Services[0].Held[0]]
			if !slices.Equal(got.Links, c.want) {
				t.Errorf("got %v, want %v", got.Links, c.want)
			}
		})
	}
}

func TestSharersOfAnAddressHaveOneOwnerWithEndpointsOfAny(t *testing.T) {
	s := newScene()
	s.hold("192.0.2.1", func(x *cluster.Service) { x.TrafficPolicy, x.Serving = cluster.TrafficLocal, []string{"b"} })
	other := s.Services[0]
	other.Key.Name, other.Serving = "other", nil
	s.Services = append(s.Services, other)
	s.Config, _ = config.Parse(s.objects)
	for key, verdicts := range Decide(s.View).Why {
		if verdicts[0].Owner != "b" {
			t.Errorf("%s is owned by %q, want b", key, verdicts[0].Owner)
		}
	}
}

func TestOwnersAreSpreadEvenly(t *testing.T) {
	s := newScene()
	s.Services = nil
	for i := range 100 {
		s.Services = append(s.Services, cluster.Service{Key: cluster.Key{Name: "s", Namespace: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String()},
			Held: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}})
	}
	s.Config, _ = config.Parse(s.objects)
	count := map[string]int{}
	for _, owner := range owners(s.View) {
		count[owner]++
	}
	for _, n := range s.Nodes {
		if count[n.Name] < 20 || count[n.Name] > 47 {
			t.Errorf("%v: %s owns too few or too many of 100", count, n.Name)
		}
	}
}
