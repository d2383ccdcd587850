package allocator

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// find returns the address that a Service should get in one family, or why there is none. other is its address of the other
// family, if it has one.
func (p *pass) find(i int, f cluster.Family, other netip.Addr) (netip.Addr, *refusal) {
	s := &p.services[i]
	if want, asked := wantedAddr(s, f); asked {
		return want, p.checkWanted(i, want)
	}
	if a, ok := p.keptFor(i, f); ok {
		return a, nil
	}
	pools, why := p.candidates(i)
	if why != nil {
		why.detail.Family = f
		return netip.Addr{}, why
	}
	pools = p.likeOtherFamily(other, pools)
	if s.SharingKey != "" {
		for _, pool := range pools {
			if a, ok := p.firstShared(i, pool, f); ok {
				return a, nil
			}
		}
	}
	var full, over []string
	for _, pool := range pools {
		switch {
		case len(p.cursors[pool][f.Index()].spans) == 0:
			continue
		case p.overQuota(i, pool, f):
			over = append(over, p.config.Pools[pool].Name)
			continue
		}
		if a, ok := p.firstFree(pool, f); ok {
			return a, nil
		}
		full = append(full, p.config.Pools[pool].Name)
	}
	switch {
	case len(over) > 0:
		return netip.Addr{}, &refusal{QuotaExceeded, Detail{Family: f, Pools: over, Namespace: s.Key.Namespace}}
	case len(full) > 0:
		return netip.Addr{}, &refusal{Exhausted, Detail{Family: f, Pools: full}}
	}
	return netip.Addr{}, &refusal{NoEligiblePool, Detail{Family: f, Pool: s.WantPool}}
}

// likeOtherFamily puts the pool of an address first: one pool for both families is better than two.
func (p *pass) likeOtherFamily(other netip.Addr, pools []int) []int {
	if !other.IsValid() || len(pools) < 2 {
		return pools
	}
	at := slices.Index(pools, p.config.PoolIndex(other))
	if at <= 0 {
		return pools
	}
	first := []int{pools[at]}
	return append(append(first, pools[:at]...), pools[at+1:]...)
}

// firstIn returns the address that a Service would get from one pool.
func (p *pass) firstIn(i, pool int, f cluster.Family) (netip.Addr, bool) {
	if a, ok := p.firstShared(i, pool, f); ok {
		return a, true
	}
	if p.overQuota(i, pool, f) {
		return netip.Addr{}, false
	}
	return p.firstFree(pool, f)
}

// checkWanted says why an address that was asked for cannot be had; nil means that it can.
func (p *pass) checkWanted(i int, a netip.Addr) *refusal {
	s := &p.services[i]
	at := p.config.PoolIndex(a)
	if at < 0 || (s.WantPool != "" && p.config.Pools[at].Name != s.WantPool) {
		return &refusal{AddressNotInPool, Detail{Addr: a, Pool: s.WantPool}}
	}
	pool := &p.config.Pools[at]
	if pool.Inert || !p.admits(i, at, a) {
		return &refusal{PoolNotAllowed, Detail{Addr: a, Pool: pool.Name}}
	}
	if u, taken := p.inUse[a]; taken && !slices.Contains(s.Held, a) {
		return &refusal{AddressInUse, Detail{Addr: a, Text: u.By}}
	}
	if p.keptForOthers(i, a) {
		return &refusal{AddressReserved, Detail{Addr: a, Pool: pool.Name, Other: p.owners[a][0]}}
	}
	if other, attr, blocked := p.blocker(i, a, false); blocked {
		return &refusal{ShareConflict, Detail{Addr: a, Other: p.services[other].Key, Attribute: attr}}
	}
	if !p.withinQuota(i, at, a) {
		return &refusal{QuotaExceeded, Detail{Family: cluster.FamilyOf(a), Pools: []string{pool.Name}, Namespace: s.Key.Namespace}}
	}
	return nil
}
