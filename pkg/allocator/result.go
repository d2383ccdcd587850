package allocator

import (
	"math"
	"math/big"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// result reads the Assignments off the ledger.
func (p *pass) result() Assignments {
	out := Assignments{
		Services: make([]Outcome, len(p.services)),
		Pools:    make(map[string]PoolUsage, len(p.config.Pools)),
	}
	users := make([]int, len(p.config.Pools))
	room := carver{addrs: make([]netip.Addr, 0, 2*len(p.services)), pools: make([]string, 0, 2*len(p.services))}
	for i := range p.services {
		p.outcome(i, &out.Services[i], &room)
		for n, name := range out.Services[i].Pools {
			if at := p.config.PoolNamed(name); at >= 0 && !slices.Contains(out.Services[i].Pools[:n], name) {
				users[at]++
			}
		}
	}
	counts := p.counts()
	for at, pool := range p.config.Pools {
		out.Pools[pool.Name] = PoolUsage{
			V4:       usage(pool.Covers, cluster.IPv4, counts[at][0]),
			V6:       usage(pool.Covers, cluster.IPv6, counts[at][1]),
			Services: users[at],
		}
	}
	return out
}

// carver cuts the small slices of all Outcomes out of two large ones.
type carver struct {
	addrs []netip.Addr
	pools []string
}

func (p *pass) outcome(i int, out *Outcome, room *carver) {
	s := &p.services[i]
	out.Service = s.Key
	why := p.why[i][0]
	if why == nil {
		why = p.why[i][1]
	}
	if why != nil {
		out.Reason, out.Detail = why.reason, why.detail
	}
	from := len(room.addrs)
	for f, a := range p.held[i] {
		if a.IsValid() {
			room.addrs = append(room.addrs, a)
		}
		for _, old := range p.old[i] {
			if cluster.FamilyOf(old).Index() == f {
				room.addrs = append(room.addrs, old)
			}
		}
	}
	if len(p.old) > 0 {
		out.Old = p.old[i]
	}
	if len(p.lost) > 0 {
		out.Lost = p.lost[i]
	}
	out.Addrs = room.addrs[from:len(room.addrs):len(room.addrs)]
	poolsFrom := len(room.pools)
	for _, a := range out.Addrs {
		name, ok := p.poolName(i, a)
		room.pools = append(room.pools, name)
		if !ok && out.Reason == "" && !slices.Contains(out.Old, a) {
			out.Reason, out.Detail = OutOfPool, Detail{Addr: a, Pool: name}
		}
	}
	out.Pools = room.pools[poolsFrom:len(room.pools):len(room.pools)]
	if len(out.Addrs) > 0 {
		out.SharedAs = Terms(s)
	}
	if out.Reason == "" {
		out.Reason = Allocated
	}
}

// poolName names the pool of an address: the one that covers it, or that it was given from. ok is false where that pool would
// not give it to the Service any more.
func (p *pass) poolName(i int, a netip.Addr) (name string, ok bool) {
	s := &p.services[i]
	pool := p.config.PoolIndex(a)
	switch {
	case pool < 0:
		return recordedPool(s, a), false
	case s.WantPool != "" && s.WantPool != p.config.Pools[pool].Name && recordedPool(s, a) == s.WantPool:
		return s.WantPool, false // it is where it asked to be, and the address is another pool's now
	}
	return p.config.Pools[pool].Name, p.admits(i, pool, a)
}

// recordedPool returns the pool that an address was given from, or "" where that is not known.
func recordedPool(s *cluster.Service, a netip.Addr) string {
	if at := slices.Index(s.Held, a); at >= 0 && at < len(s.HeldFrom) {
		return s.HeldFrom[at]
	}
	return ""
}

// count is how many addresses of a pool's family are held, and how many are kept back.
type count struct{ held, keptBack int64 }

func (p *pass) counts() [][2]count {
	counts := make([][2]count, len(p.config.Pools))
	for at, span := range p.config.Spans() {
		c := &counts[span.Pool][cluster.FamilyOf(span.From).Index()]
		for _, who := range p.spans[at].dense {
			c.add(who)
		}
		for _, who := range p.spans[at].sparse {
			c.add(who)
		}
	}
	return counts
}

func (c *count) add(who int32) {
	switch {
	case who > 0:
		c.held++
	case who == keptBack:
		c.keptBack++
	}
}

// usage counts the addresses of one family that a pool covers.
func usage(covers *netipx.IPSet, f cluster.Family, c count) Usage {
	total := new(big.Int)
	for _, r := range covers.Ranges() {
		if cluster.FamilyOf(r.From()) != f {
			continue
		}
		size := new(big.Int).Sub(number(r.To()), number(r.From()))
		total.Add(total, size.Add(size, big.NewInt(1)))
	}
	clamped := int64(math.MaxInt64)
	if total.IsInt64() {
		clamped = total.Int64()
	}
	return Usage{Total: clamped, Assigned: c.held, Available: clamped - c.held - c.keptBack}
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }
