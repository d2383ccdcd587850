package config

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
)

// bgp reads the objects of BGP. The API server refuses much of what is refused here, but for objects that it stored before it knew
// the rule.
func (p *parser) bgp(objects Objects) {
	profiles := map[string]*BFDProfile{}
	for _, wire := range objects.BFDProfiles {
		profiles[wire.Name] = p.profile(wire)
	}
	p.peers(objects.BGPPeers, profiles)
	aliases := p.aliases(objects.Communities)
	var accepted []v1beta1.BGPAdvertisement
	for _, wire := range elderFirst(objects.BGPAdvertisements) {
		if p.advertisement(wire, aliases) {
			p.preferenceOnce(wire, accepted)
			accepted = append(accepted, wire)
		}
	}
}

// elderFirst sorts objects by age, and by name where that is equal.
func elderFirst[T any, P interface {
	*T
	metav1.Object
}](objects []T) []T {
	sorted := slices.Clone(objects)
	slices.SortFunc(sorted, func(a, b T) int {
		created, other := P(&a).GetCreationTimestamp(), P(&b).GetCreationTimestamp()
		return cmp.Or(created.Compare(other.Time), cmp.Compare(P(&a).GetName(), P(&b).GetName()))
	})
	return sorted
}

func (p *parser) profile(wire v1beta1.BFDProfile) *BFDProfile {
	number := func(field string, value *int32, otherwise, least, most int32) int32 {
		if value == nil {
			return otherwise
		}
		if *value < least || *value > most {
			p.problem(KindBFDProfile, wire.Name, ReasonInvalidValue, "%s is %d: set it to %d to %d", field, *value, least, most)
			return otherwise
		}
		return *value
	}
	spec := wire.Spec
	profile := &BFDProfile{
		Receive:    time.Duration(number("receiveInterval", spec.ReceiveInterval, 300, 10, 60000)) * time.Millisecond,
		Transmit:   time.Duration(number("transmitInterval", spec.TransmitInterval, 300, 10, 60000)) * time.Millisecond,
		Multiplier: uint8(number("detectMultiplier", spec.DetectMultiplier, 3, 2, 255)),
		MinimumTTL: uint8(number("minimumTtl", spec.MinimumTTL, 254, 1, 254)),
		Passive:    spec.PassiveMode,
	}
	if echo := number("echoInterval", spec.EchoInterval, 50, 10, 60000); spec.EchoMode {
		profile.Echo = time.Duration(echo) * time.Millisecond
	}
	return profile
}

// peers reads peers, the elder first: a younger one with a router that an elder one has too is refused.
func (p *parser) peers(all []v1beta1.BGPPeer, profiles map[string]*BFDProfile) {
	var accepted []acceptedPeer
	for _, wire := range elderFirst(all) {
		before := len(p.problems)
		peer := p.peer(wire)
		for _, elder := range accepted {
			if elder.Session.SameRouter(peer.Session) && meet(elder.selectors, wire.Spec.NodeSelectors) {
				p.problem(KindBGPPeer, wire.Name, ReasonDuplicate,
					"BGPPeer %s has a session with this router already: change that one, or select other nodes with nodeSelectors", elder.Name)
			}
		}
		if len(p.problems) > before {
			continue
		}
		accepted = append(accepted, acceptedPeer{peer, wire.Spec.NodeSelectors})
		if name := wire.Spec.BFDProfile; name != "" {
			peer.BFD = profiles[name]
			if peer.BFD == nil {
				p.problem(KindBGPPeer, wire.Name, ReasonUnknownBFDProfile, "bfdProfile names %q, but there is no BFDProfile of that name: "+
					"create it or correct the name; until then the session runs without BFD", name)
			}
		}
		p.config.Peers = append(p.config.Peers, peer)
	}
}

type acceptedPeer struct {
	BGPPeer
	selectors []metav1.LabelSelector // as they were written
}

// meet reports whether there is no need to look at nodes to know that one may be selected by both.
func meet(a, b []metav1.LabelSelector) bool {
	return len(a) == 0 || len(b) == 0 || reflect.DeepEqual(a, b)
}

func (p *parser) peer(wire v1beta1.BGPPeer) BGPPeer {
	spec, name := wire.Spec, wire.Name
	peer := BGPPeer{
		Name:          name,
		NodeSelectors: p.selectors(KindBGPPeer, name, "nodeSelectors", spec.NodeSelectors),
		DualStack:     spec.DualStackAddressFamily,
		Session: BGPSession{
			Interface: spec.Interface,
			Address:   p.address(name, "peerAddress", spec.PeerAddress),
			Source:    p.address(name, "sourceAddress", spec.SourceAddress),
			RouterID:  p.address(name, "routerID", spec.RouterID),
			Port:      uint16(cmp.Or(spec.PeerPort, 179)),
			VRF:       spec.VRF,
			MultiHop:  spec.EBGPMultiHop,
		},
	}
	s := &peer.Session
	if spec.PasswordSecret != nil {
		peer.PasswordSecret = spec.PasswordSecret.Name
	}
	if spec.TTLSecurity != nil {
		s.TTLSecurity = int(*spec.TTLSecurity)
	}
	p.numbers(wire, s)
	p.times(wire, s)
	p.reach(wire, s)
	return peer
}

func (p *parser) address(peer, field, text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		p.problem(KindBGPPeer, peer, ReasonInvalidValue, "%s: %q is not an IP address: write one such as 192.0.2.1 or 2001:db8::1", field, text)
		return netip.Addr{}
	}
	return a.Unmap()
}

// asTrans is not anybody's AS number, RFC 6793 section 9.
const asTrans = 23456

// numbers reads the AS numbers.
func (p *parser) numbers(wire v1beta1.BGPPeer, s *BGPSession) {
	refuse := func(format string, args ...any) { p.problem(KindBGPPeer, wire.Name, ReasonInvalidASN, format, args...) }
	number := func(field string, n int64) uint32 {
		if n < 1 || n > 1<<32-1 || n == asTrans {
			refuse("%s is %d: set it to an AS number, 1 to 4294967295 and not 23456", field, n)
			return 0
		}
		return uint32(n)
	}
	spec := wire.Spec
	s.MyASN = number("myASN", spec.MyASN)
	switch {
	case (spec.PeerASN == nil) == (spec.DynamicASN == ""):
		refuse("set one of peerASN and dynamicASN: the router's AS number, or internal or external for any that fits")
	case spec.PeerASN != nil:
		s.PeerASN = number("peerASN", *spec.PeerASN)
		s.Internal = s.PeerASN == s.MyASN
	case spec.DynamicASN != v1beta1.DynamicASNInternal && spec.DynamicASN != v1beta1.DynamicASNExternal:
		refuse("dynamicASN is %q: set it to internal or external", spec.DynamicASN)
	default:
		if s.Internal = spec.DynamicASN == v1beta1.DynamicASNInternal; s.Internal {
			s.PeerASN = s.MyASN
		}
	}
	if spec.LocalASN == nil {
		return
	}
	s.LocalASN = number("localASN", *spec.LocalASN)
	if s.Internal {
		refuse("localASN is for routers of another AS: leave it out, or set peerASN to another number than myASN")
	} else if s.LocalASN == s.PeerASN && s.LocalASN != 0 {
		refuse("localASN and peerASN are both %d, which makes the session internal: set myASN to it and leave out localASN", s.LocalASN)
	}
}

// times reads what is measured in seconds.
func (p *parser) times(wire v1beta1.BGPPeer, s *BGPSession) {
	seconds := func(field, text string, otherwise, least, most time.Duration) time.Duration {
		if text == "" {
			return otherwise
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < least || d > most || d%time.Second != 0 {
			p.problem(KindBGPPeer, wire.Name, ReasonInvalidValue, "%s: %q cannot be used: write whole seconds, %.0fs to %.0fs", field, text, least.Seconds(), most.Seconds())
			return otherwise
		}
		return d
	}
	spec := wire.Spec
	s.Hold = seconds("holdTime", spec.HoldTime, 90*time.Second, 3*time.Second, 65535*time.Second)
	s.Keepalive = seconds("keepaliveTime", spec.KeepaliveTime, (s.Hold / 3).Truncate(time.Second), time.Second, 21845*time.Second)
	s.Connect = seconds("connectTime", spec.ConnectTime, time.Second, time.Second, 65535*time.Second)
	if s.Keepalive >= s.Hold {
		p.problem(KindBGPPeer, wire.Name, ReasonInvalidValue, "keepaliveTime is %s and holdTime %s: the router would give up before it hears anything; "+
			"set keepaliveTime to a third of holdTime, or leave it out", spec.KeepaliveTime, s.Hold)
	}
	if gr := spec.GracefulRestart; gr != nil && gr.Enabled {
		s.RestartTime = seconds("gracefulRestart.restartTime", gr.RestartTime, 30*time.Second, time.Second, 4095*time.Second)
	}
}

// reach checks how the router is reached.
func (p *parser) reach(wire v1beta1.BGPPeer, s *BGPSession) {
	refuse := func(format string, args ...any) {
		p.problem(KindBGPPeer, wire.Name, ReasonInvalidValue, format, args...)
	}
	spec := wire.Spec
	switch {
	case (spec.PeerAddress == "") == (spec.Interface == ""):
		refuse("set one of peerAddress and interface: the router's address, or the link that it is the only router on")
	case spec.Interface != "" && spec.PasswordSecret != nil:
		refuse("a session on interface %q cannot have a password: the kernel takes none for link-local addresses; leave out passwordSecret, or set peerAddress", spec.Interface)
	case spec.Interface != "" && (spec.SourceAddress != "" || spec.VRF != "" || spec.EBGPMultiHop):
		refuse("a session on interface %q is between the two ends of that link: leave out sourceAddress, vrf and ebgpMultiHop, or set peerAddress", spec.Interface)
	case s.Address.IsValid() && s.Source.IsValid() && s.Address.Is4() != s.Source.Is4():
		refuse("sourceAddress %s and peerAddress %s are of two families: use addresses of one", s.Source, s.Address)
	}
	if s.RouterID.IsValid() && !s.RouterID.Is4() {
		refuse("routerID: %q is not in the form of an IPv4 address: write it like 192.0.2.10", spec.RouterID)
	}
	if s.TTLSecurity > 0 && s.MultiHop {
		refuse("ttlSecurity and ebgpMultiHop exclude each other: ttlSecurity says how far away the router may be by itself")
	}
}

// aliases reads the names that Communities give. Of two that give one name the elder counts.
func (p *parser) aliases(all []v1beta1.Community) map[string]BGPCommunity {
	known := map[string]BGPCommunity{}
	givenBy := map[string]string{}
	for _, wire := range elderFirst(all) {
		for i, alias := range wire.Spec.Communities {
			value, err := ParseCommunity(alias.Value)
			if err != nil {
				p.problem(KindCommunity, wire.Name, ReasonInvalidCommunity, "communities[%d]: %v", i, err)
				continue
			}
			if _, is := wellKnown(alias.Name); is {
				p.problem(KindCommunity, wire.Name, ReasonDuplicate, "communities[%d]: %s is a well-known community: choose another name", i, alias.Name)
				continue
			}
			if elder, is := givenBy[alias.Name]; is {
				p.problem(KindCommunity, wire.Name, ReasonDuplicate, "communities[%d]: Community %s gives the name %s already: choose another", i, elder, alias.Name)
				continue
			}
			known[alias.Name], givenBy[alias.Name] = value, wire.Name
		}
	}
	return known
}

func (p *parser) advertisement(wire v1beta1.BGPAdvertisement, aliases map[string]BGPCommunity) (accepted bool) {
	spec, name := wire.Spec, wire.Name
	refused := false
	number := func(field string, value *int32, least, most int32) int {
		if value == nil {
			return int(most)
		}
		if *value < least || *value > most {
			p.problem(KindBGPAdvertisement, name, ReasonInvalidValue, "%s is %d: set it to %d to %d", field, *value, least, most)
			refused = true
		}
		return int(*value)
	}
	unsigned := func(field string, value *int64) *uint32 {
		if value == nil {
			return nil
		}
		if *value < 0 || *value > 1<<32-1 {
			p.problem(KindBGPAdvertisement, name, ReasonInvalidValue, "%s is %d: set it to 0 to 4294967295", field, *value)
			refused = true
		}
		n := uint32(*value)
		return &n
	}
	a := BGPAdvertisement{
		Name: name,
		Selection: p.selection(KindBGPAdvertisement, name, wireSelection{spec.IPAddressPools, spec.IPAddressPoolSelectors,
			spec.ServiceSelectors, spec.NodeSelectors}),
		Peers:     spec.Peers,
		Lengths:   Lengths{IPv4: number("aggregationLength", spec.AggregationLength, 1, 32), IPv6: number("aggregationLengthV6", spec.AggregationLengthV6, 1, 128)},
		LocalPref: unsigned("localPref", spec.LocalPref),
		MED:       unsigned("med", spec.MED),
		Prepend:   int(spec.ASPathPrepend),
	}
	if a.Prepend < 0 || a.Prepend > 10 {
		p.problem(KindBGPAdvertisement, name, ReasonInvalidValue, "asPathPrepend is %d: set it to 0 to 10", a.Prepend)
		refused = true
	}
	for _, peer := range a.Peers {
		if !slices.ContainsFunc(p.config.Peers, func(known BGPPeer) bool { return known.Name == peer }) {
			p.problem(KindBGPAdvertisement, name, ReasonUnknownPeer, "peers names %q, but there is no BGPPeer of that name that is accepted: create it or correct the name", peer)
		}
	}
	a.Communities = p.communities(wire, aliases)
	if refused {
		return false
	}
	p.config.BGP = append(p.config.BGP, a)
	return true
}

// communities reads what an advertisement announces with. What cannot be read is left out, so that a name that is taken away takes no
// route with it.
func (p *parser) communities(wire v1beta1.BGPAdvertisement, aliases map[string]BGPCommunity) []BGPCommunity {
	var out []BGPCommunity
	for _, text := range wire.Spec.Communities {
		c, known := aliases[text]
		if !known {
			c, known = wellKnown(text)
		}
		if !known {
			var err error
			if c, err = ParseCommunity(text); err != nil {
				p.problem(KindBGPAdvertisement, wire.Name, ReasonUnknownCommunity,
					"communities: %v, a well-known name such as no-export, or a name that a Community gives; until then it is announced without", err)
				continue
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, BGPCommunity.Compare)
	return slices.Compact(out)
}

// preferenceOnce warns where an elder advertisement gives the same routes another local preference: it is the elder one's that counts.
func (p *parser) preferenceOnce(wire v1beta1.BGPAdvertisement, elders []v1beta1.BGPAdvertisement) {
	younger := p.config.advertisement(wire.Name)
	for _, other := range elders {
		elder := p.config.advertisement(other.Name)
		if younger.LocalPref == nil || elder.LocalPref == nil || *younger.LocalPref == *elder.LocalPref || younger.Lengths != elder.Lengths ||
			!reflect.DeepEqual(wire.Spec.ServiceSelectors, other.Spec.ServiceSelectors) {
			continue
		}
		if pool, peer := p.common(elder, younger); pool != "" && peer != "" {
			p.problem(KindBGPAdvertisement, wire.Name, ReasonLocalPref, "localPref is %d, but BGPAdvertisement %s announces pool %s to peer %s with %d, and it is the elder: "+
				"set both to one value, or let them select other pools or peers", *younger.LocalPref, elder.Name, pool, peer, *elder.LocalPref)
		}
	}
}

// common is a pool and a peer that two advertisements both announce.
func (p *parser) common(a, b BGPAdvertisement) (pool, peer string) {
	for _, one := range p.config.Pools {
		if a.SelectsPool(one) && b.SelectsPool(one) {
			pool = one.Name
		}
	}
	for _, one := range p.config.Peers {
		if a.SelectsPeer(one.Name) && b.SelectsPeer(one.Name) {
			peer = one.Name
		}
	}
	return pool, peer
}

// advertisement returns one that has been accepted.
func (c Config) advertisement(name string) BGPAdvertisement {
	return c.BGP[slices.IndexFunc(c.BGP, func(a BGPAdvertisement) bool { return a.Name == name })]
}

// wireSelection is what advertisements of every kind select by.
type wireSelection struct {
	pools                          []string
	poolSelectors, services, nodes []metav1.LabelSelector
}

func (p *parser) selection(kind, name string, wire wireSelection) Selection {
	s := Selection{
		AllPools:         len(wire.pools)+len(wire.poolSelectors) == 0,
		Pools:            wire.pools,
		PoolSelectors:    p.selectors(kind, name, "ipAddressPoolSelectors", wire.poolSelectors),
		ServiceSelectors: p.selectors(kind, name, "serviceSelectors", wire.services),
		NodeSelectors:    p.selectors(kind, name, "nodeSelectors", wire.nodes),
	}
	for _, pool := range wire.pools {
		if _, found := p.config.Pool(pool); !found {
			p.problem(kind, name, ReasonUnknownPool, "ipAddressPools names %q, but there is no IPAddressPool of that name: create it or correct the name%s", pool, p.didYouMean())
		}
	}
	return s
}
