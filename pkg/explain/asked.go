package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Asked is what came of asking a segment for an address.
type Asked struct {
	Node      string   `json:"node"` // that asked
	Address   string   `json:"address"`
	Interface string   `json:"interface"`
	Stations  []string `json:"stations,omitempty"` // hardware addresses that answered
}

// Owners are the nodes that say they answer for an address over ARP and NDP.
func (e *Explanation) Owners(address string) []string {
	var nodes []string
	for _, n := range e.Nodes {
		if n.Addr == address && n.Answers {
			nodes = append(nodes, n.Name)
		}
	}
	return nodes
}

// Heard adds what was heard on the segment of an address that somebody says to answer for.
func (w *World) Heard(e *Explanation, asked Asked) {
	const step = "Segment"
	where := fmt.Sprintf("%s, on %s", asked.Node, asked.Interface)
	owners := e.Owners(asked.Address)
	var names []string
	strangers := false
	for _, mac := range asked.Stations {
		node := w.NodeOf(mac)
		strangers = strangers || !slices.Contains(owners, node)
		if node == "" {
			node = "a machine that is no node, with " + mac
		}
		names = append(names, node)
	}
	s := Step{Name: step, State: OK, Says: fmt.Sprintf("%s hears %s answer for %s", where, strings.Join(names, " and "), asked.Address)}
	switch {
	case len(names) == 0:
		s.State, s.Says = Broken, fmt.Sprintf("%s hears nobody answer for %s, though %s says that it does", where, asked.Address, strings.Join(owners, " and "))
		s.Fix = "look at what is between the two: VLANs, port security, ARP inspection or ND snooping on the switch, the hypervisor's filter of forged hardware addresses"
	case strangers:
		s.State, s.Fix = Broken, "find the machine by its hardware address, and give it another address"
	case len(names) > 1:
		s.State, s.Fix = Broken, "bellwether doctor"
	}
	e.Steps = append(e.Steps, s)
	e.judge()
}

// Neighbours are the nodes whose speakers are ready and on a link whose subnet holds an address.
func (w *World) Neighbours(address string) []string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return nil
	}
	var nodes []string
	for i := range w.Speakers {
		m, alive := w.member(&w.Speakers[i])
		if alive && m.Ready && slices.ContainsFunc(m.Links, func(l cluster.Link) bool { return l.Up && l.Contains(a) }) {
			nodes = append(nodes, w.Speakers[i].Name)
		}
	}
	return nodes
}

// NodeOf returns the node that has a hardware address, or "".
func (w *World) NodeOf(mac string) string {
	for i := range w.Speakers {
		for _, l := range w.Speakers[i].Status.Links {
			if l.MAC == mac {
				return w.Speakers[i].Name
			}
		}
	}
	return ""
}
