package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/config"
)

// endpoint is where a router is, and what the connection to it is like.
type endpoint struct {
	router      netip.AddrPort
	source      netip.Addr // invalid: what this node's routes say
	vrf         string
	ttl, minTTL int // 0: the kernel's
	password    string
}

func newEndpoint(s config.BGPSession, password string) endpoint {
	e := endpoint{router: netip.AddrPortFrom(s.Address, s.Port), source: s.Source, vrf: s.VRF, password: password}
	switch {
	case s.TTLSecurity > 0: // RFC 5082
		e.ttl, e.minTTL = 255, 256-s.TTLSecurity
	case s.MultiHop && s.PeerASN != s.Own():
		e.ttl = 255
	case s.PeerASN != 0 && s.PeerASN != s.Own():
		e.ttl = 1
	}
	return e
}

// own returns the address that this node has towards the router. Nothing is sent.
func (e endpoint) own(ctx context.Context) (netip.Addr, error) {
	if e.source.IsValid() {
		return e.source, nil
	}
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return e.prepare(c, e.bind) }}
	conn, err := d.DialContext(ctx, "udp", e.router.String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("this node has no address towards the router %s: %w", e.router.Addr(), err)
	}
	defer func() { _ = conn.Close() }()
	addr, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return addr.Addr().Unmap().WithZone(""), err
}

// dial connects to the router, from an address that own returned; from any if it is invalid.
func (e endpoint) dial(ctx context.Context, from netip.Addr, timeout time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: timeout, Control: func(_, _ string, c syscall.RawConn) error {
		return e.prepare(c, e.bind, e.sign, e.hops)
	}}
	if from.IsLinkLocalUnicast() {
		from = from.WithZone(e.router.Addr().Zone())
	}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", e.router.String())
	if of := (*net.OpError)(nil); errors.As(err, &of) {
		return nil, of.Err // whom it is between is known
	}
	tcp, is := conn.(*net.TCPConn)
	if err == nil && !is {
		err = fmt.Errorf("%T is no connection over TCP", conn)
	}
	return tcp, err
}

// prepare sets options of a socket before it is connected.
func (e endpoint) prepare(c syscall.RawConn, options ...func(fd int) error) (err error) {
	controlled := c.Control(func(fd uintptr) {
		for _, set := range options {
			if err = set(int(fd)); err != nil {
				return
			}
		}
	})
	if err == nil {
		err = controlled
	}
	return err
}

func (e endpoint) bind(fd int) error {
	if e.vrf == "" {
		return nil
	}
	return os.NewSyscallError("bind to "+e.vrf, unix.BindToDevice(fd, e.vrf))
}

// sign has the kernel sign every segment, and drop those that the router has not signed, RFC 2385.
func (e endpoint) sign(fd int) error {
	if e.password == "" {
		return nil
	}
	sig := &unix.TCPMD5Sig{Keylen: uint16(len(e.password))}
	copy(sig.Key[:], e.password)
	if addr := e.router.Addr(); addr.Is4() {
		sig.Addr.Family = unix.AF_INET
		copy(sig.Addr.Data[2:], addr.AsSlice()) // behind the port, ip(7)
	} else {
		sig.Addr.Family = unix.AF_INET6
		copy(sig.Addr.Data[6:], addr.AsSlice()) // behind the port and the flow, ipv6(7)
	}
	return os.NewSyscallError("set the password", unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, sig))
}

func (e endpoint) hops(fd int) error {
	level, ttl, minTTL := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL
	if e.router.Addr().Is6() {
		level, ttl, minTTL = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT
	}
	for option, value := range map[int]int{ttl: e.ttl, minTTL: e.minTTL} {
		if value == 0 {
			continue
		}
		if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
			return os.NewSyscallError("set the TTL", err)
		}
	}
	return nil
}
