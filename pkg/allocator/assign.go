package allocator

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// Assign decides what every Service holds. What it holds already comes first, then moves that a Service asks for itself,
// then those that wait, in the order of their creation.
func Assign(c config.Config, services []cluster.Service) Assignments {
	ordered := slices.Clone(services)
	slices.SortFunc(ordered, func(a, b cluster.Service) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), a.Key.Compare(b.Key))
	})
	p := &pass{
		ledger: newLedger(c, ordered),
		pools:  newPoolOrder(c),
		held:   make([]holding, len(ordered)),
		why:    make([][2]refusal, len(ordered)),
	}
	for i := range ordered {
		p.keep(i)
	}
	for p.moveAll() {
	}
	for i := range ordered {
		p.give(i)
	}
	return p.result()
}

// pass is the working state of one Assign.
type pass struct {
	*ledger
	pools poolOrder
	held  []holding
	why   [][2]refusal // by family index
}

// holding is what a Service holds, by family index; an invalid Addr is nothing.
type holding [2]netip.Addr

// refusal is why a Service did not get something; the zero value is no refusal.
type refusal struct {
	reason Reason
	detail Detail
}

// keep takes what the Service holds already, as far as it may still hold it.
func (p *pass) keep(i int) {
	s := &p.services[i]
	for _, a := range s.Held {
		f := familyIndex(cluster.FamilyOf(a))
		if p.held[i][f].IsValid() || !slices.Contains(s.Families, cluster.FamilyOf(a)) {
			continue
		}
		if other, attr, blocked := p.blocker(i, a); blocked {
			p.why[i][f] = p.shareConflict(a, other, attr)
			continue
		}
		p.take(i, a)
		p.held[i][f] = a
	}
}

// moveAll lets the Services that hold something other than what they ask for move to it. It reports whether any did: a
// move frees an address that another mover may be waiting for.
func (p *pass) moveAll() bool {
	moved := false
	for i := range p.services {
		s := &p.services[i]
		if s.RequestError != "" || (len(s.WantAddrs) == 0 && s.WantPool == "") {
			continue
		}
		for _, f := range s.Families {
			if p.held[i][familyIndex(f)].IsValid() && p.move(i, f) {
				moved = true
			}
		}
	}
	return moved
}

// move changes the address of one family to the one asked for, if that can be had.
func (p *pass) move(i int, f cluster.Family) bool {
	old := p.held[i][familyIndex(f)]
	if p.satisfied(i, f, old) {
		return false
	}
	a, why := p.find(i, f)
	p.why[i][familyIndex(f)] = why
	if why.reason != "" {
		return false
	}
	p.release(i, old)
	p.award(i, a)
	return true
}

// award records that a Service gets an address.
func (p *pass) award(i int, a netip.Addr) {
	f := familyIndex(cluster.FamilyOf(a))
	p.take(i, a)
	p.held[i][f] = a
	p.why[i][f] = refusal{}
}

// satisfied reports whether an address is what the Service asks for, in that family.
func (p *pass) satisfied(i int, f cluster.Family, a netip.Addr) bool {
	s := &p.services[i]
	if want, asked := wantedAddr(s, f); asked {
		return want == a
	}
	if s.WantPool == "" {
		return true
	}
	pool, covered := p.config.PoolOf(a)
	return covered && pool.Name == s.WantPool
}

func wantedAddr(s *cluster.Service, f cluster.Family) (netip.Addr, bool) {
	for _, a := range s.WantAddrs {
		if cluster.FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// give finds addresses for the families that the Service still lacks. A Service that holds nothing and needs all its
// families gets all or none; what is held is never given up for lack of the rest.
func (p *pass) give(i int) {
	s := &p.services[i]
	if s.RequestError != "" {
		why := refusal{InvalidRequest, Detail{Text: s.RequestError}}
		p.why[i] = [2]refusal{why, why}
		return
	}
	for _, a := range s.WantAddrs {
		if !slices.Contains(s.Families, cluster.FamilyOf(a)) {
			why := refusal{FamilyMismatch, Detail{Addr: a, Family: cluster.FamilyOf(a)}}
			p.why[i] = [2]refusal{why, why}
			return
		}
	}
	missing := p.missing(i)
	if len(missing) == 2 && len(s.WantAddrs) == 0 && p.giveBothFromOne(i) {
		return
	}
	found := make([]netip.Addr, 0, 2)
	for _, f := range missing {
		a, why := p.find(i, f)
		p.why[i][familyIndex(f)] = why
		if why.reason == "" {
			found = append(found, a)
		}
	}
	if s.AllFamilies && len(missing) == len(s.Families) && len(found) < len(missing) {
		return
	}
	for _, a := range found {
		p.award(i, a)
	}
}

func (p *pass) missing(i int) []cluster.Family {
	var missing []cluster.Family
	for _, f := range p.services[i].Families {
		if !p.held[i][familyIndex(f)].IsValid() {
			missing = append(missing, f)
		}
	}
	return missing
}

// giveBothFromOne gives a dual-stack Service both its addresses from the first pool that can.
func (p *pass) giveBothFromOne(i int) bool {
	pools, why := p.candidates(i)
	if why.reason != "" {
		return false
	}
	for _, pool := range pools {
		v4, ok4 := p.firstIn(i, pool, cluster.IPv4)
		v6, ok6 := p.firstIn(i, pool, cluster.IPv6)
		if !ok4 || !ok6 {
			continue
		}
		p.award(i, v4)
		p.award(i, v6)
		return true
	}
	return false
}

// find returns the address that a Service should get in one family, or why there is none.
func (p *pass) find(i int, f cluster.Family) (netip.Addr, refusal) {
	s := &p.services[i]
	if want, asked := wantedAddr(s, f); asked {
		return want, p.checkWanted(i, want)
	}
	pools, why := p.candidates(i)
	if why.reason != "" {
		why.detail.Family = f
		return netip.Addr{}, why
	}
	if a, ok := p.sharedIn(i, pools, f); ok {
		return a, refusal{}
	}
	tried := make([]string, 0, len(pools))
	for _, pool := range pools {
		if a, ok := p.firstFree(pool, f); ok {
			return a, refusal{}
		}
		if len(p.cursors[pool][familyIndex(f)].ranges) > 0 {
			tried = append(tried, p.config.Pools[pool].Name)
		}
	}
	if len(tried) == 0 {
		return netip.Addr{}, refusal{NoEligiblePool, Detail{Family: f, Pool: s.WantPool}}
	}
	return netip.Addr{}, refusal{Exhausted, Detail{Family: f, Pools: tried}}
}

func (p *pass) firstIn(i, pool int, f cluster.Family) (netip.Addr, bool) {
	if a, ok := p.firstShared(i, pool, f); ok {
		return a, true
	}
	return p.firstFree(pool, f)
}

func (p *pass) sharedIn(i int, pools []int, f cluster.Family) (netip.Addr, bool) {
	for _, pool := range pools {
		if a, ok := p.firstShared(i, pool, f); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// checkWanted says why an address that was asked for cannot be had; no reason means that it can.
func (p *pass) checkWanted(i int, a netip.Addr) refusal {
	s := &p.services[i]
	pool, covered := p.config.PoolOf(a)
	switch {
	case !covered || (s.WantPool != "" && pool.Name != s.WantPool):
		return refusal{AddressNotInPool, Detail{Addr: a, Pool: s.WantPool}}
	case pool.Inert || !pool.Allocation.Admits(*s):
		return refusal{PoolNotAllowed, Detail{Addr: a, Pool: pool.Name}}
	}
	if other, attr, blocked := p.blocker(i, a); blocked {
		return p.shareConflict(a, other, attr)
	}
	return refusal{}
}

func (p *pass) shareConflict(a netip.Addr, other int, attr Attribute) refusal {
	return refusal{ShareConflict, Detail{Addr: a, Other: p.services[other].Key, Attribute: attr}}
}
