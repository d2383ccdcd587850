package main

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/l2"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// seizure remembers who owned which address, so that one whose owner is heard no more is asked for on the segment before it is
// taken over. An owner that is alive hands its address over, and needs not be asked.
type seizure struct {
	owners map[netip.Addr]string // by the last plan
	from   map[netip.Addr]string // being taken over from these, and not announced yet
}

// mark says in a plan what is to be asked for. It changes the plan's own map.
func (s *seizure) mark(self string, plan announce.Plan, alive map[string]cluster.Member, have l2.Have) {
	owners, from := make(map[netip.Addr]string, len(s.owners)), map[netip.Addr]string{}
	for _, verdicts := range plan.Why {
		for _, v := range verdicts {
			owners[v.Addr] = v.Owner
			before := s.owners[v.Addr]
			if last, going := s.from[v.Addr]; going && len(have.Addrs[v.Addr].Links) == 0 {
				before = last
			}
			if v.Owner == self && before != "" && before != self && !handsOver(alive, before) {
				from[v.Addr] = before
			}
		}
	}
	for a := range from {
		if what, announced := plan.L2.Addrs[a]; announced && !what.Yield {
			what.Ask = true
			plan.L2.Addrs[a] = what
		}
	}
	s.owners, s.from = owners, from
}

// handsOver reports whether a node's speaker gives up what is not its own any more: it is heard, on all its links too, and has said
// how it stands. Of one that is only just heard again nothing is known, and it knows nothing yet.
func handsOver(alive map[string]cluster.Member, node string) bool {
	m, heard := alive[node]
	return heard && (m.Ready || m.Leaving) && !slices.ContainsFunc(m.Links, func(l cluster.Link) bool { return l.Silent })
}
