package announce

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Decide says what this node announces, and why. Equal Views (Self aside) yield the same owner for every address on every
// node, and an address's owner depends only on the nodes that may own it: a new address, a new Service, or the loss of a
// node that does not own it moves nothing.
func Decide(v View) Plan {
	f := newField(v)
	plan := Plan{
		L2:  L2Plan{Links: v.Alive.Alive[v.Self].Links, Addrs: map[netip.Addr]L2{}},
		Why: make(map[cluster.Key][]Verdict, len(v.Services)),
	}
	firsts := make([]Verdict, 0, len(v.Services)) // in one piece, as most Services have one address
	for _, group := range f.groups() {
		verdict := f.decide(group, &plan)
		verdict.BGP = f.route(group)
		for _, use := range group {
			key := v.Services[use.service].Key
			if said, more := plan.Why[key]; more {
				plan.Why[key] = append(said, verdict)
				continue
			}
			firsts = append(firsts, verdict)
			plan.Why[key] = firsts[len(firsts)-1 : len(firsts) : len(firsts)]
		}
	}
	plan.BGP = f.bgpPlan()
	return plan
}

// use is one Service's hold on one address.
type use struct {
	addr    netip.Addr
	service int
	pool    int // position in Config.Pools, or -1
}

// groups returns the uses of each address together, by address: it is the address that is elected, not the Service, so
// that Services that share one never split.
func (f *field) groups() [][]use {
	var uses []use
	for i := range f.view.Services {
		s := &f.view.Services[i]
		for at, addr := range s.Held {
			uses = append(uses, use{addr: addr, service: i, pool: f.poolOf(s, at)})
		}
	}
	slices.SortFunc(uses, func(a, b use) int { return a.addr.Compare(b.addr) })
	var groups [][]use
	for from := 0; from < len(uses); {
		to := from + 1
		for to < len(uses) && uses[to].addr == uses[from].addr {
			to++
		}
		groups = append(groups, uses[from:to:to])
		from = to
	}
	return groups
}

// poolOf returns the pool whose advertisements announce an address: the one that it was given from, so that an address
// which a pool no longer covers stays announced, else the one that covers it.
func (f *field) poolOf(s *cluster.Service, at int) int {
	if at < len(s.HeldFrom) {
		if i, known := f.poolIndex[s.HeldFrom[at]]; known {
			return i
		}
	}
	return f.view.Config.PoolIndex(s.Held[at])
}

// decide elects the owner of one address and enters what this node does with it into the plan.
func (f *field) decide(group []use, plan *Plan) Verdict {
	addr := group[0].addr
	verdict := Verdict{Addr: addr}
	class := f.classOf(group)
	if class == nil {
		verdict.Reason = NoAdvertisement
		return verdict
	}
	serving := f.serving(group)
	owner, reason := f.owner(class, addr, serving)
	verdict.Self = f.selfReason(class, serving)
	if owner < 0 {
		verdict.Reason = reason
		return verdict
	}
	verdict.Owner, verdict.Despite = f.names[owner], class.misgivings[owner]
	if owner != f.self {
		verdict.Reason = NotOwner
		plan.L2.Addrs[addr] = L2{Yield: true}
		return verdict
	}
	verdict.Reason = Announced
	plan.L2.Addrs[addr] = L2{Links: class.links, Detect: f.detection(group)}
	return verdict
}

// detection is what the pool of an address says about other stations that have it; of several pools the strictest.
func (f *field) detection(group []use) cluster.Detection {
	strictest := cluster.DetectOff
	for _, use := range group {
		if use.pool >= 0 {
			strictest = max(strictest, f.view.Config.Pools[use.pool].Detection)
		}
	}
	return strictest
}

// serving returns, sorted, the nodes that have endpoints for what is behind an address, and nil where any node will do.
func (f *field) serving(group []use) []string {
	var nodes []string
	for _, use := range group {
		s := &f.view.Services[use.service]
		if s.TrafficPolicy == cluster.TrafficCluster {
			return nil
		}
		nodes = append(nodes, s.Serving...)
	}
	if nodes == nil {
		return []string{}
	}
	if len(group) > 1 {
		slices.Sort(nodes)
		nodes = slices.Compact(nodes)
	}
	return nodes
}

// owner elects among the candidates of a class; reason says why there is none where owner is -1.
func (f *field) owner(c *class, addr netip.Addr, serving []string) (owner int, reason Reason) {
	if len(c.candidates) == 0 {
		return -1, NoCandidate
	}
	seed, from := addrHash(addr), 0
	for _, end := range c.ends {
		best, bestScore := -1, uint64(0)
		for _, n := range c.candidates[from:end] {
			if serving != nil && !has(serving, f.names[n]) {
				continue
			}
			if score := mix(f.hashes[n] ^ seed); best < 0 || score > bestScore {
				best, bestScore = n, score
			}
		}
		if best >= 0 {
			return best, ""
		}
		from = end
	}
	return -1, NoEndpoints
}

func (f *field) selfReason(c *class, serving []string) Reason {
	if f.self < 0 {
		return SpeakerDown
	}
	reason := c.standing[f.self]
	if reason == Candidate && serving != nil && !has(serving, f.view.Self) {
		return NoLocalEndpoint
	}
	return reason
}

func has(sorted []string, s string) bool {
	_, found := slices.BinarySearch(sorted, s)
	return found
}
