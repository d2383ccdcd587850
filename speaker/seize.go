package main

import (
	"net/netip"
	"slices"
	"time"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/l2"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/heartbeat"
)

// seizure remembers who owned which address, so that one whose owner is heard no more is asked for on the segment before it is
// taken over. An owner that is alive hands its address over: it needs not be asked, but given time. Where nobody is known to have
// owned an address, somebody may all the same who is not heard.
type seizure struct {
	owners map[netip.Addr]string    // by the last plan; "" where it had none
	from   map[netip.Addr]loss      // being taken over, and not announced yet
	gains  map[netip.Addr]time.Time // to be taken over from living owners, since when
	first  map[netip.Addr]struct{}  // nobody has had these before, and they are not announced yet
	met    map[string]struct{}      // nodes whose speakers have ever been heard
	macs   map[string][]cluster.MAC // of the links of the other nodes, as last heard
	heard  map[string]bool          // nodes that were heard on all their links at the last pass; nil before the first
	again  int                      // how often speakers have come back that had not started anew
}

// loss is when it became known that an owner is lost.
type loss struct {
	owner string
	since time.Time
}

// nobody stands for the owner of an address that no plan has named.
const nobody = "nobody that is known"

// mark says in a plan what is to be asked for first, and what is to be taken a little later, as its owner is alive and may not know
// yet that it is to give it up. It is asked for when something happened, and changes the plan's own map. It returns how soon the plan is
// another, 0 for never; and how long it took from the loss of an owner, for each address that has been taken over from it since the last
// time.
func (s *seizure) mark(plan announce.Plan, view announce.View, have l2.Have, asked, now time.Time) (again time.Duration, took []time.Duration) {
	silent, missing := s.unheard(view)
	owners, from, gains := make(map[netip.Addr]string, len(s.owners)), map[netip.Addr]loss{}, map[netip.Addr]time.Time{}
	first := map[netip.Addr]struct{}{}
	for _, verdicts := range plan.Why {
		for _, v := range verdicts {
			before, known := s.owners[v.Addr]
			owners[v.Addr] = v.Owner
			if v.Owner != view.Self {
				continue
			}
			if _, still := s.first[v.Addr]; before == "" || still && len(have.Addrs[v.Addr].Links) == 0 {
				first[v.Addr] = struct{}{}
			}
			// Of an address that there was before, an owner may have been missed while this speaker started, or was alone. A
			// new one is another's only if that has just fallen silent.
			if before == "" && (silent || known && missing) {
				before = nobody
			}
			last, going := s.from[v.Addr]
			switch state := have.Addrs[v.Addr]; {
			case !going:
				last.since = asked
			case len(state.Links) == 0:
				before = last.owner
			case last.owner != nobody:
				took = append(took, state.Since.Sub(last.since))
			}
			switch {
			case before == "" || before == view.Self || before == nobody && !silent && !missing:
			case !handsOver(view.Alive.Alive, before):
				from[v.Addr] = loss{owner: before, since: last.since}
			case !view.Alive.Alive[before].Leaving:
				began, waiting := s.gains[v.Addr]
				if !waiting {
					began = now
				}
				if left := gainLag - now.Sub(began); left > 0 {
					gains[v.Addr], owners[v.Addr] = began, before
					again = reconcile.Sooner(again, left)
				}
			}
		}
	}
	for a := range from {
		if what, announced := plan.L2.Addrs[a]; announced && !what.Yield {
			what.Ask = true
			plan.L2.Addrs[a] = what
		}
	}
	for a := range first {
		if what, announced := plan.L2.Addrs[a]; announced && !what.Yield && !what.Ask {
			what.First = true
			plan.L2.Addrs[a] = what
		}
	}
	for a := range gains {
		plan.L2.Addrs[a] = announce.L2{Yield: true}
	}
	s.owners, s.from, s.gains, s.first = owners, from, gains, first
	return again, took
}

// others returns the hardware addresses of the other nodes' links, of dead ones too, sorted, and whether it knows some of every node.
// A node that has got another card is heard with that before it has told of it.
func (s *seizure) others(view announce.View, heard []heartbeat.Heard) (all []cluster.MAC, allKnown bool) {
	macs, from := make(map[string][]cluster.MAC, len(view.Nodes)), map[string][]cluster.MAC{}
	for _, h := range heard {
		from[h.Node] = append(from[h.Node], h.MAC)
	}
	allKnown = true
	for _, n := range view.Nodes {
		if n.Name == view.Self {
			continue
		}
		known := s.macs[n.Name]
		if links := view.Alive.Alive[n.Name].Links; len(links) > 0 {
			known = nil
			for _, l := range links {
				known = append(known, l.MAC)
			}
		}
		known = slices.Concat(known, from[n.Name])
		slices.SortFunc(known, cluster.MAC.Compare)
		known = slices.Compact(known)
		macs[n.Name] = known
		all = append(all, known...)
		allKnown = allKnown && len(known) > 0
	}
	s.macs = macs
	slices.SortFunc(all, cluster.MAC.Compare)
	return slices.Compact(all), allKnown
}

// returned counts the speakers that are heard again and had not stopped meanwhile: while a segment was cut, or gossip, they may have
// announced what this node has, or have missed what it announced.
func (s *seizure) returned(view announce.View) int {
	heard := make(map[string]bool, len(view.Nodes))
	for _, n := range view.Nodes {
		m := view.Alive.Alive[n.Name]
		told := m.Ready || m.Leaving || len(m.Links) > 0 // else it has said nothing yet
		heard[n.Name] = told && !hasSilent(m)
		if s.heard != nil && !s.heard[n.Name] && handsOver(view.Alive.Alive, n.Name) {
			s.again++
		}
	}
	s.heard = heard
	return s.again
}

// unheard reports whether a speaker is silent that was heard before, and whether there is any node without one that is heard.
func (s *seizure) unheard(view announce.View) (silent, missing bool) {
	if s.met == nil {
		s.met = map[string]struct{}{}
	}
	for _, n := range view.Nodes {
		if n.Name == view.Self || handsOver(view.Alive.Alive, n.Name) {
			s.met[n.Name] = struct{}{}
			continue
		}
		missing = true
		if _, met := s.met[n.Name]; met {
			silent = true
		}
	}
	return silent, missing
}

// handsOver reports whether a node's speaker gives up what is not its own any more: it is heard, on all its links too, and has said
// how it stands. Of one that is only just heard again nothing is known, and it knows nothing yet.
func handsOver(alive map[string]cluster.Member, node string) bool {
	m, heard := alive[node]
	return heard && (m.Ready || m.Leaving) && !hasSilent(m)
}

func hasSilent(m cluster.Member) bool {
	return slices.ContainsFunc(m.Links, func(l cluster.Link) bool { return l.Silent })
}
