package l2

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// groups is a link's set of IPv6 multicast memberships. Joining through an IPv6 socket makes the kernel report the group
// with MLD, which a switch that snoops needs to see before it forwards solicitations; it needs no address on the link.
// Where the kernel will not (IPv6 is disabled on the link), the packet socket makes at least the NIC let them in.
//
// A membership belongs to a socket, whose memory for them is bounded by net.core.optmem_max: when all are full there is
// another, and one without memberships goes. Owned by the Announcer's goroutine.
type groups struct {
	link     cluster.Link
	joinMAC  func(net.HardwareAddr) error
	leaveMAC func(net.HardwareAddr) error
	log      *slog.Logger

	sockets []*shard
	at      map[netip.Addr]*shard // where each group was joined; nil is the packet socket
	told    bool                  // the log has been told that MLD is not available
}

// shard is a UDP socket that never receives anything and holds some of the memberships.
type shard struct {
	fd     int
	joined int
	full   bool // it has refused one since it last let go of one
}

func newGroups(link cluster.Link, joinMAC, leaveMAC func(net.HardwareAddr) error, log *slog.Logger) *groups {
	return &groups{link: link, joinMAC: joinMAC, leaveMAC: leaveMAC, log: log, at: map[netip.Addr]*shard{}}
}

// set makes want the memberships. What cannot be joined either way is in the error; the rest holds.
func (g *groups) set(want []netip.Addr) error {
	wanted := make(map[netip.Addr]bool, len(want))
	for _, a := range want {
		wanted[a] = true
	}
	var errs []error
	for a, at := range g.at {
		if !wanted[a] {
			errs = append(errs, g.leave(a, at))
			delete(g.at, a)
		}
	}
	// One refusal speaks for all groups of the link in this pass; the next pass asks again.
	refused := false
	for _, a := range want {
		at, joined := g.at[a]
		if joined && (at != nil || refused) {
			continue
		}
		if !refused {
			in, err := g.join(a)
			if err == nil {
				if joined {
					errs = append(errs, g.leave(a, nil))
				}
				g.at[a] = in
				continue
			}
			refused = true
			g.tell(err)
		}
		if joined {
			continue
		}
		if err := g.joinMAC(groupMAC(a)); err != nil {
			errs = append(errs, fmt.Errorf("joining %s: %w", a, err))
			continue
		}
		g.at[a] = nil
	}
	return errors.Join(append(errs, g.tidy())...)
}

// join reports a membership by MLD, on a socket that has room or a new one.
func (g *groups) join(a netip.Addr) (*shard, error) {
	for _, s := range g.sockets {
		if s.full {
			continue
		}
		err := g.option(s, unix.IPV6_JOIN_GROUP, a)
		if err == nil {
			s.joined++
			return s, nil
		}
		if !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.ENOBUFS) {
			return nil, os.NewSyscallError("IPV6_JOIN_GROUP", err)
		}
		s.full = true
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &shard{fd: fd, joined: 1}
	if err := g.option(s, unix.IPV6_JOIN_GROUP, a); err != nil {
		return nil, errors.Join(os.NewSyscallError("IPV6_JOIN_GROUP", err), unix.Close(fd))
	}
	g.sockets = append(g.sockets, s)
	return s, nil
}

func (g *groups) option(s *shard, option int, a netip.Addr) error {
	return unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, option,
		&unix.IPv6Mreq{Multiaddr: a.As16(), Interface: uint32(g.link.Index)})
}

func (g *groups) leave(a netip.Addr, at *shard) error {
	if at == nil {
		if err := g.leaveMAC(groupMAC(a)); err != nil {
			return fmt.Errorf("leaving %s: %w", a, err)
		}
		return nil
	}
	at.joined--
	at.full = false
	err := g.option(at, unix.IPV6_LEAVE_GROUP, a)
	// The kernel has forgotten the group where IPv6 was turned off on the link since: that is left, too.
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("leaving %s: %w", a, err)
	}
	return nil
}

// tidy closes the sockets that hold nothing.
func (g *groups) tidy() error {
	var errs []error
	g.sockets = slices.DeleteFunc(g.sockets, func(s *shard) bool {
		if s.joined == 0 {
			errs = append(errs, unix.Close(s.fd))
		}
		return s.joined == 0
	})
	return errors.Join(errs...)
}

func (g *groups) tell(err error) {
	if g.told {
		return
	}
	g.told = true
	g.log.Warn("IPv6 multicast groups cannot be reported by MLD; a switch that snoops may withhold solicitations",
		"link", g.link.Name, "error", err)
}

func (g *groups) close() error {
	var errs []error
	for _, s := range g.sockets {
		errs = append(errs, unix.Close(s.fd))
	}
	g.sockets = nil
	clear(g.at)
	return errors.Join(errs...)
}

// groupMAC is where frames to an IPv6 group go (RFC 2464 7).
func groupMAC(a netip.Addr) net.HardwareAddr {
	b := a.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// solicitedNodes returns the solicited-node group of every IPv6 address (RFC 4291 2.7.1), sorted, each once: addresses
// with the same low 24 bits share one.
func solicitedNodes(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		group, _ := solicitedNodeOf(a)
		out = append(out, group)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// solicitedNodeOf is the group that solicitations of an address go to (RFC 4291 2.7.1), and where frames to it go (RFC 2464 7).
func solicitedNodeOf(a netip.Addr) (netip.Addr, cluster.MAC) {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]}),
		cluster.MAC{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}
