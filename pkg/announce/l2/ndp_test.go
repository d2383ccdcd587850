package l2

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// ndpCase is one row: a packet, and what has to become of it.
type ndpCase struct {
	name      string
	packet    ndpPacket
	malformed bool
	claimed   bool
	// The expected answer; an invalid dst means none.
	dst       netip.Addr
	dstMAC    cluster.MAC
	solicited bool
}

var (
	hostLL   = addr("fe80::aa")
	allNode  = addr("ff02::1")
	allMAC   = mac("33:33:00:00:00:01")
	anyAddr  = addr("::")
	foreign6 = addr("2001:db8::ffff")
)

// solicit is a multicast solicitation as RFC 4861 4.3 has it; change edits it.
func solicit(change func(*ndpPacket)) ndpPacket {
	g, gm := groupOf(vip6)
	p := ndpPacket{dstMAC: gm, srcMAC: asker, src: hostLL, dst: g,
		message: &ndp.NeighborSolicitation{TargetAddress: vip6, Options: []ndp.Option{sourceLink(asker)}}}
	if change != nil {
		change(&p)
	}
	return p
}

// advert is another station's unsolicited advertisement of our address; change edits it.
func advert(change func(*ndpPacket)) ndpPacket {
	p := ndpPacket{dstMAC: allMAC, srcMAC: otherMAC, src: vip6, dst: allNode,
		message: &ndp.NeighborAdvertisement{Override: true, TargetAddress: vip6, Options: []ndp.Option{targetLink(otherMAC)}}}
	if change != nil {
		change(&p)
	}
	return p
}

func ns(target netip.Addr, options ...ndp.Option) ndp.Message {
	return &ndp.NeighborSolicitation{TargetAddress: target, Options: options}
}

func TestNDPSolicitation(t *testing.T) {
	slla := mac("02:aa:00:00:00:77")
	option := func(b ...byte) func(*ndpPacket) {
		return func(p *ndpPacket) {
			p.message = ns(vip6)
			p.mangle = func(m []byte) []byte { return append(m, b...) }
		}
	}
	for _, c := range []ndpCase{
		{name: "7.2.4: multicast", packet: solicit(nil), dst: hostLL, dstMAC: asker, solicited: true},
		{name: "7.2.4: from a global address", packet: solicit(func(p *ndpPacket) { p.src = addr("2001:db8::99") }), dst: addr("2001:db8::99"), dstMAC: asker, solicited: true},
		{name: "7.2.3: the option says where, not the frame", packet: solicit(func(p *ndpPacket) { p.message = ns(vip6, sourceLink(slla)) }), dst: hostLL, dstMAC: slla, solicited: true},
		{name: "7.3.1: unicast probe", packet: solicit(func(p *ndpPacket) { p.dst, p.dstMAC = vip6, ourMAC }), dst: hostLL, dstMAC: asker, solicited: true},
		{name: "4.3: unicast probe without option", packet: solicit(func(p *ndpPacket) { p.dst, p.dstMAC, p.message = vip6, ourMAC, ns(vip6) }), dst: hostLL, dstMAC: asker, solicited: true},
		{name: "RFC 4862 5.4.3: duplicate address detection", packet: solicit(func(p *ndpPacket) { p.src, p.message = anyAddr, ns(vip6) }), dst: allNode, dstMAC: allMAC},
		{name: "RFC 7527 nonce is ignored", packet: solicit(func(p *ndpPacket) { p.src = anyAddr; option(14, 1, 1, 2, 3, 4, 5, 6)(p) }), dst: allNode, dstMAC: allMAC},
		{name: "unknown options are ignored", packet: solicit(option(200, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)), dst: hostLL, dstMAC: asker, solicited: true},
		{name: "7.1.1: an option of advertisements is ignored", packet: solicit(option(append([]byte{2, 1}, allMAC[:]...)...)), dst: hostLL, dstMAC: asker, solicited: true},
		{name: "not our target", packet: solicit(func(p *ndpPacket) { p.message = ns(foreign6, sourceLink(asker)) })},
		{name: "to another station", packet: solicit(func(p *ndpPacket) { p.dstMAC = otherMAC })},
		{name: "our own frame comes back", packet: solicit(func(p *ndpPacket) { p.srcMAC = ourMAC })},
		{name: "from the address itself", packet: solicit(func(p *ndpPacket) { p.src = vip6 })},
		{name: "not ICMPv6 type 135", packet: solicit(func(p *ndpPacket) { p.mangle = func(m []byte) []byte { m[0] = 133; return m } })},

		{name: "7.1.1: hop limit", packet: solicit(func(p *ndpPacket) { p.hopLimit = 254 }), malformed: true},
		{name: "7.1.1: checksum", packet: solicit(func(p *ndpPacket) { p.badChecksum = true }), malformed: true},
		{name: "7.1.1: code", packet: solicit(func(p *ndpPacket) { p.mangle = func(m []byte) []byte { m[1] = 1; return m } }), malformed: true},
		{name: "7.1.1: option of length zero", packet: solicit(option(1, 0, 0, 0, 0, 0, 0, 0)), malformed: true},
		{name: "7.1.1: option past the end", packet: solicit(option(1, 2, 0, 0, 0, 0, 0, 0)), malformed: true},
		{name: "option cut to one byte", packet: solicit(option(1)), malformed: true},
		{name: "7.1.1: from :: but not to a solicited-node group", packet: solicit(func(p *ndpPacket) { p.src, p.dst, p.dstMAC, p.message = anyAddr, allNode, allMAC, ns(vip6) }), malformed: true},
		{name: "7.1.1: from :: to the address", packet: solicit(func(p *ndpPacket) { p.src, p.dst, p.dstMAC, p.message = anyAddr, vip6, ourMAC, ns(vip6) }), malformed: true},
		{name: "7.1.1: from :: with a source option", packet: solicit(func(p *ndpPacket) { p.src = anyAddr }), malformed: true},
		{name: "multicast source address", packet: solicit(func(p *ndpPacket) { p.src = allNode }), malformed: true},
		{name: "multicast source option", packet: solicit(func(p *ndpPacket) { p.message = ns(vip6, sourceLink(allMAC)) }), malformed: true},
		{name: "multicast frame source", packet: solicit(func(p *ndpPacket) { p.srcMAC = allMAC }), malformed: true},
	} {
		t.Run(c.name, func(t *testing.T) { checkNDP(t, c) })
	}
}

func TestNDPAdvertisement(t *testing.T) {
	secondLink := mac("02:00:00:00:00:02")
	na := func(m ndp.NeighborAdvertisement) func(*ndpPacket) {
		return func(p *ndpPacket) { m.TargetAddress = vip6; p.message = &m }
	}
	for _, c := range []ndpCase{
		{name: "7.2.6: unsolicited", packet: advert(nil), claimed: true},
		{name: "4.4: without option the frame says who", packet: advert(na(ndp.NeighborAdvertisement{Override: true})), claimed: true},
		{name: "solicited, to us", packet: advert(func(p *ndpPacket) {
			p.dst, p.dstMAC = hostLL, ourMAC
			na(ndp.NeighborAdvertisement{Solicited: true, Options: []ndp.Option{targetLink(otherMAC)}})(p)
		}), claimed: true},
		{name: "7.1.2: an option of solicitations is ignored", packet: advert(na(ndp.NeighborAdvertisement{Options: []ndp.Option{sourceLink(castMAC), targetLink(otherMAC)}})), claimed: true},
		{name: "by another link of ours", packet: advert(na(ndp.NeighborAdvertisement{Options: []ndp.Option{targetLink(secondLink)}}))},
		{name: "of another address", packet: advert(func(p *ndpPacket) {
			p.message = &ndp.NeighborAdvertisement{TargetAddress: foreign6, Options: []ndp.Option{targetLink(otherMAC)}}
		})},
		{name: "7.1.2: solicited to a group", packet: advert(na(ndp.NeighborAdvertisement{Solicited: true})), malformed: true},
		{name: "7.1.2: hop limit", packet: advert(func(p *ndpPacket) { p.hopLimit = 64 }), malformed: true},
		{name: "7.1.2: checksum", packet: advert(func(p *ndpPacket) { p.badChecksum = true }), malformed: true},
		{name: "7.1.2: code", packet: advert(func(p *ndpPacket) { p.mangle = func(m []byte) []byte { m[1] = 9; return m } }), malformed: true},
		{name: "7.1.2: option of length zero", packet: advert(func(p *ndpPacket) {
			p.mangle = func(m []byte) []byte { m[25] = 0; return m }
		}), malformed: true},
		{name: "target option is a group", packet: advert(na(ndp.NeighborAdvertisement{Options: []ndp.Option{targetLink(castMAC)}})), malformed: true},
	} {
		t.Run(c.name, func(t *testing.T) { checkNDP(t, c) })
	}
}

func checkNDP(t *testing.T, c ndpCase) {
	t.Helper()
	own := ownedBy(ourMAC, vip6)
	own.who.ours = append(own.who.ours, mac("02:00:00:00:00:02"))
	var out [ndpFrameMax]byte
	reply, h := own.answerNDP(c.packet.frame(), out[:])
	answered := c.dst.IsValid()
	if (reply != nil) != answered || (h.asked != nil) != answered || h.malformed != c.malformed || (h.claims != nil) != c.claimed {
		t.Fatalf("replied %v, heard %+v", reply != nil, h)
	}
	if c.claimed && (h.claimed != vip6 || h.by != otherMAC) {
		t.Fatalf("heard %+v", h)
	}
	if !answered {
		return
	}
	want := ndpPacket{dstMAC: c.dstMAC, srcMAC: ourMAC, src: vip6, dst: c.dst, message: &ndp.NeighborAdvertisement{
		Solicited: c.solicited, Override: true, TargetAddress: vip6, Options: []ndp.Option{targetLink(ourMAC)}}}.frame()
	if !bytes.Equal(reply, want) {
		t.Fatalf("reply\n%x, want\n%x", reply, want)
	}
}

// What is too short or not IPv6 cannot be built by the library.
func TestNDPBytes(t *testing.T) {
	good := solicit(nil).frame()
	mangled := func(change func(f []byte) []byte) []byte { return change(slices.Clone(good)) }
	for _, c := range []struct {
		name      string
		frame     []byte
		malformed bool
	}{
		{"empty", nil, true},
		{"Ethernet header only", good[:14], true},
		{"7.1.1: shorter than 24", good[:ndpFrameMin-1], true},
		{"7.1.1: IP says shorter than 24", mangled(func(f []byte) []byte { f[19] = 23; return f }), true},
		{"IP says longer than the frame", mangled(func(f []byte) []byte { f[18], f[19] = 4, 0; return f }), true},
		{"not IPv6", mangled(func(f []byte) []byte { f[14] = 0x45; return f }), true},
		{"another ethertype", mangled(func(f []byte) []byte { f[12] = 0x08; return f }), true},
		{"another protocol", mangled(func(f []byte) []byte { f[20] = 17; return f }), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			reply, h := ownedBy(ourMAC, vip6).answerNDP(c.frame, make([]byte, ndpFrameMax))
			if reply != nil || h.asked != nil || h.malformed != c.malformed {
				t.Errorf("replied %v, heard %+v", reply != nil, h)
			}
		})
	}
	// Ethernet padding behind the packet is not part of it.
	if reply, _ := ownedBy(ourMAC, vip6).answerNDP(append(slices.Clone(good), 1, 2, 3), make([]byte, ndpFrameMax)); reply == nil {
		t.Error("a padded solicitation is not answered")
	}
	// 7.1.1: "Target Address is not a multicast address": not even if somebody made us own one.
	group := addr("ff02::1:ff0a:b0c")
	p := solicit(func(p *ndpPacket) {
		p.mangle = func(m []byte) []byte { b := group.As16(); copy(m[8:24], b[:]); return m }
	})
	if reply, h := ownedBy(ourMAC, group).answerNDP(p.frame(), make([]byte, ndpFrameMax)); reply != nil || !h.malformed {
		t.Error("a multicast target is answered")
	}
}

func TestUnsolicitedAdvertisement(t *testing.T) {
	frames := must(announcement(vip6, ourMAC))
	if len(frames) != 1 || announcementFrames(vip6) != 1 {
		t.Fatalf("%d frames", len(frames))
	}
	want := ndpPacket{dstMAC: allMAC, srcMAC: ourMAC, src: vip6, dst: allNode, message: &ndp.NeighborAdvertisement{
		Override: true, TargetAddress: vip6, Options: []ndp.Option{targetLink(ourMAC)}}}.frame()
	if !bytes.Equal(frames[0], want) {
		t.Errorf("\n%x, want\n%x", frames[0], want)
	}
	var f ethernet.Frame
	if err := f.UnmarshalBinary(frames[0]); err != nil {
		t.Error(err)
	}
	if _, h := ownedBy(otherMAC, vip6).answerNDP(frames[0], make([]byte, ndpFrameMax)); h.claimed != vip6 || h.by != ourMAC {
		t.Errorf("it is not heard as a claim: %+v", h)
	}
}

func TestSolicitedNodes(t *testing.T) {
	got := solicitedNodes([]netip.Addr{addr("2001:db8::2:1"), addr("2001:db8:1::2:1"), addr("2001:db8::1:1")})
	want := []netip.Addr{addr("ff02::1:ff01:1"), addr("ff02::1:ff02:1")}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, a := range got {
		if !solicitedNode(a) {
			t.Errorf("%v is not one", a)
		}
	}
	if solicitedNode(allNode) || solicitedNode(vip6) {
		t.Error("others are")
	}
}
