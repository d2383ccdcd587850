package announce

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// BGPPlan is the complete desired state of the BGP actuator: the sessions of this node, by the names of their BGPPeers.
type BGPPlan map[string]BGPSession

// BGPSession is one session and all that its peer shall have.
type BGPSession struct {
	Session config.BGPSession `json:"session"`
	// PasswordSecret is the name of the Secret with the password; empty for none.
	PasswordSecret string             `json:"passwordSecret,omitempty"`
	BFD            *config.BFDProfile `json:"bfd,omitempty"`
	// DualStack is true for a session that announces both families.
	DualStack bool `json:"dualStack,omitempty"`
	// Far is true for a peer that is on no link of this node.
	Far bool `json:"far,omitempty"`
	// NextHop4 and NextHop6 are what IPv4 and IPv6 routes lead to; invalid: this node's address of the session.
	NextHop4 netip.Addr `json:"nextHop4"`
	NextHop6 netip.Addr `json:"nextHop6"`
	// Close is true for a session that is to end in order, once its routes have been drained.
	Close bool `json:"close,omitempty"`
	// Routes are what its peer shall have; prefixes that have the same attributes share a Route.
	Routes map[netip.Prefix]*Route `json:"routes,omitempty"`
}

// Route is what a peer gets of a prefix beside its next hop, which is this node. It is never changed.
type Route struct {
	LocalPref   *uint32               `json:"localPref,omitempty"`
	MED         *uint32               `json:"med,omitempty"`
	Prepend     int                   `json:"prepend,omitempty"` // how many times more than once the own AS is in the path
	Communities []config.BGPCommunity `json:"communities,omitempty"`
	// Drain is true for a route that others have too and that is to go: the peer is told to prefer theirs (RFC 8326), and after a
	// while it is withdrawn.
	Drain bool `json:"drain,omitempty"`
}

// Equal reports whether a peer gets the same.
func (r *Route) Equal(o *Route) bool {
	same := func(a, b *uint32) bool { return a == b || a != nil && b != nil && *a == *b }
	return r == o || same(r.LocalPref, o.LocalPref) && same(r.MED, o.MED) && r.Prepend == o.Prepend && r.Drain == o.Drain && slices.Equal(r.Communities, o.Communities)
}

// Routed is the decision about one address on BGP, as this node sees it.
type Routed struct {
	Reason Reason   `json:"reason"`          // Announced, or why not
	Peers  []string `json:"peers,omitempty"` // the BGPPeers that this node announces it to, sorted
}

// routing is a field's half for BGP.
type routing struct {
	poolAdvs [][]int            // by pool: the BGPAdvertisements that select it, the elder first
	sessions []int              // of this node: positions in Config.Peers
	bare     map[int]BGPSession // by peer, without routes
	classes  map[string]*routeClass
	routes   []map[netip.Prefix]*Route // by peer
	made     map[string]*Route         // by what they are made of
	madeOf   map[*Route]origin
	alone    map[[2]int]*Route // by an advertisement that is all of it, and whether it is drained
	keyBuf   []byte
}

// origin is what a route is made of.
type origin struct {
	advs  []int // that announce it, sorted
	drain bool  // by all of them
}

// routeClass is what all addresses have in common that the same advertisements announce.
type routeClass struct {
	ranks []int     // by node: position in misgivings, -1 for one that does not announce
	peers [][]int   // by advertisement of the class: this node's sessions that it announces to
	reach [2]*reach // of IPv4 and IPv6, where it is known
}

// reach is where the addresses of a class and a family are announced to.
type reach struct {
	peers  [][]int // those of the class that carry the family
	routed *Routed
}

func newRouting(f *field) *routing {
	c := f.view.Config
	if len(c.Peers) == 0 {
		return nil
	}
	r := &routing{poolAdvs: make([][]int, len(c.Pools)), bare: map[int]BGPSession{}, classes: map[string]*routeClass{},
		routes: make([]map[netip.Prefix]*Route, len(c.Peers)), made: map[string]*Route{}, madeOf: map[*Route]origin{}, alone: map[[2]int]*Route{}}
	for i, pool := range c.Pools {
		for at := range c.BGP {
			if c.BGP[at].SelectsPool(pool) {
				r.poolAdvs[i] = append(r.poolAdvs[i], at)
			}
		}
		if pool.AdvertiseBGP {
			r.poolAdvs[i] = append(r.poolAdvs[i], len(c.BGP))
		}
	}
	if f.self < 0 || f.standing[f.self] != Candidate && f.standing[f.self] != SpeakerLeaving {
		return r // a session that opens brings its routes along
	}
	for i := range c.Peers {
		if f.hasSession(f.self, i) {
			r.sessions = append(r.sessions, i)
		}
	}
	return r
}

// hasSession reports whether a node has a session with a peer: it does not where an elder BGPPeer is of the same router.
func (f *field) hasSession(n, peer int) bool {
	c, labels := f.view.Config, f.nodes[n].Labels
	if !c.Peers[peer].SelectsNode(labels) {
		return false
	}
	return c.Instead(peer, labels) < 0
}

// bgpAdvertisement returns the advertisement at a position; the one past the last is what IPAddressPool.spec.advertise stands for.
func (f *field) bgpAdvertisement(i int) config.BGPAdvertisement {
	if i == len(f.view.Config.BGP) {
		return config.Everything()
	}
	return f.view.Config.BGP[i]
}

// bgpAdvertisements returns, the elder first, the advertisements that announce an address for any of its Services.
func (f *field) bgpAdvertisements(group []use) []int {
	var advs []int
	for _, use := range group {
		if use.pool < 0 {
			continue
		}
		for _, a := range f.routing.poolAdvs[use.pool] {
			if adv := f.bgpAdvertisement(a); adv.SelectsService(f.view.Services[use.service].Labels) && !slices.Contains(advs, a) {
				advs = append(advs, a)
			}
		}
	}
	slices.Sort(advs)
	return advs
}

// route finds out what this node announces of an address over BGP; nil where no advertisement names it.
func (f *field) route(group []use) *Routed {
	if f.routing == nil {
		return nil
	}
	advs := f.bgpAdvertisements(group)
	if len(advs) == 0 {
		return nil
	}
	addr, class, serving := group[0].addr, f.routeClassOf(advs), f.serving(group)
	announces, drain, reason := f.standsFor(class, serving)
	if !announces {
		return &Routed{Reason: reason}
	}
	if slices.ContainsFunc(group, func(u use) bool { return f.view.Services[u.service].NotYetHere }) {
		return &Routed{Reason: NoLocalEndpoint}
	}
	to := f.reach(class, advs, addr)
	for i, a := range advs {
		prefix := f.bgpAdvertisement(a).Lengths.Prefix(addr)
		for _, p := range to.peers[i] {
			f.add(p, prefix, a, drain || f.leaving() && f.view.Config.Peers[p].Session.RestartTime == 0)
		}
	}
	return to.routed
}

// reach returns where a class's addresses of the same family as one of them are announced to.
func (f *field) reach(c *routeClass, advs []int, addr netip.Addr) *reach {
	family := cluster.FamilyOf(addr).Index()
	if c.reach[family] != nil {
		return c.reach[family]
	}
	r := &reach{peers: make([][]int, len(advs)), routed: &Routed{Reason: Announced}}
	for i := range advs {
		for _, p := range c.peers[i] {
			if f.carries(p, addr) {
				r.peers[i] = append(r.peers[i], p)
				r.routed.Peers = append(r.routed.Peers, f.view.Config.Peers[p].Name)
			}
		}
	}
	slices.Sort(r.routed.Peers)
	r.routed.Peers = slices.Compact(r.routed.Peers)
	if len(r.routed.Peers) == 0 {
		r.routed.Reason = NoPeer
	}
	c.reach[family] = r
	return r
}

func (f *field) leaving() bool { return f.standing[f.self] == SpeakerLeaving }

// carries reports whether a session of this node announces an address's family, and has somewhere to lead its routes to. IPv4 may lead
// to an IPv6 address (RFC 8950).
func (f *field) carries(peer int, a netip.Addr) bool {
	p := &f.view.Config.Peers[peer]
	leads := a.Is4() || p.Session.Address.Is6() || p.Session.Interface != "" || f.routing.sessionOf(f, peer).NextHop6.IsValid()
	return p.Carries(a.Is6()) && leads
}

// add has an advertisement announce a prefix to a peer.
func (f *field) add(peer int, prefix netip.Prefix, adv int, drain bool) {
	routes := f.routing.routes[peer]
	if routes == nil {
		routes = make(map[netip.Prefix]*Route, len(f.view.Services))
		f.routing.routes[peer] = routes
	}
	old, known := routes[prefix]
	if !known {
		routes[prefix] = f.routeOf(adv, drain)
		return
	}
	is := f.routing.madeOf[old]
	is.drain = is.drain && drain
	if at, has := slices.BinarySearch(is.advs, adv); !has {
		is.advs = slices.Insert(slices.Clone(is.advs), at, adv)
	}
	routes[prefix] = f.attributes(is)
}

// routeOf returns the route that one advertisement makes.
func (f *field) routeOf(adv int, drain bool) *Route {
	key := [2]int{adv, 0}
	if drain {
		key[1] = 1
	}
	r := f.routing.alone[key]
	if r == nil {
		r = f.attributes(origin{advs: []int{adv}, drain: drain})
		f.routing.alone[key] = r
	}
	return r
}

// standsFor says whether this node announces an address, and whether it is about to stop. It does unless others are better placed.
func (f *field) standsFor(c *routeClass, serving []string) (announces, drain bool, reason Reason) {
	best := -1
	for n, rank := range c.ranks {
		if rank >= 0 && (serving == nil || has(serving, f.names[n])) && (best < 0 || rank < best) {

			best = rank
		}
	}
	switch own := f.self; {
	case own < 0 || c.ranks[own] < 0:
		return false, false, f.routeReason()
	case serving != nil && !has(serving, f.names[own]):
		return false, false, NoLocalEndpoint
	case c.ranks[own] > best:
		why := misgivings()[c.ranks[own]]
		return why == NodeDraining, true, why
	}
	return true, false, Announced
}

// routeReason says why this node has no part in a class.
func (f *field) routeReason() Reason {
	switch {
	case f.self < 0:
		return SpeakerDown
	case f.standing[f.self] != Candidate && f.standing[f.self] != SpeakerLeaving:
		return f.standing[f.self]
	}
	return NodeNotSelected
}

func (f *field) routeClassOf(advs []int) *routeClass {
	key := f.routing.keyBuf[:0]
	for _, a := range advs {
		key = append(key, byte(a), byte(a>>8), byte(a>>16))
	}
	f.routing.keyBuf = key
	if c, known := f.routing.classes[string(key)]; known {
		return c
	}
	c := f.newRouteClass(advs)
	f.routing.classes[string(key)] = c
	return c
}

func (f *field) newRouteClass(advs []int) *routeClass {
	c := &routeClass{ranks: make([]int, len(f.nodes)), peers: make([][]int, len(advs))}
	for n, node := range f.nodes {
		c.ranks[n] = -1
		if f.standing[n] != Candidate && (n != f.self || f.standing[n] != SpeakerLeaving) {
			continue
		}
		for i, a := range advs {
			adv := f.bgpAdvertisement(a)
			if !adv.SelectsNode(node.Labels) {
				continue
			}
			for p := range f.view.Config.Peers {
				if !adv.SelectsPeer(f.view.Config.Peers[p].Name) || !f.hasSession(n, p) {
					continue
				}
				c.ranks[n] = slices.Index(misgivings(), misgiving(node))
				if n == f.self {
					c.peers[i] = append(c.peers[i], p)
				}
			}
		}
	}
	return c
}

// bgpPlan puts together what has been found.
func (f *field) bgpPlan() BGPPlan {
	if f.routing == nil {
		return nil
	}
	plan := BGPPlan{}
	for _, p := range f.routing.sessions {
		peer := f.view.Config.Peers[p]
		s := f.routing.sessionOf(f, p)
		s.Routes = f.routing.routes[p]
		if s.Routes == nil {
			s.Routes = map[netip.Prefix]*Route{}
		}
		ends := f.leaving() && peer.Session.RestartTime == 0 || f.nodes[f.self].Draining && len(s.Routes) > 0
		s.Close = ends && allDrained(s.Routes)
		plan[peer.Name] = s
	}
	return plan
}

func allDrained(routes map[netip.Prefix]*Route) bool {
	for _, r := range routes {
		if !r.Drain {
			return false
		}
	}
	return true
}

// sessionOf is a session without its routes.
func (r *routing) sessionOf(f *field, peer int) BGPSession {
	s, known := r.bare[peer]
	if !known {
		s = f.session(f.view.Config.Peers[peer])
		r.bare[peer] = s
	}
	return s
}

func (f *field) session(peer config.BGPPeer) BGPSession {
	s := BGPSession{Session: peer.Session, PasswordSecret: peer.PasswordSecret, BFD: peer.BFD,
		DualStack: peer.DualStack || peer.Session.Interface != "", Far: true}
	addrs := f.nodes[f.self].Addrs
	if !s.Session.RouterID.IsValid() {
		s.Session.RouterID = routerID(addrs, f.view.Self)
	}
	if s.Session.Interface != "" { // both ends are found on the link
		s.Far = false
		return s
	}
	router := s.Session.Address
	for _, l := range f.view.Alive.Alive[f.view.Self].Links {
		if l.Contains(router) {
			s.Far = false
			addrs = nil
			for _, p := range l.Prefixes {
				addrs = append(addrs, p.Addr())
			}
			break
		}
	}
	// The other family's routes lead to an address that the router reaches on the same link, where the node has one there.
	for _, a := range addrs {
		switch {
		case a.IsLinkLocalUnicast() || a.Is4() == router.Is4():
		case a.Is4() && !s.NextHop4.IsValid():
			s.NextHop4 = a
		case a.Is6() && !s.NextHop6.IsValid():
			s.NextHop6 = a
		}
	}
	return s
}

// routerID is the BGP identifier of a node, RFC 6286: its first IPv4 address, or one that is made from its name.
func routerID(addrs []netip.Addr, name string) netip.Addr {
	for _, a := range addrs {
		if a.Is4() {
			return a
		}
	}
	h := nameHash(name)
	return netip.AddrFrom4([4]byte{byte(h>>24) | 1, byte(h >> 16), byte(h >> 8), byte(h)})
}

// attributes unites what advertisements say of a route: all their communities, and of the rest what the eldest says that says anything.
func (f *field) attributes(of origin) *Route {
	key := f.routing.keyBuf[:0]
	for _, a := range of.advs {
		key = append(key, byte(a), byte(a>>8), byte(a>>16))
	}
	if of.drain {
		key = append(key, 'd')
	}
	f.routing.keyBuf = key
	if r, is := f.routing.made[string(key)]; is {
		return r
	}
	r := &Route{Drain: of.drain}
	for _, a := range of.advs {
		adv := f.bgpAdvertisement(a)
		if r.LocalPref == nil {
			r.LocalPref = adv.LocalPref
		}
		if r.MED == nil {
			r.MED = adv.MED
		}
		if r.Prepend == 0 {
			r.Prepend = adv.Prepend
		}
		r.Communities = append(r.Communities, adv.Communities...)
	}
	slices.SortFunc(r.Communities, config.BGPCommunity.Compare)
	r.Communities = slices.Compact(r.Communities)
	f.routing.made[string(key)], f.routing.madeOf[r] = r, of
	return r
}
