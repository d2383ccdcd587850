package config

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// pool makes an IPAddressPool; age is the second that it was created in.
func pool(name string, age int64, addresses ...v1beta1.AddressRange) v1beta1.IPAddressPool {
	p := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(age, 0))}}
	p.Spec.Addresses = addresses
	return p
}

func changed(p v1beta1.IPAddressPool, change func(*v1beta1.IPAddressPool)) v1beta1.IPAddressPool {
	change(&p)
	return p
}

// covers renders what each pool covers.
func covers(c Config) map[string]string {
	out := map[string]string{}
	for _, p := range c.Pools {
		var ranges []string
		for _, r := range p.Covers.Ranges() {
			ranges = append(ranges, rangeText(r))
		}
		out[p.Name] = strings.Join(ranges, " ")
	}
	return out
}

func sentences(problems []Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, fmt.Sprintf("%s %s: %s: %s", p.Kind, p.Name, p.Reason, p.Message))
	}
	return out
}

func selector(key, operator string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: metav1.LabelSelectorOperator(operator)}}}
}

func TestPools(t *testing.T) {
	now := metav1.Now()
	for _, c := range []struct {
		name     string
		pools    []v1beta1.IPAddressPool
		covers   map[string]string
		inert    []string
		problems []string
	}{
		{name: "no pools"},
		{name: "adjacent and repeated entries become one",
			pools:  []v1beta1.IPAddressPool{pool("a", 1, "192.0.2.0/25", "192.0.2.128/25", "192.0.2.4", "2001:db8::1")},
			covers: map[string]string{"a": "192.0.2.0/24 2001:db8::1"}},
		{name: "exclusions are taken out",
			pools: []v1beta1.IPAddressPool{changed(pool("a", 1, "192.0.2.0/29"), func(p *v1beta1.IPAddressPool) {
				p.Spec.ExcludedAddresses = []v1beta1.AddressRange{"192.0.2.0", "192.0.2.3-192.0.2.4", "198.51.100.1"}
			})},
			covers: map[string]string{"a": "192.0.2.1-192.0.2.2 192.0.2.5-192.0.2.7"}},
		{name: "exclusions that leave nothing",
			pools: []v1beta1.IPAddressPool{changed(pool("a", 1, "192.0.2.0/29"), func(p *v1beta1.IPAddressPool) {
				p.Spec.ExcludedAddresses = []v1beta1.AddressRange{"192.0.2.0/24"}
			})},
			covers: map[string]string{"a": ""}, inert: []string{"a"},
			problems: []string{"IPAddressPool a: NoAddresses: no address is left to give: excludedAddresses holds all of addresses; add addresses or exclude fewer"}},
		{name: "a bad entry makes the pool inert, and the good ones still belong to it",
			pools:  []v1beta1.IPAddressPool{pool("a", 1, "192.0.2.0/29", "web")},
			covers: map[string]string{"a": "192.0.2.0/29"}, inert: []string{"a"},
			problems: []string{`IPAddressPool a: InvalidAddresses: addresses: "web"` + notASet}},
		{name: "a bad exclusion makes the pool inert: what it means is not known",
			pools: []v1beta1.IPAddressPool{changed(pool("a", 1, "192.0.2.0/29"), func(p *v1beta1.IPAddressPool) {
				p.Spec.ExcludedAddresses = []v1beta1.AddressRange{"192.0.2.3-"}
			})},
			covers: map[string]string{"a": "192.0.2.0/29"}, inert: []string{"a"},
			problems: []string{`IPAddressPool a: InvalidAddresses: excludedAddresses: "192.0.2.3-"` + notASet}},
		{name: "one bad pool does not touch another",
			pools:  []v1beta1.IPAddressPool{pool("bad", 1, "x"), pool("good", 2, "192.0.2.0/29")},
			covers: map[string]string{"bad": "", "good": "192.0.2.0/29"}, inert: []string{"bad"},
			problems: []string{`IPAddressPool bad: InvalidAddresses: addresses: "x"` + notASet}},
		{name: "the elder pool has what two cover, the younger keeps the rest and stays in force",
			pools:  []v1beta1.IPAddressPool{pool("a", 2, "192.0.2.0/24"), pool("b", 1, "192.0.2.64/26")},
			covers: map[string]string{"a": "192.0.2.0/26 192.0.2.128/25", "b": "192.0.2.64/26"},
			problems: []string{"IPAddressPool a: Overlaps: 192.0.2.64/26 belongs to the elder pool b already and is given only from there: " +
				"take it out of one of the two"}},
		{name: "of two of one age the first by name is the elder",
			pools:  []v1beta1.IPAddressPool{pool("b", 1, "192.0.2.1-192.0.2.9"), pool("a", 1, "192.0.2.8-192.0.2.12")},
			covers: map[string]string{"a": "192.0.2.8-192.0.2.12", "b": "192.0.2.1-192.0.2.7"},
			problems: []string{"IPAddressPool b: Overlaps: 192.0.2.8/31 belongs to the elder pool a already and is given only from there: " +
				"take it out of one of the two"}},
		{name: "an overlap with two elders names both",
			pools:  []v1beta1.IPAddressPool{pool("a", 1, "192.0.2.1"), pool("b", 2, "2001:db8::1-2001:db8::3"), pool("c", 3, "192.0.2.0/30", "2001:db8::3")},
			covers: map[string]string{"a": "192.0.2.1", "b": "2001:db8::1-2001:db8::3", "c": "192.0.2.0 192.0.2.2/31"},
			problems: []string{"IPAddressPool c: Overlaps: 192.0.2.1, 2001:db8::3 belongs to the elder pool a, b already and is given only from there: " +
				"take it out of one of the two"}},
		{name: "what an elder excludes is the younger's",
			pools: []v1beta1.IPAddressPool{changed(pool("a", 1, "192.0.2.0/29"), func(p *v1beta1.IPAddressPool) {
				p.Spec.ExcludedAddresses = []v1beta1.AddressRange{"192.0.2.4/30"}
			}), pool("b", 2, "192.0.2.4/30")},
			covers: map[string]string{"a": "192.0.2.0/30", "b": "192.0.2.4/30"}},
		{name: "a pool that is being deleted gives nothing more and covers what it did",
			pools:  []v1beta1.IPAddressPool{changed(pool("a", 1, "192.0.2.0/29"), func(p *v1beta1.IPAddressPool) { p.DeletionTimestamp = &now })},
			covers: map[string]string{"a": "192.0.2.0/29"}, inert: []string{"a"}},
		{name: "a protocol from the future",
			pools:  []v1beta1.IPAddressPool{changed(pool("a", 1, "192.0.2.1"), func(p *v1beta1.IPAddressPool) { p.Spec.Advertise = []v1beta1.Protocol{"L2", "SRv6"} })},
			covers: map[string]string{"a": "192.0.2.1"}, inert: []string{"a"},
			problems: []string{`IPAddressPool a: UnknownProtocol: advertise names "SRv6", which this version cannot announce with: use L2, BGP or both`}},
		{name: "a selector that cannot be understood",
			pools: []v1beta1.IPAddressPool{changed(pool("a", 1, "192.0.2.1"), func(p *v1beta1.IPAddressPool) {
				p.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{selector("x", "Exists"), selector("x", "Like")}}
			})},
			covers: map[string]string{"a": "192.0.2.1"}, inert: []string{"a"},
			problems: []string{`IPAddressPool a: InvalidSelector: serviceAllocation.namespaceSelectors[1]: "Like" is not a valid label selector operator`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, problems := Parse(Objects{Pools: c.pools})
			if got := covers(config); len(got)+len(c.covers) > 0 && !cmp.Equal(c.covers, got) {
				t.Errorf("covers: %s", cmp.Diff(c.covers, got))
			}
			var inert []string
			for _, p := range config.Pools {
				if p.Inert {
					inert = append(inert, p.Name)
				}
			}
			if !slices.Equal(inert, c.inert) {
				t.Errorf("inert %v, want %v", inert, c.inert)
			}
			if diff := cmp.Diff(c.problems, sentences(problems)); diff != "" {
				t.Errorf("problems: %s", diff)
			}
			for _, p := range problems {
				if p.Rejects() == (p.Reason == ReasonOverlaps || p.Reason == ReasonUnknownPool) {
					t.Errorf("%s rejects: %t", p.Reason, p.Rejects())
				}
			}
		})
	}
}

func TestL2Advertisements(t *testing.T) {
	for _, c := range []struct {
		name     string
		spec     v1beta1.L2AdvertisementSpec
		pools    []string // that it selects, of "web" and "db" with the labels tier=web and tier=db
		problems []string
	}{
		{name: "an empty one selects every pool", pools: []string{"db", "web"}},
		{name: "one by name", spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"web"}}, pools: []string{"web"}},
		{name: "one by label", spec: v1beta1.L2AdvertisementSpec{IPAddressPoolSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "db"}}}},
			pools: []string{"db"}},
		{name: "names and labels add up", spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"web"},
			IPAddressPoolSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "db"}}}}, pools: []string{"db", "web"}},
		{name: "a pool that does not exist is a hint", spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"wbe"}},
			problems: []string{`L2Advertisement adv: UnknownPool: ipAddressPools names "wbe", but there is no IPAddressPool of that name: create it or correct the name (there are: db, web)`}},
		{name: "a selector that cannot be understood selects nothing, not everything",
			spec:     v1beta1.L2AdvertisementSpec{IPAddressPoolSelectors: []metav1.LabelSelector{selector("tier", "In")}},
			problems: []string{`L2Advertisement adv: InvalidSelector: ipAddressPoolSelectors[0]: values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty`}},
		{name: "a glob that is none", spec: v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth[0", "eth*"}}, pools: []string{"db", "web"},
			problems: []string{`L2Advertisement adv: InvalidInterface: interfaces: "eth[0" is not a name or a glob: close every [ with a ]`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			web, db := pool("web", 1, "192.0.2.0/25"), pool("db", 2, "192.0.2.128/25")
			web.Labels, db.Labels = map[string]string{"tier": "web"}, map[string]string{"tier": "db"}
			config, problems := Parse(Objects{Pools: []v1beta1.IPAddressPool{web, db},
				L2Advertisements: []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "adv"}, Spec: c.spec}}})
			var selected []string
			for _, p := range config.Pools {
				if config.L2[0].SelectsPool(p) {
					selected = append(selected, p.Name)
				}
				if config.Advertised(p, nil) != config.L2[0].SelectsPool(p) {
					t.Errorf("pool %s: advertised %t", p.Name, config.Advertised(p, nil))
				}
			}
			if !slices.Equal(selected, c.pools) {
				t.Errorf("selects %v, want %v", selected, c.pools)
			}
			if diff := cmp.Diff(c.problems, sentences(problems)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhoMayHaveAddressesOfAPool(t *testing.T) {
	team := []metav1.LabelSelector{{MatchLabels: map[string]string{"team": "a"}}, {MatchLabels: map[string]string{"team": "b"}}}
	tier := []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "web"}}}
	service := cluster.Service{Key: cluster.Key{Namespace: "shop", Name: "s"}, Labels: map[string]string{"tier": "web"}, NamespaceLabels: map[string]string{"team": "b"}}
	for _, c := range []struct {
		name string
		sa   v1beta1.ServiceAllocation
		want bool
	}{
		{"anybody", v1beta1.ServiceAllocation{}, true},
		{"a namespace that is named", v1beta1.ServiceAllocation{Namespaces: []string{"x", "shop"}}, true},
		{"a namespace that is not", v1beta1.ServiceAllocation{Namespaces: []string{"x"}}, false},
		{"a namespace by one of the selectors", v1beta1.ServiceAllocation{NamespaceSelectors: team}, true},
		{"a namespace by selector, though not named", v1beta1.ServiceAllocation{Namespaces: []string{"x"}, NamespaceSelectors: team}, true},
		{"a Service by label", v1beta1.ServiceAllocation{ServiceSelectors: tier}, true},
		{"both halves must match: the namespace does not", v1beta1.ServiceAllocation{Namespaces: []string{"x"}, ServiceSelectors: tier}, false},
		{"both halves must match: the Service does not", v1beta1.ServiceAllocation{Namespaces: []string{"shop"}, ServiceSelectors: team}, false},
		{"both halves match", v1beta1.ServiceAllocation{Namespaces: []string{"shop"}, ServiceSelectors: tier}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{changed(pool("a", 1, "192.0.2.1"), func(p *v1beta1.IPAddressPool) { p.Spec.ServiceAllocation = &c.sa })}})
			if got := config.Pools[0].Allocation.Admits(&service); got != c.want {
				t.Errorf("admits: %t", got)
			}
		})
	}
}

// randomObjects overlap, clash and have mistakes in them.
func randomObjects(rng *rand.Rand) Objects {
	var o Objects
	for i := range rng.IntN(6) {
		p := pool(fmt.Sprintf("p%d", i), int64(rng.IntN(3)))
		for range 1 + rng.IntN(3) {
			from := rng.IntN(20)
			p.Spec.Addresses = append(p.Spec.Addresses, v1beta1.AddressRange(fmt.Sprintf("192.0.2.%d-192.0.2.%d", from, from+rng.IntN(12)-1)))
		}
		o.Pools = append(o.Pools, p)
	}
	for i := range rng.IntN(4) {
		a := v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("a%d", i)}}
		a.Spec.IPAddressPools = []string{fmt.Sprintf("p%d", rng.IntN(8))}
		o.L2Advertisements = append(o.L2Advertisements, a)
	}
	return o
}

func TestTheOrderOfTheObjectsChangesNothing(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 5))
		o := randomObjects(rng)
		config, problems := Parse(o)
		shuffled := Objects{Pools: slices.Clone(o.Pools), L2Advertisements: slices.Clone(o.L2Advertisements)}
		rng.Shuffle(len(o.Pools), func(i, j int) { shuffled.Pools[i], shuffled.Pools[j] = shuffled.Pools[j], shuffled.Pools[i] })
		rng.Shuffle(len(o.L2Advertisements), func(i, j int) {
			shuffled.L2Advertisements[i], shuffled.L2Advertisements[j] = shuffled.L2Advertisements[j], shuffled.L2Advertisements[i]
		})
		again, problemsAgain := Parse(shuffled)
		if !cmp.Equal(covers(config), covers(again)) || !cmp.Equal(problems, problemsAgain) {
			t.Fatalf("seed %d: %s%s", seed, cmp.Diff(covers(config), covers(again)), cmp.Diff(problems, problemsAgain))
		}
	}
}

func TestEveryAddressIsCoveredByOnePoolAtMost(t *testing.T) {
	for seed := range uint64(2000) {
		config, _ := Parse(randomObjects(rand.New(rand.NewPCG(seed, 5))))
		for last := range 40 {
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(last)})
			var in []string
			for _, p := range config.Pools {
				if p.Covers.Contains(a) {
					in = append(in, p.Name)
				}
			}
			p, covered := config.PoolOf(a)
			if len(in) > 1 || covered != (len(in) == 1) || covered && p.Name != in[0] {
				t.Fatalf("seed %d: %s is in %v, and PoolOf says %q, %t", seed, a, in, p.Name, covered)
			}
		}
	}
}

func TestAConfigComesBackFromJSONAsItWas(t *testing.T) {
	for seed := range uint64(300) {
		config, _ := Parse(randomObjects(rand.New(rand.NewPCG(seed, 5))))
		dump, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		var read Config
		if err := json.Unmarshal(dump, &read); err != nil {
			t.Fatal(err)
		}
		same := cmp.Comparer(func(a, b *netipx.IPSet) bool { return a.Equal(b) })
		if diff := cmp.Diff(config, read, same, cmp.AllowUnexported(Config{}, Span{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
			cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "source" }, cmp.Ignore())); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
	if err := new(Config).UnmarshalJSON([]byte(`{"pools": 3}`)); err == nil {
		t.Error("what is no Config was read as one")
	}
}

func TestPoolIsFoundByName(t *testing.T) {
	config, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{pool("b", 1, "192.0.2.1"), pool("c", 1, "192.0.2.2"), pool("a", 1, "192.0.2.3")}})
	for _, name := range []string{"a", "b", "c"} {
		if p, found := config.Pool(name); !found || p.Name != name {
			t.Errorf("%s: got %q, %t", name, p.Name, found)
		}
	}
	for _, name := range []string{"", "aa", "d"} {
		if p, found := config.Pool(name); found {
			t.Errorf("%s: got %q", name, p.Name)
		}
	}
}
