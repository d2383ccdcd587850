package allocator

import (
	"testing"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

func TestEveryReasonIsASentenceThatSaysWhatToChange(t *testing.T) {
	p := pool("p", "192.0.2.1-192.0.2.2")
	for _, c := range []struct {
		says     string
		pools    objects
		service  option
		others   these
		reason   Reason
		sentence string
	}{
		{"allocated", objects{p}, port(80), nil, Allocated, "192.0.2.1 from pool p"},
		{"allocated from two", objects{p, pool("q", "2001:db8::1")}, dual, nil, Allocated, "192.0.2.1 and 2001:db8::1 from pools p, q"},
		{"allocated both from one", objects{pool("p", "192.0.2.1 2001:db8::1")}, dual, nil, Allocated, "192.0.2.1 and 2001:db8::1 from pool p"},
		{"out of pool", objects{p}, held("q", "198.51.100.1"), nil, OutOfPool,
			"keeps 198.51.100.1: pool q would not give 198.51.100.1 to this Service any more; widen the pool, or recreate the Service to have another address"},
		{"out of a pool that nobody remembers", objects{p}, held("", "198.51.100.1"), nil, OutOfPool,
			"keeps 198.51.100.1: no pool has 198.51.100.1 any more; add it to a pool, or recreate the Service to have another address"},
		{"no pool", nil, port(80), nil, NoPool, "there is no IPAddressPool; create one"},
		{"no eligible pool", objects{pool("p", "192.0.2.1", manual)}, port(80), nil, NoEligiblePool,
			"no pool gives IPv4 addresses to this Service; look at autoAssign and serviceAllocation of the pools"},
		{"no address of that family in the pool", objects{p}, func(s *cluster.Service) { v6(s); wantPool("p")(s) }, nil, NoEligiblePool,
			"pool p has no IPv6 addresses; ask for another pool, or add some to it"},
		{"exhausted", objects{pool("p", "192.0.2.1"), pool("q", "192.0.2.2")}, created(9), these{service("a"), service("b")}, Exhausted,
			"no IPv4 address is free in pools p, q; add addresses, or delete Services that use them"},
		{"no such pool", objects{p}, wantPool("x"), nil, PoolNotFound, "there is no IPAddressPool x; create it, or correct the annotation"},
		{"a pool for others", objects{pool("p", "192.0.2.1", onlyFor("other"))}, wantPool("p"), nil, PoolNotAllowed,
			"pool p gives nothing to this Service; look at its serviceAllocation and its conditions"},
		{"an address of a pool for others", objects{pool("p", "192.0.2.1", onlyFor("other"))}, want("192.0.2.1"), nil, PoolNotAllowed,
			"192.0.2.1 is in pool p, which gives nothing to this Service; look at its serviceAllocation and its conditions"},
		{"an address that no pool has", objects{p}, want("198.51.100.1"), nil, AddressNotInPool,
			"no pool has 198.51.100.1; ask for another address, or add it to a pool"},
		{"an address that the pool asked for has not", objects{p}, func(s *cluster.Service) { want("198.51.100.1")(s); wantPool("p")(s) }, nil, AddressNotInPool,
			"pool p does not have 198.51.100.1; ask for an address that it has, or for another pool"},
		{"an address of the other family", objects{p}, want("2001:db8::1"), nil, FamilyMismatch,
			"2001:db8::1 is IPv6, but this Service has no IPv6; add the family to spec.ipFamilies, or ask for another address"},
		{"an address that cannot be shared", objects{p}, want("192.0.2.1"), these{service("x/a", held("p", "192.0.2.1"))}, ShareConflict,
			"192.0.2.1 is held by Service x/a, and the two cannot share it: they differ in, or clash on, their sharing key"},
		{"a port that clashes", objects{p}, func(s *cluster.Service) { want("192.0.2.1")(s); key("k")(s) }, these{service("a", key("k"), held("p", "192.0.2.1"))}, ShareConflict,
			"192.0.2.1 is held by Service ns/a, and the two cannot share it: they differ in, or clash on, their port"},
		{"an address that is kept for another", objects{pool("p", "192.0.2.1", reserves("192.0.2.1", "x/a"))}, want("192.0.2.1"), nil, AddressReserved,
			"192.0.2.1 is kept for Service x/a by the reservations or the retention of pool p; ask for another address, or take it out there"},
		{"an address that is kept for two others", objects{pool("p", "192.0.2.1", reserves("192.0.2.1", "x/b", "x/a"))}, want("192.0.2.1"), nil, AddressReserved,
			"192.0.2.1 is kept for Service x/a by the reservations or the retention of pool p; ask for another address, or take it out there"},
		{"a quota", objects{pool("p", "192.0.2.1-192.0.2.2", allows(1))}, created(9), these{service("a")}, QuotaExceeded,
			"namespace ns has all the IPv4 addresses that maxPerNamespace allows it from pool p; delete Services that use them, or raise it"},
		{"moving", objects{p}, func(s *cluster.Service) { want("192.0.2.2")(s); held("p", "192.0.2.1")(s) }, nil, Allocated, "192.0.2.2 from pool p"},
		{"what cannot be understood", objects{p}, broken, nil, InvalidRequest, `load-balancer-ips: "x" is not an IP address`},
		{"what cannot be understood, with an address", objects{p}, func(s *cluster.Service) { broken(s); held("p", "192.0.2.1")(s) }, nil, InvalidRequest,
			`keeps 192.0.2.1: load-balancer-ips: "x" is not an IP address`},
	} {
		t.Run(c.says, func(t *testing.T) {
			conf, _ := config.Parse(config.Objects{Pools: c.pools})
			s := service("me", c.service)
			got := byKey(Assign(conf, append(c.others, s), nil, nil))[s.Key]
			if got.Reason != c.reason || got.Message() != c.sentence {
				t.Errorf("got %s: %s\nwant %s: %s", got.Reason, got.Message(), c.reason, c.sentence)
			}
		})
	}
}
