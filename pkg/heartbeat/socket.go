package heartbeat

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/internal/rawio"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Port carries frames of EtherType on one link. One goroutine uses it.
type Port interface {
	// Read fills buf with one received frame. It fails with os.ErrDeadlineExceeded when until has passed and no frame is
	// waiting, however late it is called.
	Read(buf []byte, until time.Time) (int, error)
	Send(frame []byte) error
	Close() error
}

// Opener opens a Port.
type Opener func(link cluster.Link) (Port, error)

// OpenPacket opens an AF_PACKET socket. It needs CAP_NET_RAW.
func OpenPacket(link cluster.Link) (Port, error) {
	program, err := bpf.Assemble([]bpf.Instruction{
		// What the kernel takes off this link for another device, such as a VLAN's, is of another segment; above
		// PACKET_MULTICAST (2) are other hosts' frames and our own.
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(link.Index), SkipTrue: 3},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: 2, SkipTrue: 1},
		bpf.RetConstant{Val: frameMax},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, fmt.Errorf("assembling the filter: %w", err)
	}
	ifi := &net.Interface{Name: link.Name, Index: link.Index, HardwareAddr: link.MAC[:]}
	conn, err := packet.Listen(ifi, packet.Raw, EtherType, &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reaching the packet socket: %w", err), conn.Close())
	}
	p := &packetPort{conn: conn, raw: raw}
	p.readOnce = func(fd uintptr) { p.n, p.readErr = rawio.Read(fd, p.in) }
	p.readWhenReady = func(fd uintptr) bool {
		p.readOnce(fd)
		return !errors.Is(p.readErr, unix.EAGAIN)
	}
	p.sendOnce = func(fd uintptr) { _, p.sendErr = rawio.Write(fd, p.out) }
	return p, nil
}

// packetPort has what a call leaves behind, and functions made once, so that no call allocates.
type packetPort struct {
	conn *packet.Conn
	raw  syscall.RawConn

	in            []byte
	n             int
	readErr       error
	readOnce      func(fd uintptr)
	readWhenReady func(fd uintptr) bool
	deadline      time.Time // of the socket
	out           []byte
	sendErr       error
	sendOnce      func(fd uintptr)
}

// Read implements Port. A read whose deadline has passed is not even tried by the runtime, so what waits is taken first. A deadline that
// is sooner than it need be stays: most reads end before it, and to set one costs more than a wake-up now and then.
func (p *packetPort) Read(buf []byte, until time.Time) (n int, err error) {
	p.in = buf
	if err := p.raw.Control(p.readOnce); err != nil {
		return 0, err
	}
	for errors.Is(p.readErr, unix.EAGAIN) {
		now := time.Now()
		if !until.After(now) {
			return 0, os.ErrDeadlineExceeded
		}
		if !p.deadline.After(now) || until.Before(p.deadline) {
			if err := p.conn.SetReadDeadline(until); err != nil {
				return 0, err
			}
			p.deadline = until
		}
		if err := p.raw.Read(p.readWhenReady); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
	}
	if p.readErr != nil {
		return 0, os.NewSyscallError("read", p.readErr)
	}
	return p.n, nil
}

// Send implements Port.
func (p *packetPort) Send(frame []byte) error {
	p.out = frame
	if err := p.raw.Control(p.sendOnce); err != nil {
		return err
	}
	return os.NewSyscallError("write", p.sendErr)
}

// Close implements Port.
func (p *packetPort) Close() error {
	return p.conn.Close()
}

// passing reports whether an error of sending concerns one frame only.
func passing(err error) bool {
	return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
}
