package allocator

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// ledger is who holds what, during one pass. Services are named by their position in the pass's order.
type ledger struct {
	config   config.Config
	services []cluster.Service
	holders  map[netip.Addr]holder
	more     map[netip.Addr][]int32 // further holders of a shared address, rare
	shared   map[string][]netip.Addr
	cursors  [][2]cursor // by pool; [0] IPv4, [1] IPv6
}

// holder is the first holder of an address.
type holder struct {
	service int32
	many    bool // ledger.more has others
}

func newLedger(c config.Config, services []cluster.Service) *ledger {
	l := &ledger{
		config:   c,
		services: services,
		holders:  make(map[netip.Addr]holder, len(services)),
		more:     map[netip.Addr][]int32{},
		shared:   map[string][]netip.Addr{},
		cursors:  make([][2]cursor, len(c.Pools)),
	}
	for i, p := range c.Pools {
		for _, r := range p.Covers.Ranges() {
			f := familyIndex(cluster.FamilyOf(r.From()))
			l.cursors[i][f].ranges = append(l.cursors[i][f].ranges, r)
		}
	}
	return l
}

func familyIndex(f cluster.Family) int {
	if f == cluster.IPv4 {
		return 0
	}
	return 1
}

// blocker returns why a Service may not hold an address: the first holder that it may not share it with.
func (l *ledger) blocker(service int, a netip.Addr) (other int, why Attribute, blocked bool) {
	h, held := l.holders[a]
	if !held {
		return 0, "", false
	}
	across := true // what no pool covers any more is only ever kept, so those who shared it go on sharing it
	if i := l.config.PoolIndex(a); i >= 0 {
		across = l.config.Pools[i].ShareAcross
	}
	me := &l.services[service]
	if attr, ok := mayShare(me, &l.services[h.service], across); !ok && int(h.service) != service {
		return int(h.service), attr, true
	}
	if h.many {
		for _, o := range l.more[a] {
			if attr, ok := mayShare(me, &l.services[o], across); !ok && int(o) != service {
				return int(o), attr, true
			}
		}
	}
	return 0, "", false
}

// take records a hold. The caller has checked that nothing blocks it.
func (l *ledger) take(service int, a netip.Addr) {
	if key := l.services[service].SharingKey; key != "" && !slices.Contains(l.shared[key], a) {
		at, _ := slices.BinarySearchFunc(l.shared[key], a, netip.Addr.Compare)
		l.shared[key] = slices.Insert(l.shared[key], at, a)
	}
	h, held := l.holders[a]
	if !held {
		l.holders[a] = holder{service: int32(service)}
		return
	}
	l.holders[a] = holder{service: h.service, many: true}
	l.more[a] = append(l.more[a], int32(service))
}

// release undoes a take.
func (l *ledger) release(service int, a netip.Addr) {
	h := l.holders[a]
	others := l.more[a]
	if int(h.service) == service {
		if len(others) == 0 {
			delete(l.holders, a)
			l.rewind(a)
			return
		}
		h.service, others = others[0], others[1:]
	} else {
		others = slices.DeleteFunc(slices.Clone(others), func(o int32) bool { return int(o) == service })
	}
	l.more[a] = others
	h.many = len(others) > 0
	l.holders[a] = h
}

// rewind lets the cursors find an address that was given back.
func (l *ledger) rewind(a netip.Addr) {
	if i := l.config.PoolIndex(a); i >= 0 {
		l.cursors[i][familyIndex(cluster.FamilyOf(a))].reset()
	}
}

// firstFree returns the lowest address of a pool that nobody holds.
func (l *ledger) firstFree(pool int, f cluster.Family) (netip.Addr, bool) {
	avoid := l.config.Pools[pool].AvoidBuggyIPs && f == cluster.IPv4
	return l.cursors[pool][familyIndex(f)].next(func(a netip.Addr) bool {
		if _, held := l.holders[a]; held {
			return false
		}
		return !avoid || !buggy(a)
	})
}

// firstShared returns the lowest address of a pool that others hold with the Service's key, and that it may share.
func (l *ledger) firstShared(service, pool int, f cluster.Family) (netip.Addr, bool) {
	key := l.services[service].SharingKey
	if key == "" {
		return netip.Addr{}, false
	}
	for _, a := range l.shared[key] {
		if cluster.FamilyOf(a) != f || l.config.PoolIndex(a) != pool {
			continue
		}
		if _, held := l.holders[a]; !held {
			continue
		}
		if _, _, blocked := l.blocker(service, a); !blocked {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// buggy reports whether some old equipment takes the address for a network or broadcast address.
func buggy(a netip.Addr) bool {
	last := a.As4()[3]
	return last == 0 || last == 255
}
