package l2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// WhoHas asks a link's segment for an address as any station does that wants to reach it (RFC 826, RFC 4861 7.2.2), and returns the
// hardware addresses of those that answered within a time, sorted. It says nothing about the address, and needs CAP_NET_RAW. The link must
// have an address of the same family.
func WhoHas(link cluster.Link, addr netip.Addr, within time.Duration) ([]cluster.MAC, error) {
	own, err := ownAddress(link, addr)
	if err != nil {
		return nil, err
	}
	frame, err := request(addr, own, link.MAC)
	if err != nil {
		return nil, err
	}
	proto := unix.ETH_P_ARP
	if addr.Is6() {
		proto = unix.ETH_P_IPV6
	}
	conn, err := packet.Listen(&net.Interface{Name: link.Name, Index: link.Index, HardwareAddr: link.MAC[:]}, packet.Raw, proto, nil)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", link.Name, err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, fmt.Errorf("set a deadline: %w", err)
	}
	if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}); err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", link.Name, addr, err)
	}
	var stations []cluster.MAC
	for in := make([]byte, ndpFrameMax); ; {
		n, _, err := conn.ReadFrom(in)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			slices.SortFunc(stations, cluster.MAC.Compare)
			return slices.Compact(stations), nil
		}
		if err != nil {
			return nil, fmt.Errorf("hear answers on %s: %w", link.Name, err)
		}
		if mac, answers := answerOf(in[:n], addr); answers && mac != link.MAC {
			stations = append(stations, mac)
		}
	}
}

// ownAddress is an address of the link that can ask for another: one in whose subnet that is, or else any of its family.
func ownAddress(link cluster.Link, addr netip.Addr) (own netip.Addr, err error) {
	for _, p := range link.Prefixes {
		if p.Addr().Is4() == addr.Is4() && (!own.IsValid() || p.Contains(addr)) {
			own = p.Addr()
		}
	}
	if !own.IsValid() {
		return own, fmt.Errorf("%s has no address of the family of %s to ask from", link.Name, addr)
	}
	return own, nil
}

// request builds the frame that a station sends before it sends anything to an address.
func request(addr, own netip.Addr, mac cluster.MAC) ([]byte, error) {
	if addr.Is4() {
		return arpFrame(arp.OperationRequest, own, addr, mac, cluster.MAC{})
	}
	dst, dstMAC := solicitedNodeOf(addr)
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{TargetAddress: addr,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac[:]}}}, own, dst)
	if err != nil {
		return nil, fmt.Errorf("building a solicitation of %s: %w", addr, err)
	}
	return icmpFrame(message, own, dst, mac, dstMAC)
}

// answerOf returns who says in a frame that it has an address.
func answerOf(frame []byte, addr netip.Addr) (mac cluster.MAC, answers bool) {
	if addr.Is4() {
		if len(frame) < arpFrameLen || binary.BigEndian.Uint16(frame[12:]) != etherTypeARP {
			return mac, false
		}
		p := frame[ethLen:arpFrameLen]
		return cluster.MAC(p[8:14]), binary.BigEndian.Uint16(p[6:]) == arpReply && netip.AddrFrom4([4]byte(p[14:18])) == addr
	}
	if len(frame) < ndpFrameMin || binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv6 || frame[ethLen+6] != protocolICMPv6 {
		return mac, false
	}
	n, ok := parseNeighbor(frame)
	if !ok || n.kind != typeAdvertisement || n.target != addr {
		return mac, false
	}
	if n.hasTarget {
		return n.targetLink, true
	}
	return cluster.MAC(frame[6:12]), true
}
