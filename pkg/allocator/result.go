package allocator

import (
	"math"
	"math/big"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// result reads the Assignments off the ledger.
func (p *pass) result() Assignments {
	out := Assignments{
		Services: make(map[cluster.Key]Outcome, len(p.services)),
		Pools:    make(map[string]PoolUsage, len(p.config.Pools)),
	}
	users := make([]map[int]struct{}, len(p.config.Pools))
	for i := range p.services {
		outcome := p.outcome(i)
		out.Services[p.services[i].Key] = outcome
		for _, name := range outcome.Pools {
			at := slices.IndexFunc(p.config.Pools, func(pool config.Pool) bool { return pool.Name == name })
			if at < 0 {
				continue
			}
			if users[at] == nil {
				users[at] = map[int]struct{}{}
			}
			users[at][i] = struct{}{}
		}
	}
	var assigned = make([][2]int64, len(p.config.Pools))
	for a := range p.holders {
		if at := p.config.PoolIndex(a); at >= 0 {
			assigned[at][familyIndex(cluster.FamilyOf(a))]++
		}
	}
	for at, pool := range p.config.Pools {
		out.Pools[pool.Name] = PoolUsage{
			V4:       usage(pool.Covers, cluster.IPv4, assigned[at][0]),
			V6:       usage(pool.Covers, cluster.IPv6, assigned[at][1]),
			Services: len(users[at]),
		}
	}
	return out
}

func (p *pass) outcome(i int) Outcome {
	s := &p.services[i]
	why := p.why[i][0]
	if why.reason == "" {
		why = p.why[i][1]
	}
	out := Outcome{Reason: why.reason, Detail: why.detail}
	for _, a := range p.held[i] {
		if !a.IsValid() {
			continue
		}
		name, ok := p.poolName(s, a)
		out.Addrs = append(out.Addrs, a)
		out.Pools = append(out.Pools, name)
		if !ok && out.Reason == "" {
			out.Reason, out.Detail = OutOfPool, Detail{Addr: a, Pool: name}
		}
	}
	if out.Reason == "" {
		out.Reason = Allocated
	}
	return out
}

// poolName names the pool of an address. ok is false where that pool would not give it to the Service any more.
func (p *pass) poolName(s *cluster.Service, a netip.Addr) (name string, ok bool) {
	recorded := ""
	if at := slices.Index(s.Held, a); at >= 0 && at < len(s.HeldFrom) {
		recorded = s.HeldFrom[at]
	}
	pool, covered := p.config.PoolOf(a)
	switch {
	case !covered:
		return recorded, false
	case !pool.Allocation.Admits(*s):
		return pool.Name, false
	}
	return pool.Name, true
}

// usage counts the addresses of one family that a pool covers.
func usage(covers *netipx.IPSet, f cluster.Family, assigned int64) Usage {
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
	return Usage{Total: clamped, Assigned: assigned, Available: clamped - assigned}
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }
