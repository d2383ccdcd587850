// Package routers runs other people's routers in the lab, FRR and BIRD from Debian's packages, and reads what they say. What a scenario
// holds true of BGP and BFD is read here, and not from Bellwether.
package routers

import (
	"cmp"
	"net/netip"
	"slices"
)

// Route is one way to a prefix that a router knows.
type Route struct {
	Peer        netip.Addr // whom it is from
	NextHop     netip.Addr
	ASPath      string   // "64512 64512"
	MED         int64    // -1 where there is none
	LocalPref   int64    // -1 where there is none
	Communities []string // standard and large ones, as 64512:1 and 64512:1:2, sorted
	Stale       bool     // kept over a graceful restart
}

// RIB is what a router knows: the routes to each prefix, by peer.
type RIB map[netip.Prefix][]Route

// Of returns the routes that are from a peer.
func (r RIB) Of(peer netip.Addr) map[netip.Prefix]Route {
	of := map[netip.Prefix]Route{}
	for prefix, routes := range r {
		for _, route := range routes {
			if route.Peer == peer {
				of[prefix] = route
			}
		}
	}
	return of
}

func (r RIB) sort() {
	for _, routes := range r {
		slices.SortFunc(routes, func(a, b Route) int { return cmp.Or(a.Peer.Compare(b.Peer), a.NextHop.Compare(b.NextHop)) })
	}
}

// Session is what a router says of its session with a node.
type Session struct {
	Established bool
	Drops       int    // how often it was lost
	LastReset   string // as the router says it
	Shutdown    string // what the other end said when it closed the session in order, RFC 9003
	BFD         string // its state in lower case; empty where there is none
}
