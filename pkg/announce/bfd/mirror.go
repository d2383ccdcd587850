package bfd

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// etherType is that of IPv4 or IPv6, in the order of the network, as packet(7) has it.
func etherType(v6 bool) uint16 {
	if v6 {
		return bits.ReverseBytes16(unix.ETH_P_IPV6)
	}
	return bits.ReverseBytes16(unix.ETH_P_IP)
}

// openMirror opens a packet socket on a link, which the kernel lets BFD alone through to: control packets over one hop, and echo packets. It is
// bound to its link, and so to hear it, only with the filter in place.
func openMirror(key mirrorKey) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	filter := mirrorFilter(key.v6)
	program := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, program); err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: etherType(key.v6), Ifindex: key.index})
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("open a packet socket: %w", err)
	}
	return fd, nil
}

const ipv4Len, ipv6Len, udpLen = 20, 40, 8

// mirrorFilter accepts UDP datagrams, no fragments, to the ports of BFD. Offsets are from the IP header on.
func mirrorFilter(v6 bool) []unix.SockFilter {
	const (
		load8, load16, load16At = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_H | unix.BPF_IND
		loadLength              = unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH
		equal, anyOf, ret       = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	)
	ports := []unix.SockFilter{
		{Code: equal, K: portSingleHop, Jt: 2},
		{Code: equal, K: portEcho, Jt: 1},
		{Code: ret, K: 0},
		{Code: ret, K: 1 << 16},
	}
	if v6 {
		return append([]unix.SockFilter{
			{Code: load8, K: 6},
			{Code: equal, K: unix.IPPROTO_UDP, Jf: 3},
			{Code: load16, K: ipv6Len + 2},
		}, ports...)
	}
	return append([]unix.SockFilter{
		{Code: load8, K: 9},
		{Code: equal, K: unix.IPPROTO_UDP, Jf: 6},
		{Code: load16, K: 6},
		{Code: anyOf, K: 0x1fff, Jt: 4},
		{Code: loadLength, K: 0},
		{Code: load16At, K: 2},
	}, ports...)
}

// udp is a datagram as it is on the wire.
type udp struct {
	from    netip.Addr
	ttl     int
	port    int // destination
	payload []byte
}

// parseUDP reads an IP packet without extension headers that carries a whole UDP datagram.
func parseUDP(b []byte, v6 bool) (d udp, sound bool) {
	header := ipv6Len
	switch {
	case v6:
		if len(b) < ipv6Len+udpLen || b[0]>>4 != 6 || b[6] != unix.IPPROTO_UDP {
			return udp{}, false
		}
		d.from, d.ttl = netip.AddrFrom16([16]byte(b[8:24])), int(b[7])
	default:
		if len(b) < ipv4Len+udpLen || b[0]>>4 != 4 || b[9] != unix.IPPROTO_UDP {
			return udp{}, false
		}
		header = int(b[0]&0xf) * 4
		d.from, d.ttl = netip.AddrFrom4([4]byte(b[12:16])), int(b[8])
	}
	if header < ipv4Len || len(b) < header+udpLen {
		return udp{}, false
	}
	datagram := b[header:]
	length := int(binary.BigEndian.Uint16(datagram[4:]))
	if length < udpLen || length > len(datagram) {
		return udp{}, false
	}
	d.port, d.payload = int(binary.BigEndian.Uint16(datagram[2:])), datagram[udpLen:length]
	return d, true
}

// appendEcho appends an IP packet with a UDP datagram from and to an address' own echo port, with the greatest TTL.
func appendEcho(b []byte, own netip.Addr, payload []byte) []byte {
	length := uint16(udpLen + len(payload))
	start := len(b)
	if own.Is4() {
		b = append(b, 0x45, networkControl)
		b = binary.BigEndian.AppendUint16(b, ipv4Len+length)
		b = append(b, 0, 0, 0, 0, maxTTL, unix.IPPROTO_UDP, 0, 0)
	} else {
		b = binary.BigEndian.AppendUint32(b, 6<<28|networkControl<<20)
		b = binary.BigEndian.AppendUint16(b, length)
		b = append(b, unix.IPPROTO_UDP, maxTTL)
	}
	b = append(b, own.AsSlice()...)
	b = append(b, own.AsSlice()...)
	if own.Is4() {
		binary.BigEndian.PutUint16(b[start+10:], ^sum(0, b[start:]))
	}
	datagram := len(b)
	b = binary.BigEndian.AppendUint16(b, portEcho)
	b = binary.BigEndian.AppendUint16(b, portEcho)
	b = binary.BigEndian.AppendUint16(b, length)
	b = append(b, 0, 0)
	b = append(b, payload...)
	pseudo := sum(0, own.AsSlice())
	pseudo = sum(pseudo, own.AsSlice())
	pseudo = sum(pseudo, []byte{0, unix.IPPROTO_UDP, byte(length >> 8), byte(length)})
	checksum := ^sum(pseudo, b[datagram:])
	if checksum == 0 {
		checksum = 0xffff // 0 says that there is none, RFC 768
	}
	binary.BigEndian.PutUint16(b[datagram+6:], checksum)
	return b
}

// sum adds 16-bit words in ones' complement, RFC 1071.
func sum(initial uint16, b []byte) uint16 {
	total := uint32(initial)
	for len(b) > 1 {
		total += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
