package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	portSingleHop = 3784 // RFC 5881 section 4
	portMultihop  = 4784 // RFC 5883 section 5
	// Source ports of RFC 5881 section 4.
	firstSource, lastSource = 49152, 65535
	maxTTL                  = 255
	// networkControl is the traffic class that routing protocols are sent with: CS6 of RFC 4594 section 3.1.
	networkControl = 0xc0
)

func port(multihop bool) int {
	if multihop {
		return portMultihop
	}
	return portSingleHop
}

// earKey says what a listening socket is for.
type earKey struct {
	v6, multihop bool
	device       string
}

func (p Peer) ear() earKey {
	return earKey{v6: p.Remote.Is6(), multihop: p.Multihop, device: p.Device}
}

// ear is a socket that all packets of its kind come in on.
type ear struct {
	earKey
	fd int
}

// datagram is what came in on an ear.
type datagram struct {
	payload []byte // until the next is read
	from    netip.Addr
	to      netip.Addr // of this node
	ttl     int
	index   int // of the interface
}

func (k earKey) domain() int {
	if k.v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (k earKey) any() unix.Sockaddr {
	if k.v6 {
		return &unix.SockaddrInet6{Port: port(k.multihop)}
	}
	return &unix.SockaddrInet4{Port: port(k.multihop)}
}

type option struct{ level, name, value int }

// openSocket opens a UDP socket with options, on a device if one is named.
func openSocket(domain int, device string, options []option, address unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if device != "" {
		err = os.NewSyscallError("bind to "+device, unix.BindToDevice(fd, device))
	}
	for _, o := range options {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, o.level, o.name, o.value))
		}
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, address))
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func (k earKey) open() (*ear, error) {
	options := []option{{unix.IPPROTO_IP, unix.IP_RECVTTL, 1}, {unix.IPPROTO_IP, unix.IP_PKTINFO, 1}}
	if k.v6 {
		options = []option{{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1}, {unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1}}
	}
	fd, err := openSocket(k.domain(), k.device, options, k.any())
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("UDP port %d is another program's: end the BFD daemon that runs on this node", port(k.multihop))
	}
	if err != nil {
		return nil, fmt.Errorf("listen on UDP port %d: %w", port(k.multihop), err)
	}
	return &ear{earKey: k, fd: fd}, nil
}

// buffers are what is read into and written from.
type buffers struct{ payload, control, out []byte }

func newBuffers() buffers { return buffers{payload: make([]byte, 2048), control: make([]byte, 256)} }

// read reads what has come in; false when nothing has.
func (e *ear) read(b buffers) (d datagram, is bool, err error) {
	n, oobn, _, from, err := unix.Recvmsg(e.fd, b.payload, b.control, unix.MSG_DONTWAIT)
	if errors.Is(err, unix.EAGAIN) {
		return datagram{}, false, nil
	}
	if err != nil {
		return datagram{}, false, os.NewSyscallError("recvmsg", err)
	}
	d.payload = b.payload[:n]
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		d.from = netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		d.from = netip.AddrFrom16(from.Addr)
	}
	messages, err := unix.ParseSocketControlMessage(b.control[:oobn])
	if err != nil {
		return datagram{}, false, os.NewSyscallError("recvmsg", err)
	}
	for i := range messages {
		d.note(&messages[i])
	}
	return d, true, nil
}

// note takes in what the kernel says beside a datagram.
func (d *datagram) note(m *unix.SocketControlMessage) {
	is := func(level, kind int32, length int) bool {
		return m.Header.Level == level && m.Header.Type == kind && len(m.Data) >= length
	}
	switch {
	case is(unix.IPPROTO_IP, unix.IP_TTL, 4), is(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 4):
		d.ttl = int(native32(m.Data))
	case is(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo):
		d.index, d.to = int(native32(m.Data)), netip.AddrFrom4([4]byte(m.Data[8:12]))
	case is(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo):
		d.index, d.to = int(native32(m.Data[16:])), netip.AddrFrom16([16]byte(m.Data[:16]))
	}
}

// mouth is the socket that a session sends from.
type mouth struct {
	fd     int
	index  uint32 // of the link that a link-local peer is on
	source uint16
	to     unix.Sockaddr
}

// openMouth binds a session's own source port, RFC 5881 section 4.
func openMouth(peer Peer, source uint16) (*mouth, error) {
	index, err := zoneIndex(peer.Remote)
	if err != nil {
		return nil, err
	}
	m := &mouth{index: index, source: source}
	options := []option{{unix.IPPROTO_IP, unix.IP_TTL, maxTTL}, {unix.IPPROTO_IP, unix.IP_TOS, networkControl}}
	var from unix.Sockaddr
	if peer.Remote.Is6() {
		options = []option{{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, maxTTL}, {unix.IPPROTO_IPV6, unix.IPV6_TCLASS, networkControl}}
		m.to = &unix.SockaddrInet6{Port: port(peer.Multihop), Addr: peer.Remote.As16(), ZoneId: index}
		local := &unix.SockaddrInet6{Port: int(source)}
		if peer.Local.IsValid() {
			local.Addr = peer.Local.As16()
			if peer.Local.IsLinkLocalUnicast() {
				local.ZoneId = index
			}
		}
		from = local
	} else {
		m.to = &unix.SockaddrInet4{Port: port(peer.Multihop), Addr: peer.Remote.As4()}
		local := &unix.SockaddrInet4{Port: int(source)}
		if peer.Local.IsValid() {
			local.Addr = peer.Local.As4()
		}
		from = local
	}
	m.fd, err = openSocket(peer.ear().domain(), peer.Device, options, from)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil, fmt.Errorf("%s is not an address of this node", peer.Local)
	}
	return m, err
}

// zoneIndex is the index of the interface that a link-local address is on, otherwise 0.
func zoneIndex(a netip.Addr) (uint32, error) {
	if a.Zone() == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		return uint32(n), nil
	}
	return interfaceIndex(a.Zone())
}

func (m *mouth) send(payload []byte) error {
	return os.NewSyscallError("sendto", unix.Sendto(m.fd, payload, unix.MSG_DONTWAIT, m.to))
}
