package config

import (
	"slices"
	"strings"

	"go4.org/netipx"
)

// taken is what elder pools cover already.
type taken struct {
	set   *netipx.IPSet
	pools []Pool
}

func newTaken() *taken { return &taken{set: &netipx.IPSet{}} }

// withoutOverlap returns what the pool covers less what elder pools do, and reports the overlap as a problem of this,
// the younger, pool.
func (p *parser) withoutOverlap(pool Pool, t *taken) *netipx.IPSet {
	var elders, clashes []string
	for _, elder := range t.pools {
		if !elder.Covers.Overlaps(pool.Covers) {
			continue
		}
		var b netipx.IPSetBuilder
		b.AddSet(pool.Covers)
		b.Intersect(elder.Covers)
		if both, err := b.IPSet(); err == nil {
			for _, r := range both.Ranges() {
				clashes = append(clashes, rangeText(r))
			}
		}
		elders = append(elders, elder.Name)
	}
	covers := pool.Covers
	if len(elders) > 0 {
		p.problem(KindIPAddressPool, pool.Name, ReasonOverlaps, "%s belongs to the elder pool %s already and is given only from there: take it out of one of the two",
			strings.Join(clashes, ", "), strings.Join(elders, ", "))
		covers = difference(covers, t.set)
	}
	var b netipx.IPSetBuilder
	b.AddSet(t.set)
	b.AddSet(covers)
	if set, err := b.IPSet(); err == nil {
		t.set = set
	}
	pool.Covers = covers
	t.pools = append(t.pools, pool)
	return covers
}

func difference(a, b *netipx.IPSet) *netipx.IPSet {
	var builder netipx.IPSetBuilder
	builder.AddSet(a)
	builder.RemoveSet(b)
	set, err := builder.IPSet()
	if err != nil { // both are valid sets, so their difference is
		return &netipx.IPSet{}
	}
	return set
}

func rangeText(r netipx.IPRange) string {
	if r.From() == r.To() {
		return r.From().String()
	}
	if prefix, ok := r.Prefix(); ok {
		return prefix.String()
	}
	return r.String()
}

// spans lists which pool covers which addresses, ascending.
func spans(pools []Pool) []Span {
	var all []Span
	for i, p := range pools {
		for _, r := range p.Covers.Ranges() {
			all = append(all, Span{From: r.From(), To: r.To(), Pool: i})
		}
	}
	slices.SortFunc(all, func(a, b Span) int { return a.From.Compare(b.From) })
	return all
}
