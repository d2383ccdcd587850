package allocator

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// Retention is an address that is kept for the name of a Service which has gone.
type Retention struct {
	Addr    netip.Addr
	Service cluster.Key
}

// InUse is an address that something else than a Service has: it is given to nobody.
type InUse struct {
	Addr netip.Addr
	By   string // what has it, such as `node "a"`
	// Unusable is true where the address cannot be announced because of it: who holds it and did not ask for it by name moves to
	// another one when there is one.
	Unusable bool
}

// Assign decides what every Service holds. What it holds already comes first, then moves that a Service or its pool asks
// for, then those that wait, in the order of their creation.
func Assign(c config.Config, services []cluster.Service, retained []Retention, inUse []InUse) Assignments {
	p := &pass{
		ledger:    newLedger(c, services, retained, inUse),
		pools:     newPoolOrder(c),
		renumbers: slices.ContainsFunc(c.Pools, func(pool config.Pool) bool { return pool.Renumber }),
		held:      make([]holding, len(services)),
		old:       map[int][]netip.Addr{},
		lost:      map[int][]Loss{},
		why:       make([][2]*refusal, len(services)),
		open:      make([]needs, len(services)),
	}
	order := byAge(services)
	var changed []int
	for _, i := range order {
		if Terms(&services[i]) != services[i].SharedAs {
			changed = append(changed, i)
			continue
		}
		p.keep(i)
	}
	for _, i := range changed {
		p.keep(i)
	}
	p.each(order, moves, p.move)
	p.each(order, lacks, p.give)
	p.each(order, moves|lacks, p.explain)
	return p.result()
}

// pass is the working state of one Assign. Services are named by their position in its input.
type pass struct {
	*ledger
	pools     poolOrder
	renumbers bool // some pool moves Services off what it no longer covers
	held      []holding
	old       map[int][]netip.Addr // held besides, for a while, by Services that move
	lost      map[int][]Loss
	why       [][2]*refusal // by family index; nil is no refusal
	open      []needs       // what each Service needs besides what it holds
}

// needs are what a Service needs when what it holds is taken.
type needs uint8

const (
	moves needs = 1 << iota // it holds something other than it should
	lacks                   // it lacks an address, or its request cannot be served
)

func (p *pass) each(order []int, what needs, do func(i int)) {
	for _, i := range order {
		if p.open[i]&what != 0 {
			do(i)
		}
	}
}

// holding is what a Service holds, by family index; an invalid Addr is nothing.
type holding [2]netip.Addr

// refusal is why a Service did not get something.
type refusal struct {
	reason Reason
	detail Detail
}

// keep takes what the Service holds already, as far as it may still hold it. Of several addresses of one family the first
// that it asks for is the one to stay.
func (p *pass) keep(i int) {
	s := &p.services[i]
	for _, a := range s.Held {
		f := cluster.FamilyOf(a)
		if !slices.Contains(s.Families, f) {
			continue
		}
		if other, attr, blocked := p.blocker(i, a, true); blocked {
			p.lost[i] = append(p.lost[i], Loss{Addr: a, Other: p.services[other].Key, Attribute: attr})
			continue
		}
		switch first := &p.held[i][f.Index()]; {
		case !first.IsValid():
			*first = a
		case *first == a:
		case p.satisfied(i, a) && !p.satisfied(i, *first):
			p.old[i] = append(p.old[i], *first)
			*first = a
		default:
			p.old[i] = append(p.old[i], a)
		}
	}
	if s.OldMayGo {
		delete(p.old, i)
	}
	for _, a := range p.held[i] {
		if a.IsValid() {
			p.take(i, a)
		}
	}
	for _, a := range p.old[i] {
		p.take(i, a)
	}
	p.open[i] = p.needsOf(i)
}

// needsOf works out what a Service needs besides what it holds.
func (p *pass) needsOf(i int) needs {
	if p.unservable(i) != nil {
		return lacks
	}
	var n needs
	for _, f := range p.services[i].Families {
		switch a := p.held[i][f.Index()]; {
		case !a.IsValid():
			n |= lacks
		case !p.satisfied(i, a):
			n |= moves
		}
	}
	return n
}

// move gives a Service that holds something other than it should the address that it should have. It holds the old one
// too, until the caller says that it may go.
func (p *pass) move(i int) {
	for _, f := range p.services[i].Families {
		old := p.held[i][f.Index()]
		if !old.IsValid() || p.satisfied(i, old) {
			continue
		}
		a, why := p.find(i, f, p.otherHeld(i, f))
		p.why[i][f.Index()] = why
		if why == nil {
			p.award(i, a)
			p.old[i] = slices.Insert(p.old[i], 0, old)
		}
	}
}

// OldMayGo reports whether the old ones of the addresses that a Service holds may go, as far as it is about who is announced: of no
// family is only an old one. Of the addresses of a family the first is the new one.
func OldMayGo(held []netip.Addr, announced func(i int) bool) bool {
	var firsts [2]int // counted from 1, by family index; 0 is none yet
	for i, a := range held {
		f := cluster.FamilyOf(a).Index()
		if firsts[f] == 0 {
			firsts[f] = i + 1
		} else if !announced(firsts[f]-1) && announced(i) {
			return false
		}
	}
	return true
}

// award records that a Service gets an address.
func (p *pass) award(i int, a netip.Addr) {
	f := cluster.FamilyOf(a).Index()
	p.take(i, a)
	p.held[i][f] = a
	p.why[i][f] = nil
}

// satisfied reports whether a Service that holds an address has no cause to move away from it.
func (p *pass) satisfied(i int, a netip.Addr) bool {
	s := &p.services[i]
	if p.unservable(i) != nil {
		return true
	}
	if want, asked := wantedAddr(s, cluster.FamilyOf(a)); asked {
		return want == a
	}
	if p.inUse[a].Unusable {
		return false
	}
	if s.WantPool != "" && !p.givenFrom(s, a, s.WantPool) {
		return false
	}
	return !p.renumbers || !p.renumbered(s, a)
}

// givenFrom reports whether an address is of a pool, or was given from it before the pool was changed.
func (p *pass) givenFrom(s *cluster.Service, a netip.Addr, pool string) bool {
	at := p.config.PoolIndex(a)
	return at >= 0 && p.config.Pools[at].Name == pool || recordedPool(s, a) == pool
}

// renumbered reports whether the pool that gave an address covers it no longer and moves Services off such addresses. A
// pool that gives nothing, for whatever reason, moves nobody.
func (p *pass) renumbered(s *cluster.Service, a netip.Addr) bool {
	if p.config.PoolIndex(a) >= 0 {
		return false
	}
	pool, exists := p.config.Pool(recordedPool(s, a))
	return exists && pool.Renumber && !pool.Inert
}

func wantedAddr(s *cluster.Service, f cluster.Family) (netip.Addr, bool) {
	for _, a := range s.WantAddrs {
		if cluster.FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// unservable says what is wrong with the request of a Service that can be served whatever is free; nil is nothing.
func (p *pass) unservable(i int) *refusal {
	s := &p.services[i]
	if s.RequestError != "" {
		return &refusal{InvalidRequest, Detail{Text: s.RequestError}}
	}
	for _, a := range s.WantAddrs {
		if !slices.Contains(s.Families, cluster.FamilyOf(a)) {
			return &refusal{FamilyMismatch, Detail{Addr: a, Family: cluster.FamilyOf(a)}}
		}
	}
	return nil
}

// give finds addresses for the families that the Service still lacks. A Service that holds nothing and needs all its
// families gets all or none; what is held is never given up for lack of the rest.
func (p *pass) give(i int) {
	s := &p.services[i]
	if why := p.unservable(i); why != nil {
		p.why[i] = [2]*refusal{why, why}
		return
	}
	var missing []cluster.Family
	for _, f := range s.Families {
		if !p.held[i][f.Index()].IsValid() {
			missing = append(missing, f)
		}
	}
	if len(missing) == 0 || (len(missing) == 2 && p.giveBothFromOne(i)) {
		return
	}
	if len(missing) == 2 && p.named(i, missing[1]) && !p.named(i, missing[0]) {
		slices.Reverse(missing)
	}
	needsAll := s.AllFamilies && len(missing) == len(s.Families)
	var found []netip.Addr
	for _, f := range missing {
		other := p.otherHeld(i, f)
		if len(found) > 0 {
			other = found[0]
		}
		a, why := p.find(i, f, other)
		p.why[i][f.Index()] = why
		switch {
		case why == nil:
			found = append(found, a)
		case needsAll:
			return
		}
	}
	for _, a := range found {
		p.award(i, a)
	}
}

// named reports whether one address of a family is meant for the Service: asked for, reserved or retained.
func (p *pass) named(i int, f cluster.Family) bool {
	_, asked := wantedAddr(&p.services[i], f)
	_, kept := p.keptFor(i, f)
	return asked || kept
}

// otherHeld returns what a Service holds in the family that is not f.
func (p *pass) otherHeld(i int, f cluster.Family) netip.Addr { return p.held[i][1-f.Index()] }

// explain says why a Service lacks what it lacks as things stand at the end of the pass, so that the next pass, which starts
// from there, says the same.
func (p *pass) explain(i int) {
	if p.unservable(i) != nil {
		return
	}
	for _, f := range p.services[i].Families {
		if a := p.held[i][f.Index()]; !a.IsValid() || !p.satisfied(i, a) {
			_, p.why[i][f.Index()] = p.find(i, f, p.otherHeld(i, f))
		}
	}
}

// giveBothFromOne gives a dual-stack Service both its addresses from the first pool that can, unless some are asked for by
// name or kept for it.
func (p *pass) giveBothFromOne(i int) bool {
	if len(p.services[i].WantAddrs) > 0 || len(p.kept[p.services[i].Key]) > 0 {
		return false
	}
	pools, why := p.candidates(i)
	if why != nil {
		return false
	}
	for _, pool := range pools {
		v4, ok := p.firstIn(i, pool, cluster.IPv4)
		if !ok {
			continue
		}
		if v6, ok := p.firstIn(i, pool, cluster.IPv6); ok {
			p.award(i, v4)
			p.award(i, v6)
			return true
		}
	}
	return false
}
