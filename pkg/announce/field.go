package announce

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
	"sort"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// field is a View prepared for one pass: what depends on a node or an advertisement alone is worked out once.
type field struct {
	view      View
	names     []string // node names, ascending; all else that is "by node" uses positions in it
	nodes     []cluster.Node
	hashes    []uint64
	self      int      // -1 when this node is not among the nodes
	standing  []Reason // Candidate, or what rules the node out whatever the address
	up        [][]cluster.Link
	assumed   []bool // the node's links are not known and assumed to fit
	poolIndex map[string]int
	poolAdvs  [][]int // by pool: the advertisements that select it
	subnets   []netip.Prefix
	classes   map[string]*class
	keyBuf    []byte
	routing   *routing // nil where there are no BGPPeers
}

func newField(v View) *field {
	f := &field{view: v, self: -1, poolIndex: map[string]int{}, classes: map[string]*class{}}
	f.nodes = slices.Clone(v.Nodes)
	slices.SortFunc(f.nodes, func(a, b cluster.Node) int { return cmp.Compare(a.Name, b.Name) })
	for i, n := range f.nodes {
		if n.Name == v.Self {
			f.self = i
		}
		member, alive := v.Alive.Alive[n.Name]
		f.names = append(f.names, n.Name)
		f.hashes = append(f.hashes, nameHash(n.Name))
		f.standing = append(f.standing, standing(member, alive, v.Alive.Known))
		f.assumed = append(f.assumed, !alive && !v.Alive.Known)
		f.up = append(f.up, upLinks(member.Links))
	}
	f.subnets = subnets(f.up)
	f.poolAdvs = make([][]int, len(v.Config.Pools))
	for i, pool := range v.Config.Pools {
		f.poolIndex[pool.Name] = i
		for at, adv := range v.Config.L2 {
			if adv.SelectsPool(pool) {
				f.poolAdvs[i] = append(f.poolAdvs[i], at)
			}
		}
		if pool.AdvertiseL2 {
			f.poolAdvs[i] = append(f.poolAdvs[i], len(v.Config.L2))
		}
	}
	f.routing = newRouting(f)
	return f
}

// standing says what rules a node out for every address.
func standing(m cluster.Member, alive, known bool) Reason {
	switch {
	case known && !alive:
		return SpeakerDown
	case m.Leaving:
		return SpeakerLeaving
	case known && !m.Ready:
		return SpeakerStarting
	}
	return Candidate
}

func upLinks(links []cluster.Link) []cluster.Link {
	up := make([]cluster.Link, 0, len(links))
	for _, l := range links {
		if l.Up {
			up = append(up, l)
		}
	}
	return up
}

// subnets lists the distinct subnets of all links. A cluster has few, so addresses fall into few classes.
func subnets(byNode [][]cluster.Link) []netip.Prefix {
	seen := map[netip.Prefix]struct{}{}
	var all []netip.Prefix
	for _, links := range byNode {
		for _, l := range links {
			for _, p := range l.Prefixes {
				p = p.Masked()
				if p.Addr().IsLinkLocalUnicast() {
					continue
				}
				if _, dup := seen[p]; !dup {
					seen[p] = struct{}{}
					all = append(all, p)
				}
			}
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].String() < all[j].String() })
	return all
}

// class is what all addresses have in common that the same advertisements announce and the same subnets hold.
type class struct {
	standing   []Reason // by node
	candidates []int    // nodes that may own, the best ranks first
	ends       []int    // where each rank ends in candidates
	misgivings []Reason // by node: what speaks against a candidate; "" for nothing
	links      []string // this node's links to answer on, sorted
}

// rank says how gladly a node is taken as an owner: the lesser in the order of its fields. The election is among the candidates of
// the least rank. A rank depends on the node alone, so losing another that is not the owner brings no new rivals in.
type rank struct {
	tier       int // of its links
	misgiving  int // position in misgivings
	preference int // the weights of what prefers it, taken from zero
}

func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(r.tier, o.tier), cmp.Compare(r.misgiving, o.misgiving), cmp.Compare(r.preference, o.preference))
}

// misgivings are what speaks against a node without ruling it out, the least first: where no better candidate is left, it owns all
// the same.
func misgivings() []Reason {
	return []Reason{"", NodeNotReady, NodeExcluded, NodeNetworkUnavailable, NodeDraining, NodeOutOfService, LinkSilent}
}

// misgiving is the worst that a Node object says of itself.
func misgiving(n cluster.Node) Reason {
	switch {
	case n.OutOfService:
		return NodeOutOfService
	case n.Draining:
		return NodeDraining
	case n.NetworkUnavailable:
		return NodeNetworkUnavailable
	case n.Excluded:
		return NodeExcluded
	case n.NotReady:
		return NodeNotReady
	}
	return ""
}

// classOf returns the class of an address, or nil where no advertisement announces it.
func (f *field) classOf(group []use) *class {
	advs := f.advertisements(group)
	if len(advs) == 0 {
		return nil
	}
	key := f.keyBuf[:0]
	for _, a := range advs {
		key = append(key, byte(a), byte(a>>8), byte(a>>16))
	}
	key = append(key, 0xff, 0xff, 0xff)
	addr := group[0].addr
	for i, p := range f.subnets {
		if p.Contains(addr) {
			key = append(key, byte(i), byte(i>>8), byte(i>>16))
		}
	}
	f.keyBuf = key
	if c, known := f.classes[string(key)]; known {
		return c
	}
	c := f.newClass(advs, addr)
	f.classes[string(key)] = c
	return c
}

// advertisements returns, ascending, the advertisements that announce an address for any of its Services.
func (f *field) advertisements(group []use) []int {
	var advs []int
	for _, use := range group {
		if use.pool < 0 {
			continue
		}
		serviceLabels := f.view.Services[use.service].Labels
		for _, a := range f.poolAdvs[use.pool] {
			if f.advertisement(a).SelectsService(serviceLabels) && !slices.Contains(advs, a) {
				advs = append(advs, a)
			}
		}
	}
	slices.Sort(advs)
	return advs
}

// advertisement returns the advertisement at a position; the one past the last is what IPAddressPool.spec.advertise stands
// for: all nodes, all fitting links.
func (f *field) advertisement(i int) config.L2Advertisement {
	if i == len(f.view.Config.L2) {
		return config.L2Advertisement{}
	}
	return f.view.Config.L2[i]
}

// The tiers of a node's links for an address. A node's links are those of its first tier that has any.
const (
	fits       = iota // an advertisement names the link, or its subnet holds the address
	fitsSilent        // the same, and it is not heard on its segment
	other             // no advertisement names a link: where the address is routed to the segment, any link will do
	otherSilent
	tiers
)

// newClass works out which nodes may own the addresses of a class, how gladly, and on which links.
func (f *field) newClass(advs []int, addr netip.Addr) *class {
	c := &class{standing: make([]Reason, len(f.nodes)), misgivings: make([]Reason, len(f.nodes))}
	ranks := make([]rank, len(f.nodes))
	for n := range f.nodes {
		links, selected := f.linksFor(n, advs, addr)
		tier := slices.IndexFunc(links[:], func(names []string) bool { return len(names) > 0 })
		if f.assumed[n] {
			tier = fits
		}
		switch {
		case f.standing[n] != Candidate:
			c.standing[n] = f.standing[n]
			continue
		case !selected:
			c.standing[n] = NodeNotSelected
			continue
		case tier < 0:
			c.standing[n] = NoLink
			continue
		}
		c.misgivings[n] = misgiving(f.nodes[n])
		if tier == fitsSilent || tier == otherSilent {
			c.misgivings[n] = LinkSilent
		}
		ranks[n] = rank{tier: tier / 2, misgiving: slices.Index(misgivings(), c.misgivings[n]), preference: -f.preference(n, advs)}
		c.candidates = append(c.candidates, n)
		if n == f.self {
			c.links = links[tier]
		}
	}
	slices.SortStableFunc(c.candidates, func(a, b int) int { return ranks[a].compare(ranks[b]) })
	for i, n := range c.candidates {
		if i+1 == len(c.candidates) || ranks[n] != ranks[c.candidates[i+1]] {
			c.ends = append(c.ends, i+1)
		}
		c.standing[n] = cmp.Or(c.misgivings[n], Candidate)
		if ranks[n].tier > ranks[c.candidates[0]].tier {
			c.standing[n] = NoLink
		}
	}
	return c
}

// preference is the sum of the weights by which advertisements prefer a node.
func (f *field) preference(n int, advs []int) int {
	sum := 0
	for _, a := range advs {
		if adv := f.advertisement(a); adv.SelectsNode(f.nodes[n].Labels) {
			sum += adv.Preference(f.nodes[n].Labels)
		}
	}
	return sum
}

// linksFor returns a node's links for an address, by tier and sorted, and whether any advertisement selects the node.
func (f *field) linksFor(n int, advs []int, addr netip.Addr) (links [tiers][]string, selected bool) {
	for _, a := range advs {
		adv := f.advertisement(a)
		if !adv.SelectsNode(f.nodes[n].Labels) {
			continue
		}
		selected = true
		for _, l := range f.up[n] {
			tier := fits
			switch {
			case named(adv, l), len(adv.Interfaces) == 0 && l.Contains(addr):
			case len(adv.Interfaces) == 0:
				tier = other
			default:
				continue
			}
			if l.Silent {
				tier++
			}
			links[tier] = append(links[tier], l.Name)
		}
	}
	for tier := range links {
		slices.Sort(links[tier])
		links[tier] = slices.Compact(links[tier])
	}
	return links, selected
}

func named(adv config.L2Advertisement, l cluster.Link) bool {
	for _, glob := range adv.Interfaces {
		if ok, err := path.Match(glob, l.Name); err == nil && ok {
			return true
		}
	}
	return false
}
