package l2

import (
	"encoding/binary"
	"net/netip"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// arpFrameLen is the length of an Ethernet header and an IPv4-over-Ethernet ARP packet.
const arpFrameLen = ethLen + 28

const (
	arpRequest = 1
	arpReply   = 2
)

// answerARP reads one Ethernet frame and, if it asks for an address of ours, writes the reply into out, which must hold
// arpFrameLen bytes. It is a hand-written codec because arp.Packet allocates; the tests hold it against arp.Packet byte
// for byte.
func (o *owned) answerARP(frame, out []byte) (reply []byte, h heard) {
	if len(frame) < arpFrameLen || binary.BigEndian.Uint16(frame[12:]) != etherTypeARP {
		h.malformed = true
		return nil, h
	}
	p := frame[ethLen:arpFrameLen]
	// RFC 826 "Packet Reception": "Do I have the hardware type in ar$hrd?", "Do I speak the protocol in ar$pro?", with
	// the lengths checked.
	if binary.BigEndian.Uint16(p[0:]) != 1 || binary.BigEndian.Uint16(p[2:]) != etherTypeIPv4 || p[4] != 6 || p[5] != 4 {
		h.malformed = true
		return nil, h
	}
	op := binary.BigEndian.Uint16(p[6:])
	sha, spa := cluster.MAC(p[8:14]), netip.AddrFrom4([4]byte(p[14:18]))
	tpa := netip.AddrFrom4([4]byte(p[24:28]))
	// RFC 1812 3.3.2: a router "MUST not believe any ARP reply that claims that the Link Layer address of another host
	// or router is a broadcast or multicast address"; and a reply to such a request would be one to everybody.
	if !station(sha) {
		h.malformed = true
		return nil, h
	}
	// Our own frame, sent back by a switch or a bond.
	if sha == o.mac || (op != arpRequest && op != arpReply) || !o.forUs(frame) {
		return nil, h
	}
	// RFC 5227 2.4: "any ARP packet (Request *or* Reply) where the 'sender IP address' is (one of) the host's own IP
	// address(es) ... but the 'sender hardware address' does not match any of the host's own interface addresses".
	o.claim(&h, spa, sha)
	h.answer = op == arpReply && cluster.MAC(frame[:6]) == o.mac
	if op == arpRequest && spa.IsUnspecified() {
		o.rival(&h, tpa, sha)
	}
	// RFC 826: "Am I the target protocol address?" and "Is the opcode ares_op$REQUEST?". A request with equal sender and
	// target is an announcement (RFC 5227 2.3): it asks nothing.
	if op != arpRequest || tpa == spa {
		return nil, h
	}
	e, ok := o.answered(tpa)
	if !ok || spa.IsUnspecified() && o.passes(e, sha) {
		return nil, h
	}
	h.asked = e
	// RFC 826: swap, put the local addresses in the sender fields, "send the packet to the (new) target hardware
	// address". A probe (RFC 5227 2.1.1: sender IP zero) gets the same reply: it is what defends the address.
	reply = out[:arpFrameLen]
	q := putEthernet(reply, sha, o.mac, etherTypeARP)
	copy(q[0:6], p[0:6])
	q[6], q[7] = 0, arpReply
	copy(q[8:14], o.mac[:])
	copy(q[14:18], p[24:28])
	copy(q[18:28], p[8:18])
	return reply, h
}
