package l2

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// sink is a Port that takes every frame, and says that what it read came in just now, or so long ago.
type sink struct {
	sent int
	ago  time.Duration
}

func (*sink) Read([]byte) (int, error)       { return 0, nil }
func (s *sink) Reply([]byte) error           { s.sent++; return nil }
func (s *sink) Received() time.Time          { return time.Now().Add(-s.ago) }
func (*sink) More() bool                     { return false }
func (*sink) Send([]byte) (time.Time, error) { return time.Now(), nil }
func (*sink) Groups([]netip.Addr) error      { return nil }
func (*sink) Only([]netip.Addr, bool) error  { return nil }
func (*sink) Close() error                   { return nil }

// readerOf returns a reader that answers for n addresses of a family, and one of them.
func readerOf(f cluster.Family, n int) (*reader, *sink, netip.Addr) {
	addrs := []netip.Addr{vip4}
	if f == cluster.IPv6 {
		addrs[0] = vip6
	}
	for i := range n - 1 {
		if f == cluster.IPv4 {
			addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		} else {
			addrs = append(addrs, netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}))
		}
	}
	own, s := &atomic.Pointer[owned]{}, &sink{}
	own.Store(ownedBy(ourMAC, addrs...))
	return &reader{port: s, line: newLine(link0, &Timings{}, time.Now()), family: f, owned: own, counters: &FamilyCounters{}, born: time.Now(),
		claims: make(chan claim, 1), missed: &atomic.Bool{}}, s, addrs[0]
}

func TestReplyDoesNotAllocate(t *testing.T) {
	for _, f := range families() {
		r, s, a := readerOf(f, 2000)
		for name, frame := range map[string][]byte{"question": question(t, a, asker), "claim": claimOf(a, otherMAC), "malformed": make([]byte, 60)} {
			if n := testing.AllocsPerRun(1000, func() { r.frame(frame) }); n != 0 {
				t.Errorf("%s %s: %v allocations", f, name, n)
			}
		}
		if s.sent != 1001 {
			t.Errorf("%s: %d replies to 1001 questions", f, s.sent)
		}
	}
}

// TestMemoryPerAddress: what the whole package keeps of an address, its plan and its have included.
func TestMemoryPerAddress(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	a := New(Config{Open: func(cluster.Link, cluster.Family) (Port, error) { return &quiet{closed: make(chan bool)}, nil },
		Timings: Timings{FirstRate: 1e9}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	const n = 2000
	before := heap()
	var addrs []netip.Addr
	for i := range n / 2 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}))
	}
	plan := say(addrs...)
	setReal(t, a, plan)
	eventually(t, "all are answered", func() bool {
		for _, s := range a.Have().Addrs {
			if len(s.Links) == 0 {
				return false
			}
		}
		return true
	})
	if per := int64(heap()-before) / n; per > 1200 {
		t.Errorf("%d bytes for an address", per)
	} else {
		t.Logf("%d bytes for an address", per)
	}
	runtime.KeepAlive(plan)
	cancel()
	<-done
}

// quiet is a Port that nothing comes in on and that takes every frame.
type quiet struct {
	sink
	closed chan bool
}

func (q *quiet) Read([]byte) (int, error) { <-q.closed; return 0, os.ErrClosed }
func (q *quiet) Close() error             { close(q.closed); return nil }

func BenchmarkReply(b *testing.B) {
	for _, f := range families() {
		for _, n := range []int{1, 2000} {
			b.Run(fmt.Sprintf("%s/%d", f, n), func(b *testing.B) {
				r, _, a := readerOf(f, n)
				frame := question(b, a, asker)
				b.ReportAllocs()
				for b.Loop() {
					r.frame(frame)
				}
			})
		}
		b.Run(f.String()+"/unrelated", func(b *testing.B) {
			r, _, _ := readerOf(f, 2000)
			frame := question(b, map[cluster.Family]netip.Addr{cluster.IPv4: addr("192.0.2.77"), cluster.IPv6: foreign6}[f], asker)
			b.ReportAllocs()
			for b.Loop() {
				r.frame(frame)
			}
		})
	}
}

// BenchmarkWire measures question to answer from the other end of a veth pair, beside the kernel's own answer for an
// address that the host has.
func BenchmarkWire(b *testing.B) {
	node, client := newHost(b, "node"), newHost(b, "client")
	segment(b, node, client)
	s, _ := node.speak(b, Timings{})
	setReal(b, s, onLAN(b, node, false, real4, real6))
	from := client.link(b, "lan0").MAC
	for _, c := range []struct {
		name string
		addr netip.Addr
	}{{"IPv4/bellwether", real4}, {"IPv4/kernel", addr("192.0.2.1")}, {"IPv6/bellwether", real6}, {"IPv6/kernel", addr("2001:db8::1")}} {
		b.Run(c.name, func(b *testing.B) {
			port, err := client.hearAll(client.link(b, "lan0"), cluster.FamilyOf(c.addr))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = port.Close() }()
			frame := question(b, c.addr, from)
			if c.addr.Is6() { // the kernel answers to an address that it can route to
				g, gm := groupOf(c.addr)
				frame = ndpPacket{dstMAC: gm, srcMAC: from, src: addr("2001:db8::2"), dst: g, message: ns(c.addr, sourceLink(from))}.frame()
			}
			var buf [ndpFrameMax]byte
			for b.Loop() {
				if err := port.Reply(frame); err != nil {
					b.Fatal(err)
				}
				for {
					if _, err := port.Read(buf[:]); err != nil {
						b.Fatal(err)
					}
					if cluster.MAC(buf[:6]) == from {
						break
					}
				}
			}
		})
	}
}

// BenchmarkSet measures a Set of 5,000 addresses of which one comes or goes.
func BenchmarkSet(b *testing.B) {
	seg := newLAN()
	a := New(Config{Open: newNIC(map[string]*lan{"eth0": seg}).opener, Timings: Timings{Refresh: time.Hour, FirstRate: 1e9, RepeatRate: 1e9}})
	done := make(chan error)
	go func() { done <- a.Run(b.Context()) }()
	var addrs []netip.Addr
	for i := range 5000 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	more, fewer := say(addrs...), say(addrs[1:]...)
	for b.Loop() {
		for range 2 {
			if _, err := a.Set(b.Context(), more); err != nil {
				b.Fatal(err)
			}
			more, fewer = fewer, more
		}
	}
}
