package announce

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

func prefer(weight int32, name string) v1beta1.PreferredNodeSelector {
	return v1beta1.PreferredNodeSelector{Weight: weight, Preference: metav1.LabelSelector{MatchLabels: map[string]string{"name": name}}}
}

// TestWhoIsTheBetterCandidate: of a and b, c is not there.
func TestWhoIsTheBetterCandidate(t *testing.T) {
	excluded := func(n *cluster.Node) { n.Excluded = true }
	draining := func(n *cluster.Node) { n.Draining = true }
	silent := func(m *cluster.Member) { m.Links[0].Silent = true }
	for _, c := range []struct {
		says    string
		change  func(s *scene)
		owner   string
		despite Reason
	}{
		{"who is not Ready gives way", func(s *scene) { s.node("a", func(n *cluster.Node) { n.NotReady = true }) }, "b", ""},
		{"who is excluded gives way", func(s *scene) { s.node("a", excluded) }, "b", ""},
		{"who drains gives way", func(s *scene) { s.node("a", draining) }, "b", ""},
		{"who is out of service gives way", func(s *scene) { s.node("b", func(n *cluster.Node) { n.OutOfService = true }) }, "a", ""},
		{"who is silent gives way", func(s *scene) { s.member("b", silent) }, "a", ""},
		{"the only one left owns although it drains", func(s *scene) {
			s.node("a", draining)
			delete(s.Alive.Alive, "b")
		}, "a", NodeDraining},
		{"excluded is better than draining", func(s *scene) {
			s.node("a", draining)
			s.node("b", excluded)
		}, "b", NodeExcluded},
		{"draining is better than silent", func(s *scene) {
			s.member("a", silent)
			s.node("b", draining)
		}, "b", NodeDraining},
		{"silence everywhere is as good as none", func(s *scene) {
			s.member("a", silent)
			s.only(v1beta1.L2AdvertisementSpec{NodeSelectors: onNodes("a")})
		}, "a", LinkSilent},
		{"a draining node in the subnet is better than one outside", func(s *scene) {
			s.node("a", draining)
			s.member("b", func(m *cluster.Member) { m.Links = m.Links[1:] })
		}, "a", NodeDraining},
		{"so is a silent one", func(s *scene) {
			s.member("a", silent)
			s.member("b", func(m *cluster.Member) { m.Links = m.Links[1:] })
		}, "a", LinkSilent},
		{"Local: who has endpoints owns although it drains", func(s *scene) {
			s.node("a", draining)
			s.hold("192.0.2.1", func(x *cluster.Service) { x.TrafficPolicy, x.Serving = cluster.TrafficLocal, []string{"a"} })
		}, "a", NodeDraining},
		{"the preferred one owns", func(s *scene) {
			s.only(v1beta1.L2AdvertisementSpec{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer(1, "b")}})
		}, "b", ""},
		{"the greater weight counts", func(s *scene) {
			s.only(v1beta1.L2AdvertisementSpec{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer(10, "a"), prefer(11, "b")}})
		}, "b", ""},
		{"weights add up", func(s *scene) {
			s.only(v1beta1.L2AdvertisementSpec{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer(10, "a"), prefer(11, "b"), prefer(2, "a")}})
		}, "a", ""},
		{"a preference that an advertisement has for a node which it does not select is none", func(s *scene) {
			s.only(v1beta1.L2AdvertisementSpec{NodeSelectors: onNodes("a"), PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer(10, "b")}})
			s.objects.L2Advertisements = append(s.objects.L2Advertisements, v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "all"},
				Spec: v1beta1.L2AdvertisementSpec{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer(1, "a")}}})
		}, "a", ""},
		{"a preference does not bring in who may not announce", func(s *scene) {
			s.only(v1beta1.L2AdvertisementSpec{NodeSelectors: onNodes("a"), PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer(10, "b")}})
		}, "a", ""},
		{"a preferred one that drains gives way", func(s *scene) {
			s.only(v1beta1.L2AdvertisementSpec{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer(10, "b")}})
			s.node("b", draining)
		}, "a", ""},
	} {
		t.Run(c.says, func(t *testing.T) {
			s := newScene()
			delete(s.Alive.Alive, "c")
			c.change(s)
			s.Config, _ = config.Parse(s.objects)
			verdict := Decide(s.View).Why[cluster.Key{Namespace: "ns", Name: "web"}][0]
			if verdict.Owner != c.owner || verdict.Despite != c.despite {
				t.Errorf("owned by %q despite %q, want %q, %q", verdict.Owner, verdict.Despite, c.owner, c.despite)
			}
		})
	}
}

// TestOnlyLinksThatAreHeard: of two links that fit, one is silent.
func TestOnlyLinksThatAreHeard(t *testing.T) {
	s := newScene()
	s.leaveOnlyA()
	s.hold("203.0.113.1")
	s.member("a", func(m *cluster.Member) { m.Links[0].Silent = true })
	s.Config, _ = config.Parse(s.objects)
	if links := Decide(s.View).L2.Addrs[s.Services[0].Held[0]].Links; !slices.Equal(links, []string{"eth1"}) {
		t.Errorf("announced on %v", links)
	}
}

// TestNobodyOwnsDespiteABetterOne: as every node sees itself.
func TestNobodyOwnsDespiteABetterOne(t *testing.T) {
	eachView(t, func(t *testing.T, v View, _ *rand.Rand) {
		candidates, despite := map[netip.Addr][]string{}, map[netip.Addr]Reason{}
		for _, n := range v.Nodes {
			for _, verdicts := range Decide(as(v, n.Name)).Why {
				for _, verdict := range verdicts {
					despite[verdict.Addr] = verdict.Despite
					if verdict.Self == Candidate {
						candidates[verdict.Addr] = append(candidates[verdict.Addr], n.Name)
					}
				}
			}
		}
		for addr, reason := range despite {
			if reason != "" && len(candidates[addr]) > 0 {
				t.Errorf("%s has an owner despite %s, and nothing speaks against %v", addr, reason, candidates[addr])
			}
		}
	})
}

// TestTheSpread measures how evenly runs of addresses, as pools give them out, are spread: rendezvous hashing promises no more than
// chance, and this is how much that is.
func TestTheSpread(t *testing.T) {
	for _, c := range []struct {
		nodes, addrs int
		mean         float64 // of the most over the average
	}{{3, 20, 1.45}, {3, 250, 1.15}, {5, 100, 1.35}, {5, 1000, 1.12}, {10, 1000, 1.22}, {100, 2000, 1.75}} {
		rng := rand.New(rand.NewPCG(1, uint64(c.nodes)))
		sum := 0.0
		const trials = 100
		for range trials {
			hashes := make([]uint64, c.nodes)
			for i := range hashes {
				hashes[i] = nameHash(string(rune(rng.IntN(1 << 20))))
			}
			count, start := make([]int, c.nodes), rng.Uint32()
			for i := range c.addrs {
				n := start + uint32(i)
				seed, best := addrHash(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})), 0
				for at, h := range hashes {
					if mix(h^seed) > mix(hashes[best]^seed) {
						best = at
					}
				}
				count[best]++
			}
			sum += float64(slices.Max(count)) / (float64(c.addrs) / float64(c.nodes))
		}
		t.Logf("%d addresses on %d nodes: the most that one has is %.2f times the average", c.addrs, c.nodes, sum/trials)
		if sum/trials > c.mean {
			t.Errorf("%d addresses on %d nodes: %.2f, want at most %.2f", c.addrs, c.nodes, sum/trials, c.mean)
		}
	}
}
