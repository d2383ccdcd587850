package l2

import (
	"encoding/binary"
	"net/netip"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

const (
	ipv6Len        = 40
	ndpLen         = 24 // ICMPv6 header, flags or reserved, target address
	linkOptionLen  = 8  // a link-layer address option for Ethernet (RFC 2464 6)
	ndpFrameMin    = ethLen + ipv6Len + ndpLen
	ndpReplyLen    = ndpFrameMin + linkOptionLen
	ndpFrameMax    = 2048 // what a reader's buffer holds; a solicitation has some 100 bytes
	protocolICMPv6 = 58

	typeSolicitation  = 135
	typeAdvertisement = 136
	optionSourceLink  = 1
	optionTargetLink  = 2

	flagSolicited = 0x40
	flagOverride  = 0x20
)

// neighbor is a Neighbor Solicitation or Advertisement, as read from a frame.
type neighbor struct {
	kind     byte
	src, dst netip.Addr
	target   netip.Addr
	flags    byte
	body     []byte // the whole ICMPv6 message

	hasSource, hasTarget bool // which link-layer options there are
	source, targetLink   cluster.MAC
}

// answerNDP reads one Ethernet frame and, if it solicits an address of ours, writes the advertisement into out, which
// must hold ndpReplyLen bytes. It is a hand-written codec because ndp.ParseMessage allocates; the tests hold it against
// the ndp package byte for byte.
func (o *owned) answerNDP(frame, out []byte) (reply []byte, h heard) {
	if len(frame) < ndpFrameMin || binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv6 {
		h.malformed = true
		return nil, h
	}
	sender := cluster.MAC(frame[6:12])
	kind := frame[ethLen+ipv6Len]
	if frame[ethLen+6] != protocolICMPv6 || (kind != typeSolicitation && kind != typeAdvertisement) ||
		sender == o.mac || !o.forUs(frame) {
		return nil, h
	}
	// Looking the target up before anything is validated keeps what is not for us cheap, however much of it there is.
	target := netip.AddrFrom16([16]byte(frame[ethLen+ipv6Len+8:]))
	if _, known := o.addrs[target]; !known {
		return nil, h
	}
	n, ok := parseNeighbor(frame)
	if !ok || !station(sender) {
		h.malformed = true
		return nil, h
	}
	if kind == typeAdvertisement {
		// RFC 4861 4.4: without the option the address is that of the frame.
		at := sender
		if n.hasTarget {
			at = n.targetLink
		}
		o.claim(&h, target, at)
		h.answer = cluster.MAC(frame[:6]) == o.mac
		return nil, h
	}
	// RFC 4861 7.2.3: "If the Source Address is the unspecified address" there is nothing to learn and, 7.2.4, the answer
	// goes to all nodes. A solicitation from the very address that it solicits asks nothing.
	if n.src.IsUnspecified() {
		o.rival(&h, target, sender)
	}
	e, ok := o.answered(target)
	if n.src == target || !ok || n.src.IsUnspecified() && o.passes(e, sender) {
		return nil, h
	}
	h.asked = e
	return o.advertise(&n, sender, out), h
}

// advertise builds the answer to a solicitation (RFC 4861 7.2.4).
func (o *owned) advertise(n *neighbor, sender cluster.MAC, out []byte) []byte {
	reply := out[:ndpReplyLen]
	dst, link, flags := n.src, sender, byte(flagSolicited|flagOverride)
	switch {
	case n.src.IsUnspecified():
		// 7.2.4: "If the source of the solicitation is the unspecified address, the node MUST set the Solicited flag to
		// zero and multicast the advertisement to the all-nodes address."
		dst, link, flags = allNodes(), allNodesMAC(), flagOverride
		if o.who.peer(sender) {
			// In a frame to the one that asked (RFC 6085 3): it knows its answer from an announcement by that.
			link = sender
		}
	case n.hasSource:
		// 7.2.3: the Source Link-Layer Address option, if there is one, is where the sender is; 7.2.4: "Otherwise, the
		// node MUST set the Solicited flag to one and unicast the advertisement to the Source Address".
		link = n.source
	}
	ip := putEthernet(reply, link, o.mac, etherTypeIPv6)
	putIPv6(ip, ndpLen+linkOptionLen, n.target, dst)
	m := ip[ipv6Len:]
	m[0], m[1], m[2], m[3] = typeAdvertisement, 0, 0, 0
	// 7.2.4: Override is set, as the target is neither anycast nor proxied, and the option is included. The Router flag
	// is not: a Service address routes nothing.
	m[4], m[5], m[6], m[7] = flags, 0, 0, 0
	t := n.target.As16()
	copy(m[8:24], t[:])
	// 7.2.4: "the Target Link-Layer Address option MUST be included" in answer to a multicast, SHOULD to a unicast.
	m[24], m[25] = optionTargetLink, 1
	copy(m[26:32], o.mac[:])
	binary.BigEndian.PutUint16(m[2:], ^checksum(ip))
	return reply
}

// parseNeighbor reads and validates a frame of at least ndpFrameMin bytes (RFC 4861 7.1.1 and 7.1.2).
func parseNeighbor(frame []byte) (n neighbor, ok bool) {
	ip := frame[ethLen:]
	length := int(binary.BigEndian.Uint16(ip[4:]))
	if ip[0]>>4 != 6 || length > len(ip)-ipv6Len {
		return n, false
	}
	ip = ip[:ipv6Len+length]
	// 7.1.1, 7.1.2: "The IP Hop Limit field has a value of 255, i.e., the packet could not possibly have been forwarded
	// by a router"; "ICMP length (derived from the IP length) is 24 or more octets"; "ICMP Code is 0".
	if ip[7] != 255 || length < ndpLen || ip[ipv6Len+1] != 0 {
		return n, false
	}
	// 7.1.1, 7.1.2: "ICMP Checksum is valid".
	if checksum(ip) != 0xffff {
		return n, false
	}
	n.src, n.dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	n.body = ip[ipv6Len:]
	n.kind, n.flags, n.target = n.body[0], n.body[4], netip.AddrFrom16([16]byte(n.body[8:]))
	// 7.1.1, 7.1.2: "Target Address is not a multicast address". RFC 4291 2.7: nor can a source be one.
	if n.target.IsMulticast() || n.src.IsMulticast() {
		return n, false
	}
	if !n.parseOptions(n.body[ndpLen:]) {
		return n, false
	}
	if n.kind == typeAdvertisement {
		// 7.1.2: "If the IP Destination Address is a multicast address the Solicited flag is zero."
		return n, !n.dst.IsMulticast() || n.flags&flagSolicited == 0
	}
	if n.src.IsUnspecified() {
		// 7.1.1: "If the IP source address is the unspecified address, the IP destination address is a solicited-node
		// multicast address", and "there is no source link-layer address option in the message".
		return n, solicitedNode(n.dst) && !n.hasSource
	}
	return n, true
}

// parseOptions finds the link-layer address options; it reports false for options that no station sends.
func (n *neighbor) parseOptions(b []byte) bool {
	for len(b) > 0 {
		// 7.1.1, 7.1.2: "All included options have a length that is greater than zero."
		if len(b) < 2 || b[1] == 0 || len(b) < int(b[1])*8 {
			return false
		}
		size := int(b[1]) * 8
		// 7.1.1: "The contents of any defined options that are not specified to be used with Neighbor Solicitation
		// messages MUST be ignored"; 7.1.2 says the same of advertisements. 4.3 and 4.4 specify one option each.
		source := n.kind == typeSolicitation && b[0] == optionSourceLink
		if (source || n.kind == typeAdvertisement && b[0] == optionTargetLink) && size == linkOptionLen {
			mac := cluster.MAC(b[2:8])
			switch {
			case !station(mac):
				return false
			case source:
				n.hasSource, n.source = true, mac
			default:
				n.hasTarget, n.targetLink = true, mac
			}
		}
		b = b[size:]
	}
	return true
}

// putIPv6 writes the header of a packet that carries an ICMPv6 message of so many bytes.
func putIPv6(ip []byte, length int, src, dst netip.Addr) {
	ip[0], ip[1], ip[2], ip[3] = 6<<4, 0, 0, 0
	binary.BigEndian.PutUint16(ip[4:], uint16(length))
	ip[6], ip[7] = protocolICMPv6, 255 // RFC 4861 4.4: hop limit 255
	s, d := src.As16(), dst.As16()
	copy(ip[8:24], s[:])
	copy(ip[24:40], d[:])
}

// checksum sums an IPv6 packet that carries ICMPv6 and nothing else, with its pseudo-header (RFC 4443 2.3). Over a message
// whose checksum is right it is 0xffff; over one whose checksum is zero its complement is the checksum.
func checksum(ip []byte) uint16 {
	sum := uint32(protocolICMPv6) + uint32(len(ip)-ipv6Len)
	b := ip[8:]
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// allNodes is ff02::1 (RFC 4291 2.7.1) and allNodesMAC where frames to it go (RFC 2464 7).
func allNodes() netip.Addr     { return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 1}) }
func allNodesMAC() cluster.MAC { return cluster.MAC{0x33, 0x33, 0, 0, 0, 1} }

// solicitedNode reports whether an address is in ff02::1:ff00:0/104 (RFC 4291 2.7.1).
func solicitedNode(a netip.Addr) bool {
	b := a.As16()
	return b == [16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]}
}
