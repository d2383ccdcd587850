package l2

import (
	"fmt"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// announcement builds the frames that tell a segment that addr is at mac.
func announcement(addr netip.Addr, mac cluster.MAC) ([][]byte, error) {
	if addr.Is4() {
		return gratuitousARP(addr, mac)
	}
	frame, err := unsolicitedNA(addr, mac)
	return [][]byte{frame}, err
}

// announcementFrames is how many frames announcement builds.
func announcementFrames(addr netip.Addr) int {
	if addr.Is4() {
		return 2
	}
	return 1
}

// gratuitousARP builds both forms of an announcement, because some gear listens to only one of them: the request of
// RFC 5227 2.3, with sender and target address equal and no target hardware address, and the reply of RFC 5944 4.6,
// with both hardware addresses ours.
func gratuitousARP(addr netip.Addr, mac cluster.MAC) ([][]byte, error) {
	request, err := arpFrame(arp.OperationRequest, addr, addr, mac, cluster.MAC{})
	if err != nil {
		return nil, err
	}
	reply, err := arpFrame(arp.OperationReply, addr, addr, mac, mac)
	return [][]byte{request, reply}, err
}

// probe builds the frame that asks a segment whether somebody has addr, without saying anything about it: the probe of
// RFC 5227 2.1.1, with a sender address of zero, or the solicitation of RFC 4862 5.4.2, from the unspecified address.
func probe(addr netip.Addr, mac cluster.MAC) ([]byte, error) {
	if addr.Is4() {
		return arpFrame(arp.OperationRequest, netip.IPv4Unspecified(), addr, mac, cluster.MAC{})
	}
	dst, dstMAC := solicitedNodeOf(addr)
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{TargetAddress: addr}, netip.IPv6Unspecified(), dst)
	if err != nil {
		return nil, fmt.Errorf("building a solicitation of %s: %w", addr, err)
	}
	return icmpFrame(message, netip.IPv6Unspecified(), dst, mac, dstMAC)
}

func arpFrame(op arp.Operation, from, addr netip.Addr, mac, target cluster.MAC) ([]byte, error) {
	p, err := arp.NewPacket(op, mac[:], from, target[:], addr)
	if err != nil {
		return nil, fmt.Errorf("building an ARP packet for %s: %w", addr, err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("building an ARP packet for %s: %w", addr, err)
	}
	f := ethernet.Frame{Destination: ethernet.Broadcast, Source: mac[:], EtherType: ethernet.EtherTypeARP, Payload: payload}
	return f.MarshalBinary()
}

// unsolicitedNA builds an unsolicited advertisement to all nodes (RFC 4861 7.2.6): Solicited zero, Override set so that
// what neighbours remember is replaced.
func unsolicitedNA(addr netip.Addr, mac cluster.MAC) ([]byte, error) {
	dst, dstMAC := allNodes(), allNodesMAC()
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac[:]}},
	}, addr, dst)
	if err != nil {
		return nil, fmt.Errorf("building an unsolicited advertisement of %s: %w", addr, err)
	}
	return icmpFrame(message, addr, dst, mac, dstMAC)
}

// icmpFrame puts an ICMPv6 message into a packet and a frame.
func icmpFrame(message []byte, src, dst netip.Addr, from, to cluster.MAC) ([]byte, error) {
	payload := make([]byte, ipv6Len, ipv6Len+len(message))
	putIPv6(payload, len(message), src, dst)
	f := ethernet.Frame{Destination: to[:], Source: from[:], EtherType: ethernet.EtherTypeIPv6, Payload: append(payload, message...)}
	return f.MarshalBinary()
}
