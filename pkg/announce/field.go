package announce

import (
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
}

// implied is the advertisement that IPAddressPool.spec.advertise stands for: all nodes, all fitting links.
var implied = config.L2Advertisement{}

func newField(v View) *field {
	f := &field{view: v, self: -1, poolIndex: map[string]int{}, classes: map[string]*class{}}
	f.nodes = slices.Clone(v.Nodes)
	slices.SortFunc(f.nodes, func(a, b cluster.Node) int { return compareStrings(a.Name, b.Name) })
	for i, n := range f.nodes {
		if n.Name == v.Self {
			f.self = i
		}
		member, alive := v.Alive.Alive[n.Name]
		f.names = append(f.names, n.Name)
		f.hashes = append(f.hashes, nameHash(n.Name))
		f.standing = append(f.standing, standing(n, member, alive, v.Alive.Known))
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
	return f
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// standing says what rules a node out for every address.
func standing(n cluster.Node, m cluster.Member, alive, known bool) Reason {
	switch {
	case known && !alive:
		return SpeakerDown
	case m.Leaving:
		return SpeakerLeaving
	case known && !m.Ready:
		return SpeakerStarting
	case n.Excluded:
		return NodeExcluded
	case n.NetworkUnavailable:
		return NodeNetworkUnavailable
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
	candidates []int    // nodes whose standing is Candidate, ascending
	links      []string // this node's links to answer on, sorted
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

func (f *field) advertisement(i int) config.L2Advertisement {
	if i == len(f.view.Config.L2) {
		return implied
	}
	return f.view.Config.L2[i]
}

// newClass works out which nodes may own the addresses of a class, and on which links.
func (f *field) newClass(advs []int, addr netip.Addr) *class {
	c := &class{standing: make([]Reason, len(f.nodes))}
	links := make([]map[string]struct{}, len(f.nodes))
	fits := make([]bool, len(f.nodes))
	selected := make([]bool, len(f.nodes))
	for _, a := range advs {
		adv := f.advertisement(a)
		var may []int
		for n, node := range f.nodes {
			if f.standing[n] == Candidate && adv.SelectsNode(node.Labels) {
				may = append(may, n)
				selected[n] = true
			}
		}
		onSubnet := f.anyHolds(may, addr)
		for _, n := range may {
			fits[n] = fits[n] || f.assumed[n]
			for _, l := range f.up[n] {
				if !linkFits(adv, l, addr, onSubnet) {
					continue
				}
				if links[n] == nil {
					links[n] = map[string]struct{}{}
				}
				links[n][l.Name] = struct{}{}
				fits[n] = true
			}
		}
	}
	for n := range f.nodes {
		switch {
		case f.standing[n] != Candidate:
			c.standing[n] = f.standing[n]
		case !selected[n]:
			c.standing[n] = NodeNotSelected
		case !fits[n]:
			c.standing[n] = NoLink
		default:
			c.standing[n] = Candidate
			c.candidates = append(c.candidates, n)
		}
	}
	if f.self >= 0 {
		for name := range links[f.self] {
			c.links = append(c.links, name)
		}
		slices.Sort(c.links)
	}
	return c
}

// anyHolds reports whether one of the nodes is in a subnet that holds the address. Where one is, only such nodes can be
// reached by the address on their link; where none is, the address is routed to the segment and any will do.
func (f *field) anyHolds(nodes []int, addr netip.Addr) bool {
	for _, n := range nodes {
		for _, l := range f.up[n] {
			if l.Contains(addr) {
				return true
			}
		}
	}
	return false
}

// linkFits reports whether an advertisement announces an address on a link: on the interfaces that it names, or, where it
// names none, on those whose subnet holds the address, or on all where no node's does.
func linkFits(adv config.L2Advertisement, l cluster.Link, addr netip.Addr, onSubnet bool) bool {
	if len(adv.Interfaces) > 0 {
		for _, glob := range adv.Interfaces {
			if ok, err := path.Match(glob, l.Name); err == nil && ok {
				return true
			}
		}
		return false
	}
	return !onSubnet || l.Contains(addr)
}
