package allocator

import (
	"cmp"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/config"
)

// poolOrder is the order in which pools are tried for a Service that asks for nothing in particular: those that are
// restricted to some Services by (priority, name), then the open ones by name.
type poolOrder []int

func newPoolOrder(c config.Config) poolOrder {
	var order poolOrder
	for i, p := range c.Pools {
		if p.AutoAssign && !p.Inert {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := c.Pools[a], c.Pools[b]
		return cmp.Or(
			cmp.Compare(rank(x), rank(y)),
			cmp.Compare(x.Allocation.Priority, y.Allocation.Priority),
			cmp.Compare(x.Name, y.Name))
	})
	return order
}

func rank(p config.Pool) int {
	if p.Allocation.Restricted || p.Allocation.Priority != config.NoPriority {
		return 0
	}
	return 1
}

// candidates returns the pools that a Service may have an address from, in the order to try them, or why there is none.
func (p *pass) candidates(i int) ([]int, *refusal) {
	s := &p.services[i]
	if len(p.config.Pools) == 0 {
		return nil, &refusal{NoPool, Detail{}}
	}
	if s.WantPool != "" {
		at := p.config.PoolNamed(s.WantPool)
		switch {
		case at < 0:
			return nil, &refusal{PoolNotFound, Detail{Pool: s.WantPool}}
		case p.config.Pools[at].Inert || !p.config.Pools[at].Allocation.Admits(s):
			return nil, &refusal{PoolNotAllowed, Detail{Pool: s.WantPool}}
		}
		return []int{at}, nil
	}
	if !p.pools.restricted(p.config) {
		return p.pools, nil
	}
	var eligible []int
	for _, at := range p.pools {
		if p.config.Pools[at].Allocation.Admits(s) {
			eligible = append(eligible, at)
		}
	}
	return eligible, nil
}

func (o poolOrder) restricted(c config.Config) bool {
	return slices.ContainsFunc(o, func(i int) bool { return c.Pools[i].Allocation.Restricted })
}
