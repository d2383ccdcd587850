package announce

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Plan is what this node shall say. It is complete: what it does not name is not announced.
type Plan struct {
	L2  L2Plan  `json:"l2"`
	BGP BGPPlan `json:"bgp,omitempty"`
	// Why holds, for every Service with an address, one verdict per address.
	Why map[cluster.Key][]Verdict `json:"why,omitempty"`
}

// L2Plan is the complete desired state of the layer 2 actuator.
type L2Plan struct {
	// Links are this node's links, by the names that Addrs uses.
	Links []cluster.Link `json:"links,omitempty"`
	// Others are the hardware addresses of the other nodes' links, of dead ones too, sorted.
	Others []cluster.MAC `json:"others,omitempty"`
	// AllKnown is true when Others lacks no node's: then a station that is not among them is no speaker's.
	AllKnown bool `json:"allKnown,omitempty"`
	// Again makes the announcer announce all that it has anew when it is another than before: somebody may have missed it.
	Again int `json:"again,omitempty"`
	// Addrs says for every address what to do with it; an address that is not named is withdrawn at once.
	Addrs map[netip.Addr]L2 `json:"addrs,omitempty"`
}

// L2 is what to do with one address on layer 2.
type L2 struct {
	// Links are the names of the links to answer on, sorted.
	Links []string `json:"links"`
	// Yield is true for an address that another node owns: do not start to answer for it, but if it is being
	// answered, go on until the new owner has been heard announcing it, or a bound runs out. This is what makes a
	// planned move lose nothing.
	Yield bool `json:"yield,omitempty"`
	// Ask is true for an address whose last owner is believed dead: the segment is asked for it first, and as long as
	// somebody answers, it is neither announced nor answered. It counts when the address is new to this node.
	Ask bool `json:"ask,omitempty"`
	// First is true for an address that no node is known to have announced before: the segment is asked for it as Detect says. It
	// counts when the address is new to this node.
	First bool `json:"first,omitempty"`
	// Detect says what to do about a station of no speaker's that has the address too.
	Detect cluster.Detection `json:"detect,omitempty"`
}

// Equal reports whether two plans say the same.
func (p L2Plan) Equal(o L2Plan) bool {
	addrs, others := p.Addrs, o.Addrs
	p.Addrs, o.Addrs = nil, nil
	return maps.EqualFunc(addrs, others, L2.equal) && reflect.DeepEqual(p, o)
}

func (l L2) equal(o L2) bool {
	return l.Yield == o.Yield && l.Ask == o.Ask && l.First == o.First && l.Detect == o.Detect && slices.Equal(l.Links, o.Links)
}

// Equal reports whether two plans say the same.
func (p BGPPlan) Equal(o BGPPlan) bool {
	return (p == nil) == (o == nil) && maps.EqualFunc(p, o, func(a, b BGPSession) bool {
		routes, others := a.Routes, b.Routes
		a.Routes, b.Routes = nil, nil
		return maps.EqualFunc(routes, others, (*Route).Equal) && reflect.DeepEqual(a, b)
	})
}
