package l2

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/internal/rawio"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// receiveBuffer is asked for so that a storm of requests does not push out the few that are for us; the kernel caps it
// at net.core.rmem_max.
const receiveBuffer = 1 << 20

// siocGStampNS is SIOCGSTAMPNS of linux/sockios.h, in its form for a timespec of two words: when the frame that was read last
// came in, by the machine's clock.
const siocGStampNS = 0x8907

// PacketOpener opens AF_PACKET sockets that are bound to the link's index and filtered in the kernel. It needs
// CAP_NET_RAW.
func PacketOpener(log *slog.Logger) Opener {
	return func(link cluster.Link, family cluster.Family) (Port, error) {
		p, err := openPacket(link, family, log)
		if err != nil {
			return nil, err // not p: a nil *packetPort in a Port is not nil
		}
		return p, nil
	}
}

// packetPort is a Port on an AF_PACKET socket. packet.Conn's own ReadFrom and WriteTo allocate for every frame, so both
// are done on its file descriptor, inside closures that are made once.
type packetPort struct {
	conn   *packet.Conn
	raw    syscall.RawConn
	link   cluster.Link
	family cluster.Family
	groups *groups
	mouth  mouth
	spans  []span // that the filter lets through; of the caller of Only

	// Used by the reading goroutine only: the closures' arguments and results.
	in        []byte
	n         int
	readErr   error
	readOnce  func(fd uintptr) bool
	stamp     unix.Timespec
	stampOnce func(fd uintptr)
	waiting   int32
	moreOnce  func(fd uintptr)
	out       []byte
	sendErr   error
	sendOnce  func(fd uintptr)
}

func openPacket(link cluster.Link, family cluster.Family, log *slog.Logger) (*packetPort, error) {
	proto := unix.ETH_P_ARP
	if family == cluster.IPv6 {
		proto = unix.ETH_P_IPV6
	}
	program, err := filter(family, link.Index, nil)
	if err != nil {
		return nil, fmt.Errorf("assembling the %s filter: %w", family, err)
	}
	ifi := &net.Interface{Name: link.Name, Index: link.Index, HardwareAddr: link.MAC[:]}
	conn, err := packet.Listen(ifi, packet.Raw, proto, &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	// The plan may be older than the link: a reply with yesterday's MAC would be worse than none.
	if at, ok := conn.LocalAddr().(*packet.Addr); !ok || !bytes.Equal(at.HardwareAddr, link.MAC[:]) {
		return nil, errors.Join(fmt.Errorf("its address is %v now, not %s", conn.LocalAddr(), link.MAC), conn.Close())
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reaching the packet socket: %w", err), conn.Close())
	}
	out, err := openMouth(link.Index)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening a packet socket to send from: %w", err), conn.Close())
	}
	p := &packetPort{conn: conn, raw: raw, link: link, family: family, mouth: out}
	if family == cluster.IPv6 {
		p.groups = newGroups(link, conn.JoinGroup, conn.LeaveGroup, log)
	}
	p.readOnce = func(fd uintptr) bool {
		p.n, p.readErr = rawio.Read(fd, p.in)
		return !errors.Is(p.readErr, unix.EAGAIN)
	}
	p.stampOnce = func(fd uintptr) {
		// What fails leaves the stamp zero.
		_ = rawio.Ioctl(fd, siocGStampNS, unsafe.Pointer(&p.stamp))
	}
	p.moreOnce = func(fd uintptr) {
		p.waiting = 0
		_ = rawio.Ioctl(fd, unix.SIOCINQ, unsafe.Pointer(&p.waiting)) // where it fails, nothing waits
	}
	p.sendOnce = func(fd uintptr) { _, p.sendErr = rawio.Write(fd, p.out) }
	if err := raw.Control(func(fd uintptr) {
		// Best effort: a smaller buffer only means that a storm loses more.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		p.stampOnce(fd) // the first time makes the kernel note when frames come in
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("reaching the packet socket: %w", err), p.Close())
	}
	return p, nil
}

// Read implements Port.
func (p *packetPort) Read(buf []byte) (int, error) {
	p.in, p.n, p.readErr = buf, 0, nil
	if err := p.raw.Read(p.readOnce); err != nil {
		return 0, err
	}
	if p.readErr != nil {
		return 0, os.NewSyscallError("read", p.readErr)
	}
	return p.n, nil
}

// Received implements Port.
func (p *packetPort) Received() time.Time {
	p.stamp = unix.Timespec{}
	if err := p.raw.Control(p.stampOnce); err != nil || p.stamp == (unix.Timespec{}) {
		return time.Now()
	}
	return time.Unix(p.stamp.Unix())
}

// More implements Port.
func (p *packetPort) More() bool { return p.raw.Control(p.moreOnce) == nil && p.waiting > 0 }

// Reply implements Port.
func (p *packetPort) Reply(frame []byte) error {
	p.out, p.sendErr = frame, nil
	if err := p.raw.Control(p.sendOnce); err != nil {
		return err
	}
	if p.sendErr != nil {
		return os.NewSyscallError("write", p.sendErr)
	}
	return nil
}

// Send implements Port.
func (p *packetPort) Send(frame []byte) (time.Time, error) { return p.mouth.send(frame) }

// Only implements Port. The kernel replaces the filter of a live socket in one step. It bounds the memory of a socket's filter by
// net.core.optmem_max, and where that is little the filter has to let more through.
func (p *packetPort) Only(addrs []netip.Addr, exactly bool) error {
	most := spansInHaste
	if exactly {
		most = spansAtMost
	}
	err := p.admit(spansOf(addrs, most))
	for most /= 2; errors.Is(err, unix.ENOMEM) && most > 0; most /= 2 {
		err = p.admit(spansOf(addrs, most))
	}
	return err
}

func (p *packetPort) admit(spans []span) error {
	if slices.Equal(spans, p.spans) {
		return nil
	}
	program, err := filter(p.family, p.link.Index, spans)
	if err != nil {
		return fmt.Errorf("assembling the %s filter: %w", p.family, err)
	}
	if err := p.conn.SetBPF(program); err != nil {
		return fmt.Errorf("setting the %s filter: %w", p.family, err)
	}
	p.spans = spans
	return nil
}

// Groups implements Port.
func (p *packetPort) Groups(want []netip.Addr) error {
	if p.groups == nil {
		return nil
	}
	return p.groups.set(want)
}

// Close implements Port.
func (p *packetPort) Close() error {
	err := errors.Join(p.conn.Close(), p.mouth.close())
	if p.groups != nil {
		err = errors.Join(err, p.groups.close())
	}
	return err
}

// severity is what to do about an error of a socket.
type severity int

const (
	// passing errors concern one frame, or a shortage: go on.
	passing severity = iota
	// final errors mean that the link or the socket is gone: close it and open another.
	final
)

// severityOf classifies an error. What is not known to pass is final, as reading again at once from a socket that only
// fails would burn a core; opening another one is paced.
func severityOf(err error) severity {
	for _, e := range []error{unix.EINTR, unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EMSGSIZE, os.ErrDeadlineExceeded} {
		if errors.Is(err, e) {
			return passing
		}
	}
	return final
}
