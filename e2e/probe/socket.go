package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// Protocols as a packet socket is bound to them.
const (
	protoARP  = 0x0806
	protoIPv6 = 0x86dd
)

// tap is one link seen through two packet sockets, for ARP and for neighbour
// advertisements.
type tap struct {
	ifi       *net.Interface
	addrs     []netip.Addr // the link's own
	arp, ipv6 *packet.Conn
}

// openTap opens a link of the namespace bound at path.
func openTap(path, link string, promiscuous bool) (*tap, error) {
	t := &tap{}
	err := lab.InNetNS(path, func() (err error) {
		if t.ifi, err = net.InterfaceByName(link); err != nil {
			return err
		}
		own, err := t.ifi.Addrs()
		if err != nil {
			return err
		}
		for _, a := range own {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				t.addrs = append(t.addrs, p.Addr())
			}
		}
		if t.arp, err = packet.Listen(t.ifi, packet.Raw, protoARP, nil); err != nil {
			return err
		}
		filter, err := onlyNA()
		if err != nil {
			return err
		}
		if t.ipv6, err = packet.Listen(t.ifi, packet.Raw, protoIPv6, &packet.Config{Filter: filter}); err != nil {
			return err
		}
		for _, c := range []*packet.Conn{t.arp, t.ipv6} {
			if err := prepare(c); err != nil {
				return err
			}
		}
		if promiscuous {
			return errors.Join(t.arp.SetPromiscuous(true), t.ipv6.SetPromiscuous(true))
		}
		return nil
	})
	if err != nil {
		t.close()
		return nil, fmt.Errorf("open packet sockets on %s of %s: %w", link, path, err)
	}
	return t, nil
}

// prepare gives a socket room for what comes in while this process has to wait
// for a processor, has the kernel note when frames come in, and keeps what is
// sent through it and its like from waking this process.
func prepare(c *packet.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
			unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	})
	received(raw) // the first time makes the kernel note times
	return errors.Join(err, set)
}

// siocGStampNS is SIOCGSTAMPNS of linux/sockios.h, in its form for a timespec
// of two words.
const siocGStampNS = 0x8907

// received is when the frame that was read last from a socket came in.
func received(raw syscall.RawConn) time.Time {
	var stamp unix.Timespec
	err := raw.Control(func(fd uintptr) {
		// What fails leaves the stamp zero.
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, fd, siocGStampNS, uintptr(unsafe.Pointer(&stamp)))
	})
	if err != nil || stamp == (unix.Timespec{}) {
		return time.Now()
	}
	return time.Unix(stamp.Unix())
}

// onlyNA lets neighbour advertisements through, so that a busy link costs
// nothing.
func onlyNA() ([]bpf.RawInstruction, error) {
	const ethernetLen = 14
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: ethernetLen + nextHeaderAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolICMPv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ethernetLen + ipv6HeaderLen, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeNA, SkipTrue: 1},
		bpf.RetConstant{Val: 65535},
		bpf.RetConstant{Val: 0},
	})
}

func (t *tap) close() {
	for _, c := range []*packet.Conn{t.arp, t.ipv6} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// watch hands every sighting to f, from two goroutines, until ctx ends.
func (t *tap) watch(ctx context.Context, f func(Sighting)) error {
	stop := context.AfterFunc(ctx, t.close)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, c := range []*packet.Conn{t.arp, t.ipv6} {
		wg.Go(func() {
			raw, err := c.SyscallConn()
			if err != nil {
				errs[i] = err
				t.close() // ends the other one too
				return
			}
			buf := make([]byte, 2048)
			for {
				n, _, err := c.ReadFrom(buf)
				if err != nil {
					if ctx.Err() == nil {
						errs[i] = fmt.Errorf("read from %s: %w", t.ifi.Name, err)
						t.close() // ends the other one too
					}
					return
				}
				if s, ok := decode(buf[:n], received(raw)); ok {
					f(s)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Observer records, without sending anything, every ARP reply, announcement and
// neighbour advertisement for some addresses.
type Observer struct {
	tap   *tap
	addrs []netip.Addr

	mu   sync.Mutex
	seen Record
}

// NewObserver opens a link for watching. On the lab's switch (link "br0") it
// sees everything on the segment, on the client's ("eth0") what the client
// sees. No addresses means all. Watching begins now; Run must follow.
func NewObserver(netns, link string, addrs ...netip.Addr) (*Observer, error) {
	t, err := openTap(netns, link, true)
	if err != nil {
		return nil, err
	}
	return &Observer{tap: t, addrs: addrs}, nil
}

// Run records until ctx ends, and closes the sockets.
func (o *Observer) Run(ctx context.Context) error {
	return o.tap.watch(ctx, func(s Sighting) {
		if len(o.addrs) > 0 && !slices.Contains(o.addrs, s.Addr) {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.seen = append(o.seen, s)
	})
}

// Record is what was seen so far.
func (o *Observer) Record() Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.seen)
}
