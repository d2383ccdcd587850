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
	request, err := arpFrame(arp.OperationRequest, addr, mac, cluster.MAC{})
	if err != nil {
		return nil, err
	}
	reply, err := arpFrame(arp.OperationReply, addr, mac, mac)
	return [][]byte{request, reply}, err
}

func arpFrame(op arp.Operation, addr netip.Addr, mac, target cluster.MAC) ([]byte, error) {
	p, err := arp.NewPacket(op, mac[:], addr, target[:], addr)
	if err != nil {
		return nil, fmt.Errorf("building an ARP announcement of %s: %w", addr, err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("building an ARP announcement of %s: %w", addr, err)
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
	payload := make([]byte, ipv6Len, ipv6Len+len(message))
	putIPv6(payload, addr, dst)
	f := ethernet.Frame{Destination: dstMAC[:], Source: mac[:], EtherType: ethernet.EtherTypeIPv6, Payload: append(payload, message...)}
	return f.MarshalBinary()
}
