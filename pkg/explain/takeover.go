package explain

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// Moved is a Service that would not have the addresses that stand in it.
type Moved struct {
	Service cluster.Key  `json:"service"`
	From    []netip.Addr `json:"from"`
	To      []netip.Addr `json:"to,omitempty"`
	Message string       `json:"message,omitempty"` // why it would lack one
}

// Takeover says what would become of the addresses that stand in Services, whoever gave them, if these were the objects: which would change,
// and how many Services would keep theirs.
func (w *World) Takeover(objects config.Objects) (moved []Moved, kept int) {
	after := *w
	after.Objects = objects
	after.Config, after.Problems = config.Parse(objects)
	is := after.settled(nil)
	for i := range w.Services {
		s := &w.Services[i]
		if !s.Ours || len(s.Ingress) == 0 {
			continue
		}
		now, ours := is.services[s.Key]
		if !ours {
			now.Message = "no pool has all of its addresses: it is left to whoever gave them"
		}
		m := Moved{Service: s.Key, From: slices.SortedFunc(slices.Values(s.Ingress), netip.Addr.Compare), Message: now.Message}
		for _, a := range now.Addresses {
			m.To = append(m.To, a.Addr)
		}
		slices.SortFunc(m.To, netip.Addr.Compare)
		if slices.Equal(m.From, m.To) {
			kept++
			continue
		}
		moved = append(moved, m)
	}
	slices.SortFunc(moved, func(a, b Moved) int { return a.Service.Compare(b.Service) })
	return moved, kept
}
