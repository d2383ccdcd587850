package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// deferral is how long routes are held back after a restart for a peer that does not say that it has sent all of its own.
const deferral = 5 * time.Second

func ipv4() *api.Family { return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST} }
func ipv6() *api.Family { return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST} }

func familyOf(a netip.Addr) *api.Family {
	if a.Is4() {
		return ipv4()
	}
	return ipv6()
}

// neighbor is what gobgp calls the peer of a session: the relay at a port of this node.
func neighbor(want announce.BGPSession, port uint16) *api.Peer {
	s := want.Session
	families := []*api.Family{familyOf(s.Address)}
	if want.DualStack {
		families = []*api.Family{ipv4(), ipv6()}
	}
	seconds := func(d time.Duration) uint64 { return uint64(d / time.Second) }
	p := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: "127.0.0.1", PeerAsn: s.PeerASN, LocalAsn: s.Own()},
		Transport: &api.Transport{RemotePort: uint32(port)},
		Timers: &api.Timers{Config: &api.TimersConfig{HoldTime: seconds(s.Hold), KeepaliveInterval: seconds(s.Keepalive),
			ConnectRetry: seconds(s.Connect), IdleHoldTimeAfterReset: 1}},
	}
	if s.RestartTime > 0 {
		p.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: uint32(seconds(s.RestartTime)),
			DeferralTime: uint32(seconds(deferral)), LocalRestarting: true}
	}
	for _, f := range families {
		p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: f, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: s.RestartTime > 0}},
		})
	}
	return p
}

// path is a route as gobgp has it.
func path(prefix netip.Prefix, r *loaded) (*api.Path, error) {
	var p packer
	nlri := p.pack(&api.IPAddressPrefix{Prefix: prefix.Addr().String(), PrefixLen: uint32(prefix.Bits())})
	p.attribute(&api.OriginAttribute{Origin: 0}) // IGP, RFC 4271 section 5.1.1
	if r.Prepend > 0 && !r.internal {
		own := slices.Repeat([]uint32{r.own}, r.Prepend)
		p.attribute(&api.AsPathAttribute{Segments: []*api.AsSegment{{Type: api.AsSegment_AS_SEQUENCE, Numbers: own}}})
	}
	hop, family := r.hop, familyOf(prefix.Addr())
	if !hop.IsValid() { // not for long: no peer is told before this node's address is known
		hop = netip.IPv6Unspecified()
	}
	if hop.Is6() {
		p.attribute(&api.MpReachNLRIAttribute{Family: family, NextHops: []string{hop.String()}, Nlris: []*anypb.Any{nlri}})
	} else {
		p.attribute(&api.NextHopAttribute{NextHop: hop.String()})
	}
	if r.MED != nil {
		p.attribute(&api.MultiExitDiscAttribute{Med: *r.MED})
	}
	if r.LocalPref != nil && r.internal {
		p.attribute(&api.LocalPrefAttribute{LocalPref: *r.LocalPref})
	}
	p.communities(r.Communities)
	if p.err != nil {
		return nil, fmt.Errorf("a route to %s: %w", prefix, p.err)
	}
	return &api.Path{Family: family, Nlri: nlri, Pattrs: p.attributes}, nil
}

// packer packs messages into Any, and keeps the first error.
type packer struct {
	attributes []*anypb.Any
	err        error
}

func (p *packer) pack(m proto.Message) *anypb.Any {
	packed, err := anypb.New(m)
	if err != nil && p.err == nil {
		p.err = err
	}
	return packed
}

func (p *packer) attribute(m proto.Message) { p.attributes = append(p.attributes, p.pack(m)) }

func (p *packer) communities(all []config.BGPCommunity) {
	standard, large := &api.CommunitiesAttribute{}, &api.LargeCommunitiesAttribute{}
	for _, c := range all {
		if c.Large {
			large.Communities = append(large.Communities, &api.LargeCommunity{GlobalAdmin: c.Values[0], LocalData1: c.Values[1], LocalData2: c.Values[2]})
		} else {
			standard.Communities = append(standard.Communities, c.Values[0]<<16|c.Values[1])
		}
	}
	if len(standard.Communities) > 0 {
		p.attribute(standard)
	}
	if len(large.Communities) > 0 {
		p.attribute(large)
	}
}
