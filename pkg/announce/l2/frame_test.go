package l2

import (
	"net/netip"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// The frames of tests are built by the libraries that the codecs are held against.

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func mac(s string) cluster.MAC { return must(cluster.ParseMAC(s)) }

var (
	ourMAC   = mac("02:00:00:00:00:01")
	otherMAC = mac("02:bb:00:00:00:02")
	zeroMAC  = cluster.MAC{}
	castMAC  = mac("ff:ff:ff:ff:ff:ff")
	vip4     = addr("192.0.2.10")
	vip6     = addr("2001:db8::a:b0c")
)

func ethernetFrame(dst, src cluster.MAC, kind ethernet.EtherType, payload []byte) []byte {
	f := ethernet.Frame{Destination: dst[:], Source: src[:], EtherType: kind, Payload: payload}
	return must(f.MarshalBinary())
}

func arpPacket(op arp.Operation, dst, sha cluster.MAC, spa netip.Addr, tha cluster.MAC, tpa netip.Addr) []byte {
	p := must(arp.NewPacket(op, sha[:], spa, tha[:], tpa))
	return ethernetFrame(dst, sha, ethernet.EtherTypeARP, must(p.MarshalBinary()))
}

// ndpPacket is an NDP message in its frame, with a header that a test may want to be wrong.
type ndpPacket struct {
	dstMAC, srcMAC cluster.MAC
	src, dst       netip.Addr
	message        ndp.Message
	hopLimit       byte // 0 means 255
	raw            []byte
	mangle         func(icmp []byte) []byte // applied before the checksum is computed
	badChecksum    bool
}

func (p ndpPacket) frame() []byte {
	m := p.raw
	if m == nil {
		m = must(ndp.MarshalMessage(p.message))
	}
	if p.mangle != nil {
		m = p.mangle(m)
	}
	ip := make([]byte, 40, 40+len(m))
	ip[0], ip[5], ip[6], ip[7] = 0x60, byte(len(m)), 58, 255
	if p.hopLimit != 0 {
		ip[7] = p.hopLimit
	}
	s, d := p.src.As16(), p.dst.As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
	ip = append(ip, m...)
	ip[42], ip[43] = 0, 0
	sum := ^slowChecksum(ip)
	if p.badChecksum {
		sum++
	}
	ip[42], ip[43] = byte(sum>>8), byte(sum)
	return ethernetFrame(p.dstMAC, p.srcMAC, ethernet.EtherTypeIPv6, ip)
}

// slowChecksum adds up byte by byte, in the words of RFC 1071.
func slowChecksum(ip []byte) uint16 {
	pseudo := append([]byte{}, ip[8:40]...)
	n := len(ip) - 40
	pseudo = append(pseudo, 0, 0, byte(n>>8), byte(n), 0, 0, 0, 58)
	pseudo = append(pseudo, ip[40:]...)
	if len(pseudo)%2 == 1 {
		pseudo = append(pseudo, 0)
	}
	var sum uint64
	for i := 0; i < len(pseudo); i += 2 {
		sum += uint64(pseudo[i])*256 + uint64(pseudo[i+1])
		if sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

func sourceLink(m cluster.MAC) ndp.Option {
	return &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: m[:]}
}

func targetLink(m cluster.MAC) ndp.Option {
	return &ndp.LinkLayerAddress{Direction: ndp.Target, Addr: m[:]}
}

func groupOf(a netip.Addr) (netip.Addr, cluster.MAC) {
	g := must(ndp.SolicitedNodeMulticast(a))
	b := g.As16()
	return g, cluster.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// question asks for an address the way that a neighbour with an empty cache does.
func question(t testing.TB, a netip.Addr, from cluster.MAC) []byte {
	t.Helper()
	if a.Is4() {
		return arpPacket(arp.OperationRequest, castMAC, from, addr("192.0.2.200"), zeroMAC, a)
	}
	g, gm := groupOf(a)
	return ndpPacket{dstMAC: gm, srcMAC: from, src: addr("fe80::aa"), dst: g,
		message: &ndp.NeighborSolicitation{TargetAddress: a, Options: []ndp.Option{sourceLink(from)}}}.frame()
}

// claimOf announces an address the way that a new owner does.
func claimOf(a netip.Addr, from cluster.MAC) []byte {
	return must(announcement(a, from))[0]
}

// ownedBy returns a set that answers for the addresses.
func ownedBy(m cluster.MAC, addrs ...netip.Addr) *owned {
	o := &owned{mac: m, who: stations{ours: []cluster.MAC{m}}, addrs: map[netip.Addr]*ear{}}
	for _, a := range addrs {
		o.addrs[a] = &ear{}
		o.addrs[a].mode.Store(answering)
	}
	return o
}
