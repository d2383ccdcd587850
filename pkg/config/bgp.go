package config

import (
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Selection says which addresses an advertisement announces, and from which nodes.
type Selection struct {
	AllPools         bool
	Pools            []string
	PoolSelectors    []labels.Selector
	ServiceSelectors []labels.Selector // empty: all
	NodeSelectors    []labels.Selector // empty: all
}

// SelectsPool reports whether the advertisement announces the addresses of a pool.
func (s Selection) SelectsPool(p Pool) bool {
	return s.AllPools || slices.Contains(s.Pools, p.Name) || matchesAny(s.PoolSelectors, p.Labels)
}

// SelectsService reports whether the advertisement announces a Service that has these labels.
func (s Selection) SelectsService(serviceLabels map[string]string) bool {
	return len(s.ServiceSelectors) == 0 || matchesAny(s.ServiceSelectors, serviceLabels)
}

// SelectsNode reports whether a node with these labels may announce.
func (s Selection) SelectsNode(nodeLabels map[string]string) bool {
	return len(s.NodeSelectors) == 0 || matchesAny(s.NodeSelectors, nodeLabels)
}

// BGPPeer is a parsed BGPPeer that sessions can be had with.
type BGPPeer struct {
	Name string
	// Session is what a session is made of: when it differs, the session is another one.
	Session       BGPSession
	NodeSelectors []labels.Selector // empty: all
	// PasswordSecret is the name of the Secret that has the password; empty for none.
	PasswordSecret string
	// BFD is how BFD is run beside the session; nil for not at all.
	BFD *BFDProfile
	// DualStack announces both families over the session; otherwise that of its addresses alone.
	DualStack bool
}

// SelectsNode reports whether a node with these labels has the session.
func (p BGPPeer) SelectsNode(nodeLabels map[string]string) bool {
	return len(p.NodeSelectors) == 0 || matchesAny(p.NodeSelectors, nodeLabels)
}

// BGPSession is what both ends of a session agree on, and how they reach each other. It is comparable.
type BGPSession struct {
	MyASN    uint32 `json:"myASN"`
	LocalASN uint32 `json:"localASN,omitempty"` // what the peer sees instead of MyASN; 0: nothing else
	PeerASN  uint32 `json:"peerASN,omitempty"`  // 0: any but MyASN
	Internal bool   `json:"internal,omitempty"` // the peer is of MyASN

	Address   netip.Addr `json:"address"`             // invalid: the router on Interface
	Interface string     `json:"interface,omitempty"` // unnumbered
	Port      uint16     `json:"port"`
	Source    netip.Addr `json:"source"`             // invalid: as the routes have it
	RouterID  netip.Addr `json:"routerID"`           // invalid: the node's
	VRF       string     `json:"vrf,omitempty"`      // device
	MultiHop  bool       `json:"multiHop,omitempty"` // eBGP over routers
	// TTLSecurity is how many hops away the peer may be at most, RFC 5082; 0: not checked.
	TTLSecurity int `json:"ttlSecurity,omitempty"`

	// Whole seconds. RestartTime is of RFC 4724; 0: no graceful restart.
	Hold, Keepalive, Connect, RestartTime time.Duration
}

// SameRouter reports whether two sessions are with one router.
func (s BGPSession) SameRouter(other BGPSession) bool {
	return s.Address == other.Address && s.Interface == other.Interface && s.VRF == other.VRF
}

// StandsWith reports whether a session goes on when its settings become others: all but timers open it anew.
func (s BGPSession) StandsWith(other BGPSession) bool {
	s.Hold, s.Keepalive, s.Connect = other.Hold, other.Keepalive, other.Connect
	return s == other
}

// Instead returns the elder BGPPeer, by its position, that has the session which a node would have with the router of another; -1 where none
// has.
func (c Config) Instead(peer int, nodeLabels map[string]string) int {
	return slices.IndexFunc(c.Peers[:peer], func(elder BGPPeer) bool {
		return elder.Session.SameRouter(c.Peers[peer].Session) && elder.SelectsNode(nodeLabels)
	})
}

// Own is the AS number that the peer sees.
func (s BGPSession) Own() uint32 {
	if s.LocalASN != 0 {
		return s.LocalASN
	}
	return s.MyASN
}

// BFDProfile is a parsed BFDProfile.
type BFDProfile struct {
	Receive, Transmit time.Duration
	Multiplier        uint8
	Passive           bool
	Echo              time.Duration // 0 for none
	MinimumTTL        uint8         // over several hops
}

// BGPAdvertisement is a parsed BGPAdvertisement.
type BGPAdvertisement struct {
	Name string
	Selection
	Peers       []string // empty: all
	Lengths     Lengths
	LocalPref   *uint32
	MED         *uint32
	Prepend     int // how many times more than once the own AS is in the path
	Communities []BGPCommunity
}

// Lengths are of the prefixes that addresses are announced by.
type Lengths struct{ IPv4, IPv6 int }

// Prefix is what an address is announced by.
func (l Lengths) Prefix(a netip.Addr) netip.Prefix {
	bits := l.IPv6
	if a.Is4() {
		bits = l.IPv4
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// Everything is what IPAddressPool.spec.advertise stands for: all nodes, all peers, and nothing beside the addresses.
func Everything() BGPAdvertisement { return BGPAdvertisement{Lengths: Lengths{IPv4: 32, IPv6: 128}} }

// Carries reports whether a session with the peer announces a family.
func (p *BGPPeer) Carries(v6 bool) bool {
	return p.DualStack || p.Session.Interface != "" || p.Session.Address.Is6() == v6
}

// SelectsPeer reports whether the advertisement announces to a peer.
func (a *BGPAdvertisement) SelectsPeer(name string) bool {
	return len(a.Peers) == 0 || slices.Contains(a.Peers, name)
}
