package announce

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

const worlds = 5000

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func randomView(seed uint64) (View, *rand.Rand) {
	rng := rand.New(rand.NewPCG(seed, 11))
	v := View{Alive: cluster.Members{Known: rng.IntN(10) > 0, Alive: map[string]cluster.Member{}}}
	for i := range 1 + rng.IntN(6) {
		addNode(&v, rng, fmt.Sprintf("node-%d", i))
	}
	objects := config.Objects{}
	for i := range 1 + rng.IntN(3) {
		pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pool-%d", i), Labels: map[string]string{"p": fmt.Sprint(i)}}}
		pool.Spec.Addresses = []v1beta1.AddressRange{v1beta1.AddressRange(fmt.Sprintf("198.18.%d.0/24", i)), v1beta1.AddressRange(fmt.Sprintf("2001:db8:%d::/64", i))}
		if rng.IntN(3) == 0 {
			pool.Spec.Advertise = []v1beta1.Protocol{v1beta1.ProtocolL2}
		}
		objects.Pools = append(objects.Pools, pool)
	}
	for i := range rng.IntN(3) {
		objects.L2Advertisements = append(objects.L2Advertisements, randomAdvertisement(rng, i))
	}
	v.Config, _ = config.Parse(objects)
	for i := range rng.IntN(12) {
		addService(&v, rng, i)
	}
	v.Self = v.Nodes[0].Name
	return v, rng
}

func addNode(v *View, rng *rand.Rand, name string) {
	v.Nodes = append(v.Nodes, cluster.Node{Name: name, Labels: map[string]string{"rack": pick(rng, "1", "2")},
		Excluded: rng.IntN(8) == 0, NetworkUnavailable: rng.IntN(12) == 0, NotReady: rng.IntN(8) == 0,
		Draining: rng.IntN(8) == 0, OutOfService: rng.IntN(12) == 0})
	if rng.IntN(8) == 0 {
		return
	}
	member := cluster.Member{Ready: rng.IntN(8) > 0, Leaving: rng.IntN(10) == 0}
	for i := range rng.IntN(3) {
		member.Links = append(member.Links, cluster.Link{Name: fmt.Sprintf("eth%d", i), Index: i + 2, Up: rng.IntN(5) > 0, Silent: rng.IntN(5) == 0,
			Prefixes: []netip.Prefix{netip.MustParsePrefix(pick(rng, "198.18.0.9/24", "198.18.1.9/24", "192.0.2.9/24", "2001:db8:1::9/64"))}})
	}
	v.Alive.Alive[name] = member
}

func randomAdvertisement(rng *rand.Rand, i int) v1beta1.L2Advertisement {
	adv := v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("adv-%d", i)}}
	selector := func(key string, values ...string) []metav1.LabelSelector {
		if rng.IntN(3) > 0 {
			return nil
		}
		return []metav1.LabelSelector{{MatchLabels: map[string]string{key: pick(rng, values...)}}}
	}
	adv.Spec.NodeSelectors = selector("rack", "1", "2")
	adv.Spec.ServiceSelectors = selector("tier", "1", "2")
	adv.Spec.IPAddressPoolSelectors = selector("p", "0", "1")
	for range rng.IntN(3) {
		adv.Spec.PreferredNodeSelectors = append(adv.Spec.PreferredNodeSelectors, v1beta1.PreferredNodeSelector{Weight: 1 + rng.Int32N(3),
			Preference: metav1.LabelSelector{MatchLabels: map[string]string{"rack": pick(rng, "1", "2")}}})
	}
	if rng.IntN(3) == 0 {
		adv.Spec.Interfaces = []string{pick(rng, "eth0", "eth1", "eth*", "bond0")}
	}
	return adv
}

func addService(v *View, rng *rand.Rand, i int) {
	s := cluster.Service{Key: cluster.Key{Namespace: "default", Name: fmt.Sprintf("s%d", i)},
		Labels: map[string]string{"tier": pick(rng, "1", "2", "3")}, Families: []cluster.Family{cluster.IPv4}}
	pool := rng.IntN(3)
	s.Held = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("198.18.%d.%d", pool, rng.IntN(8)))} // few, so that some share
	if rng.IntN(2) == 0 {
		s.Held = append(s.Held, netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%x", pool, rng.IntN(8))))
	}
	for range s.Held {
		s.HeldFrom = append(s.HeldFrom, fmt.Sprintf("pool-%d", pool))
	}
	if rng.IntN(3) == 0 {
		s.TrafficPolicy = cluster.TrafficLocal
		for _, n := range v.Nodes {
			if rng.IntN(2) == 0 {
				s.Serving = append(s.Serving, n.Name)
			}
		}
		slices.Sort(s.Serving)
	}
	v.Services = append(v.Services, s)
}

func eachView(t *testing.T, law func(t *testing.T, v View, rng *rand.Rand)) {
	t.Helper()
	for seed := range uint64(worlds) {
		v, rng := randomView(seed)
		law(t, v, rng)
		if t.Failed() {
			dump, _ := json.Marshal(v)
			t.Fatalf("broken by the view of seed %d: %s", seed, dump)
		}
	}
}

func as(v View, self string) View {
	v.Self = self
	return v
}

// owners returns the owner of every address as one node sees it; "" where it sees none.
func owners(v View) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, verdicts := range Decide(v).Why {
		for _, verdict := range verdicts {
			out[verdict.Addr] = verdict.Owner
		}
	}
	return out
}

func TestLaw9ExactlyOneNodeOwnsEachAddressOrNoneWithAReason(t *testing.T) {
	eachView(t, func(t *testing.T, v View, _ *rand.Rand) {
		answering := map[netip.Addr][]string{}
		for _, n := range v.Nodes {
			plan := Decide(as(v, n.Name))
			for addr, l2 := range plan.L2.Addrs {
				if !l2.Yield {
					answering[addr] = append(answering[addr], n.Name)
				}
			}
		}
		why := Decide(v).Why
		for _, s := range v.Services {
			for _, addr := range s.Held {
				verdict := why[s.Key][slices.IndexFunc(why[s.Key], func(x Verdict) bool { return x.Addr == addr })]
				switch {
				case len(answering[addr]) > 1:
					t.Errorf("%s is answered by %v", addr, answering[addr])
				case len(answering[addr]) == 1 && answering[addr][0] != verdict.Owner:
					t.Errorf("%s is answered by %v, but %s says %q owns it", addr, answering[addr], v.Self, verdict.Owner)
				case len(answering[addr]) == 0 && (verdict.Owner != "" || verdict.Reason == "" || verdict.Reason == Announced):
					t.Errorf("%s is answered by nobody, and the reason is %+v", addr, verdict)
				}
			}
		}
	})
}

func TestLaw9SharersNeverSplit(t *testing.T) {
	eachView(t, func(t *testing.T, v View, _ *rand.Rand) {
		seen := map[netip.Addr]Verdict{}
		for _, verdicts := range Decide(v).Why {
			for _, verdict := range verdicts {
				if before, dup := seen[verdict.Addr]; dup && before != verdict {
					t.Errorf("%s: %+v for one Service and %+v for another", verdict.Addr, before, verdict)
				}
				seen[verdict.Addr] = verdict
			}
		}
	})
}

func TestLaw10LosingANodeThatIsNotTheOwnerMovesNothing(t *testing.T) {
	eachView(t, func(t *testing.T, v View, rng *rand.Rand) {
		if !v.Alive.Known {
			return // then nobody is ever lost
		}
		before := owners(v)
		lost := pick(rng, v.Nodes...).Name
		after := v
		after.Alive.Alive = map[string]cluster.Member{}
		for name, member := range v.Alive.Alive {
			if name != lost {
				after.Alive.Alive[name] = member
			}
		}
		for addr, owner := range owners(after) {
			if was := before[addr]; was != "" && was != lost && owner != was {
				t.Errorf("losing %s moved %s from %s to %q", lost, addr, was, owner)
			}
		}
	})
}

func TestLaw10ANewAddressOrServiceMovesNothing(t *testing.T) {
	eachView(t, func(t *testing.T, v View, rng *rand.Rand) {
		before := owners(v)
		after := v
		after.Services = slices.Clone(v.Services)
		addService(&after, rng, 100)
		added := after.Services[len(after.Services)-1]
		for addr, owner := range owners(after) {
			if was, known := before[addr]; known && owner != was && !slices.Contains(added.Held, addr) {
				t.Errorf("a Service on %v moved %s from %q to %q", added.Held, addr, was, owner)
			}
		}
	})
}

func TestLaw11LocalOnlyWhereEndpointsServe(t *testing.T) {
	eachView(t, func(t *testing.T, v View, _ *rand.Rand) {
		serving, anywhere := map[netip.Addr][]string{}, map[netip.Addr]bool{}
		for _, s := range v.Services {
			for _, addr := range s.Held {
				serving[addr] = append(serving[addr], s.Serving...)
				anywhere[addr] = anywhere[addr] || s.TrafficPolicy == cluster.TrafficCluster
			}
		}
		for addr, owner := range owners(v) {
			if owner != "" && !anywhere[addr] && !slices.Contains(serving[addr], owner) {
				t.Errorf("%s owns %s, but endpoints serve on %v", owner, addr, serving[addr])
			}
		}
	})
}

func TestLaw12ANodeThatLacksEveryLinkIsNeverTheOwner(t *testing.T) {
	eachView(t, func(t *testing.T, v View, _ *rand.Rand) {
		for _, n := range v.Nodes {
			for addr, l2 := range Decide(as(v, n.Name)).L2.Addrs {
				if l2.Yield {
					continue
				}
				if len(l2.Links) == 0 && v.Alive.Known {
					t.Errorf("%s owns %s on no link", n.Name, addr)
				}
				for _, name := range l2.Links {
					if !slices.ContainsFunc(v.Alive.Alive[n.Name].Links, func(l cluster.Link) bool { return l.Name == name && l.Up }) {
						t.Errorf("%s owns %s on %s, which it lacks or which is down", n.Name, addr, name)
					}
				}
			}
		}
	})
}

func TestTheOrderOfAViewChangesNothing(t *testing.T) {
	eachView(t, func(t *testing.T, v View, rng *rand.Rand) {
		want := Decide(v)
		shuffled := v
		shuffled.Nodes, shuffled.Services = slices.Clone(v.Nodes), slices.Clone(v.Services)
		rng.Shuffle(len(shuffled.Nodes), func(i, j int) {
			shuffled.Nodes[i], shuffled.Nodes[j] = shuffled.Nodes[j], shuffled.Nodes[i]
		})
		rng.Shuffle(len(shuffled.Services), func(i, j int) {
			shuffled.Services[i], shuffled.Services[j] = shuffled.Services[j], shuffled.Services[i]
		})
		if diff := cmp.Diff(want, Decide(shuffled), equalPlans()...); diff != "" {
			t.Errorf("another order gives another plan:\n%s", diff)
		}
	})
}

func TestADumpedViewDecidesTheSame(t *testing.T) {
	eachView(t, func(t *testing.T, v View, _ *rand.Rand) {
		dump, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var read View
		if err := json.Unmarshal(dump, &read); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Decide(v), Decide(read), equalPlans()...); diff != "" {
			t.Errorf("the dumped view gives another plan:\n%s", diff)
		}
	})
}

func equalPlans() []cmp.Option {
	return []cmp.Option{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})}
}
