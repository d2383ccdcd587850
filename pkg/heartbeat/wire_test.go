package heartbeat

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// wire is a veth pair in a network namespace of its own. Without privilege the tests fail: they must not look as if they had
// been run.
type wire struct {
	calls chan func()
	ends  [2]cluster.Link
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w, failed := &wire{calls: make(chan func())}, make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread, and with it the namespace, ends with this goroutine
		failed <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range w.calls {
			f()
		}
	}()
	if err := <-failed; err != nil {
		t.Fatalf("creating a network namespace (this test needs root, or CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW): %v", err)
	}
	t.Cleanup(func() { close(w.calls) })
	w.do(t, func() error {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "left"}, PeerName: "right"}); err != nil {
			return err
		}
		for i, name := range []string{"left", "right"} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
			w.ends[i] = cluster.Link{Name: "eth0", Index: l.Attrs().Index, MAC: cluster.MAC(l.Attrs().HardwareAddr), Up: true}
		}
		return nil
	})
	return w
}

func (w *wire) do(t *testing.T, f func() error) {
	t.Helper()
	result := make(chan error)
	w.calls <- func() { result <- f() }
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// mutable is a Port that can be made to lose what is sent.
type mutable struct {
	Port
	mute *atomic.Bool
}

func (p mutable) Send(frame []byte) error {
	if p.mute.Load() {
		return nil
	}
	return p.Port.Send(frame)
}

// agent is a node at one end of a wire.
type agent struct {
	*Heartbeat
	found chan Findings
	mute  atomic.Bool
	stop  func()
}

func (w *wire) agent(t *testing.T, node string, end int) *agent {
	t.Helper()
	a := &agent{found: make(chan Findings, 1000)}
	var came atomic.Uint64
	a.Heartbeat = New(Config{Node: node, Key: []byte("secret"), Publish: func(f Findings) { a.found <- f },
		Traffic: func(int) uint64 { return came.Add(1) }, // others are heard on the link all the time
		Open: func(l cluster.Link) (port Port, err error) {
			w.do(t, func() error {
				port, err = OpenPacket(l)
				return nil
			})
			return mutable{port, &a.mute}, err
		}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	a.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(a.stop)
	a.State([]byte("state of " + node))
	a.Links([]cluster.Link{w.ends[end]})
	return a
}

func (a *agent) until(t *testing.T, what string, ok func(Findings) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	var last Findings
	for {
		select {
		case last = <-a.found:
			if ok(last) {
				return
			}
		case <-deadline:
			t.Fatalf("%s: not in 20 s; last %+v", what, last)
		}
	}
}

func hears(node, state string) func(Findings) bool {
	return func(f Findings) bool {
		return len(f.Heard) == 1 && f.Heard[0].Node == node && string(f.Heard[0].State) == state && len(f.Silent)+len(f.Cut) == 0
	}
}

// TestOnAWire has two nodes meet, miss each other, come back and part over real sockets.
func TestOnAWire(t *testing.T) {
	w := newWire(t)
	a, b := w.agent(t, "a", 0), w.agent(t, "b", 1)
	a.until(t, "a hears b", hears("b", "state of b"))
	b.until(t, "b hears a", hears("a", "state of a"))
	b.State([]byte("news of b"))
	a.until(t, "a hears the news", hears("b", "news of b"))

	b.mute.Store(true)
	a.until(t, "a misses b", func(f Findings) bool { return len(f.Silent) == 1 && f.Silent[0] == Peer{"b", "eth0"} })
	b.until(t, "b finds its link cut", func(f Findings) bool { return len(f.Cut) == 1 && len(f.Silent) == 0 })
	b.mute.Store(false)
	a.until(t, "a hears b again", hears("b", "news of b"))
	b.until(t, "b hears a again", hears("a", "state of a"))

	again := w.ends[1]
	again.Index, again.Up = 0, false
	b.Links([]cluster.Link{again})
	a.until(t, "b has said goodbye", func(f Findings) bool { return len(f.Heard)+len(f.Silent) == 0 })
	b.Links([]cluster.Link{w.ends[1]})
	a.until(t, "b is back on its link", hears("b", "news of b"))
	b.stop()
	a.until(t, "b has stopped", func(f Findings) bool { return len(f.Heard)+len(f.Silent) == 0 })
	if a.Counters().Accusations.Load() != 1 {
		t.Errorf("a has accused %d times", a.Counters().Accusations.Load())
	}
}

// talking are ports at both ends of a wire, and a frame that has just come from the first to the second.
func talking(t *testing.T) (ports [2]Port, frame []byte) {
	t.Helper()
	w := newWire(t)
	for i := range ports {
		w.do(t, func() (err error) {
			ports[i], err = OpenPacket(w.ends[i])
			return err
		})
		t.Cleanup(func() { _ = ports[i].Close() })
	}
	frame = newCodec(nil).encode(&message{kind: ping, from: Peer{"a", "eth0"}}, w.ends[0].MAC, w.ends[1].MAC)
	var buf [frameMax]byte
	var n int
	err := os.ErrDeadlineExceeded
	for deadline := time.Now().Add(10 * time.Second); os.IsTimeout(err) && time.Now().Before(deadline); {
		if err := ports[0].Send(frame); err != nil { // a link that has just come up may still drop it
			t.Fatal(err)
		}
		n, err = ports[1].Read(buf[:], time.Now().Add(100*time.Millisecond))
	}
	if err != nil || !bytes.Equal(buf[:n], frame) {
		t.Fatalf("read %x, %v", buf[:n], err)
	}
	return ports, frame
}

// TestDeadlinesOfReads: each read has its own, though the socket may keep that of an earlier one; and no call allocates.
func TestDeadlinesOfReads(t *testing.T) {
	ports, frame := talking(t)
	var buf [frameMax]byte
	for _, first := range []time.Duration{50 * time.Millisecond, time.Hour} {
		if err := ports[0].Send(frame); err != nil {
			t.Fatal(err)
		}
		if _, err := ports[1].Read(buf[:], time.Now().Add(first)); err != nil {
			t.Fatal(err)
		}
		var sending sync.WaitGroup
		sending.Go(func() { // so that the next one has to wait, and sets the deadline
			time.Sleep(20 * time.Millisecond)
			_ = ports[0].Send(frame)
		})
		_, err := ports[1].Read(buf[:], time.Now().Add(first))
		sending.Wait()
		if err != nil && first > time.Minute {
			t.Fatal(err)
		}
		const wait = 200 * time.Millisecond
		begun := time.Now()
		if _, err := ports[1].Read(buf[:], begun.Add(wait)); !os.IsTimeout(err) {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < wait || took > time.Minute {
			t.Errorf("after a deadline of %s, one of %s ended after %s", first, wait, took)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		_ = ports[0].Send(frame)
		_, _ = ports[1].Read(buf[:], time.Now().Add(time.Second))
	}); n > 0 {
		t.Errorf("%.1f allocations", n)
	}
}

// TestReadTakesWhatWaits although its time is over, and does not wait when there is nothing.
func TestReadTakesWhatWaits(t *testing.T) {
	ports, frame := talking(t)
	var buf [frameMax]byte
	if err := ports[0].Send(frame); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, until := range []time.Time{{}, time.Now().Add(-time.Hour)} {
		_, err := ports[1].Read(buf[:], until)
		for os.IsTimeout(err) && until.IsZero() && time.Now().Before(deadline) { // until it has come through
			_, err = ports[1].Read(buf[:], until)
		}
		if until.IsZero() == os.IsTimeout(err) {
			t.Errorf("with the deadline %v: %v", until, err)
		}
	}
}
