package allocator

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// ledger is who holds what, during one pass. Within a pass addresses are only taken, never given back.
type ledger struct {
	config   config.Config
	services []cluster.Service
	spans    []slots              // by position in config.Spans
	strays   slots                // what no pool covers
	more     map[netip.Addr][]int // further holders of a shared address, rare
	shared   map[string][]netip.Addr
	cursors  [][2]cursor // by pool and family index
	quota    map[quotaKey]int
	owners   map[netip.Addr][]cluster.Key // for whom an address is kept, by reservation or retention
	kept     map[cluster.Key][]keptAddr   // the same the other way round, reservations first, ascending
	inUse    map[netip.Addr]InUse
}

// quotaKey is what a quota counts for.
type quotaKey struct {
	pool, family int
	namespace    string
}

type keptAddr struct {
	addr     netip.Addr
	pool     int
	reserved bool // by the pool's object, and not only retained
}

func newLedger(c config.Config, services []cluster.Service, retained []Retention, inUse []InUse) *ledger {
	l := &ledger{
		config:   c,
		services: services,
		spans:    make([]slots, len(c.Spans())),
		strays:   slots{pool: -1, sparse: map[netip.Addr]int32{}},
		more:     map[netip.Addr][]int{},
		shared:   map[string][]netip.Addr{},
		cursors:  make([][2]cursor, len(c.Pools)),
		quota:    map[quotaKey]int{},
		owners:   map[netip.Addr][]cluster.Key{},
		kept:     map[cluster.Key][]keptAddr{},
		inUse:    make(map[netip.Addr]InUse, len(inUse)),
	}
	for i, span := range c.Spans() {
		l.spans[i] = newSlots(span)
		cur := &l.cursors[span.Pool][cluster.FamilyOf(span.From).Index()]
		cur.spans = append(cur.spans, i)
	}
	for at, pool := range c.Pools {
		for _, r := range pool.Reservations {
			l.keepFor(r.Service, keptAddr{r.Addr, at, true})
		}
	}
	for _, r := range retained {
		if at := c.PoolIndex(r.Addr); at >= 0 {
			l.keepFor(r.Service, keptAddr{r.Addr, at, false})
		}
	}
	for _, u := range inUse {
		l.inUse[u.Addr] = u
		l.slot(u.Addr).put(u.Addr, keptBack)
	}
	for _, all := range l.kept {
		slices.SortFunc(all, func(a, b keptAddr) int {
			if a.reserved != b.reserved {
				if a.reserved {
					return -1
				}
				return 1
			}
			return a.addr.Compare(b.addr)
		})
	}
	for _, owners := range l.owners {
		slices.SortFunc(owners, cluster.Key.Compare)
	}
	return l
}

// keepFor keeps an address for a Service by name.
func (l *ledger) keepFor(service cluster.Key, a keptAddr) {
	if slices.Contains(l.owners[a.addr], service) {
		return
	}
	l.kept[service] = append(l.kept[service], a)
	l.owners[a.addr] = append(l.owners[a.addr], service)
	l.slot(a.addr).put(a.addr, keptBack)
}

// slot returns where it stands who holds an address.
func (l *ledger) slot(a netip.Addr) *slots {
	if at := l.config.SpanIndex(a); at >= 0 {
		return &l.spans[at]
	}
	return &l.strays
}

// holders calls yield with every Service that holds an address, until it returns false.
func (l *ledger) holders(a netip.Addr, yield func(service int) bool) {
	first := l.slot(a).get(a)
	if first <= 0 || !yield(int(first-1)) {
		return
	}
	for _, other := range l.more[a] {
		if !yield(other) {
			return
		}
	}
}

// blocker returns why a Service may not hold an address: the first holder by name that it may not share it with. Who holds it
// already, and keeps it, is not asked whether the pool lets a key be used across namespaces: that is for new ones.
func (l *ledger) blocker(service int, a netip.Addr, keeping bool) (other int, why Attribute, blocked bool) {
	slot := l.slot(a)
	if slot.get(a) <= 0 {
		return 0, "", false
	}
	across := keeping || (slot.pool >= 0 && l.config.Pools[slot.pool].ShareAcross)
	me := &l.services[service]
	l.holders(a, func(o int) bool {
		attr, ok := mayShare(me, &l.services[o], across)
		if !ok && o != service && (!blocked || l.services[o].Key.Compare(l.services[other].Key) < 0) {
			other, why, blocked = o, attr, true
		}
		return true
	})
	return other, why, blocked
}

// take records a hold. The caller has checked that nothing blocks it.
func (l *ledger) take(service int, a netip.Addr) {
	if key := l.services[service].SharingKey; key != "" {
		if at, found := slices.BinarySearchFunc(l.shared[key], a, netip.Addr.Compare); !found {
			l.shared[key] = slices.Insert(l.shared[key], at, a)
		}
	}
	slot := l.slot(a)
	if slot.pool >= 0 && l.config.Pools[slot.pool].MaxPerNamespace > 0 && !l.inNamespace(service, a) {
		l.quota[quotaKey{slot.pool, cluster.FamilyOf(a).Index(), l.services[service].Key.Namespace}]++
	}
	if slot.get(a) > 0 {
		l.more[a] = append(l.more[a], service)
		return
	}
	slot.put(a, int32(service)+1)
}

// inNamespace reports whether a Service of this one's namespace holds an address, which then counts already.
func (l *ledger) inNamespace(service int, a netip.Addr) (found bool) {
	l.holders(a, func(o int) bool {
		found = l.services[o].Key.Namespace == l.services[service].Key.Namespace
		return !found
	})
	return found
}

// firstFree returns the lowest address of a pool that nobody holds, and that is not kept for anybody.
func (l *ledger) firstFree(pool int, f cluster.Family) (netip.Addr, bool) {
	avoid := l.config.Pools[pool].AvoidBuggyIPs && f == cluster.IPv4
	return l.cursors[pool][f.Index()].next(l.spans, avoid)
}

// firstShared returns the lowest address of a pool that others hold with the Service's key, and that it may share. One of them may have
// asked by name for one that the pool avoids.
func (p *pass) firstShared(service, pool int, f cluster.Family) (netip.Addr, bool) {
	s := &p.services[service]
	if s.SharingKey == "" {
		return netip.Addr{}, false
	}
	for _, a := range p.shared[s.SharingKey] {
		if cluster.FamilyOf(a) != f || p.config.PoolIndex(a) != pool || p.config.Pools[pool].AvoidBuggyIPs && a.Is4() && buggy(a) {
			continue
		}
		if _, taken := p.inUse[a]; taken || p.keptForOthers(service, a) {
			continue
		}
		if _, _, blocked := p.blocker(service, a, false); !blocked && p.withinQuota(service, pool, a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// keptFor returns the first address of a family that is kept for the Service and that it may have.
func (p *pass) keptFor(service int, f cluster.Family) (netip.Addr, bool) {
	s := &p.services[service]
	for _, k := range p.kept[s.Key] {
		pool := &p.config.Pools[k.pool]
		switch {
		case cluster.FamilyOf(k.addr) != f, pool.Inert, s.WantPool != "" && s.WantPool != pool.Name:
			continue
		case !k.reserved && (!pool.Allocation.Admits(s) || (s.WantPool == "" && !pool.AutoAssign)):
			continue
		}
		if _, taken := p.inUse[k.addr]; taken {
			continue
		}
		if _, _, blocked := p.blocker(service, k.addr, false); !blocked && p.withinQuota(service, k.pool, k.addr) {
			return k.addr, true
		}
	}
	return netip.Addr{}, false
}

// admits reports whether a pool gives an address of its own to the Service: by its serviceAllocation, or by a reservation.
func (p *pass) admits(service, pool int, a netip.Addr) bool {
	s := &p.services[service]
	return p.config.Pools[pool].Allocation.Admits(s) || len(p.kept) > 0 &&
		slices.ContainsFunc(p.kept[s.Key], func(k keptAddr) bool { return k.reserved && k.addr == a })
}

// keptForOthers reports whether an address is kept, and not for this Service.
func (p *pass) keptForOthers(service int, a netip.Addr) bool {
	owners := p.owners[a]
	return len(owners) > 0 && !slices.Contains(owners, p.services[service].Key)
}

// withinQuota reports whether a Service may have an address of a pool as far as its namespace's quota goes: one that the
// namespace has already does not count again.
func (p *pass) withinQuota(service, pool int, a netip.Addr) bool {
	return p.inNamespace(service, a) || !p.overQuota(service, pool, cluster.FamilyOf(a))
}

// overQuota reports whether a Service's namespace has all the addresses of a pool that it may have. Who moves within the pool
// takes its own place.
func (p *pass) overQuota(service, pool int, f cluster.Family) bool {
	limit := p.config.Pools[pool].MaxPerNamespace
	if limit == 0 {
		return false
	}
	fi := f.Index()
	used := p.quota[quotaKey{pool, fi, p.services[service].Key.Namespace}]
	if own := p.held[service][fi]; own.IsValid() && p.config.PoolIndex(own) == pool && !p.sharedInNamespace(service, own) {
		used--
	}
	return used >= limit
}

// sharedInNamespace reports whether another Service of this one's namespace holds an address too.
func (p *pass) sharedInNamespace(service int, a netip.Addr) (found bool) {
	p.holders(a, func(o int) bool {
		found = o != service && p.services[o].Key.Namespace == p.services[service].Key.Namespace
		return !found
	})
	return found
}

// buggy reports whether some old equipment takes the address for a network or broadcast address.
func buggy(a netip.Addr) bool {
	last := a.As4()[3]
	return last == 0 || last == 255
}
