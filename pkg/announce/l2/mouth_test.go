package l2

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// TestTheKernelSaysWhenAFrameLeft: after it was handed over, and before another station receives it.
func TestTheKernelSaysWhenAFrameLeft(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	segment(t, a, b)
	link := a.link(t, "lan0")
	port, err := b.hearAll(b.link(t, "lan0"), cluster.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	var m mouth
	a.do(t, func() (err error) { m, err = openMouth(link.Index); return err })
	t.Cleanup(func() { _ = m.close() })
	frames, err := announcement(real4, link.MAC)
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan time.Time)
	go func() {
		defer close(received)
		buf := make([]byte, 2048)
		for {
			if _, err := port.Read(buf); err != nil {
				return
			}
			received <- port.Received()
		}
	}()
	for range 100 {
		before := time.Now()
		if _, err := unix.SendmsgN(m.fd, frames[0], m.request, nil, unix.MSG_DONTWAIT); err != nil {
			t.Fatal(err)
		}
		left, at := m.reported(), <-received
		if left.Before(before) || left.After(at) {
			t.Errorf("sent after %v, left at %v, received at %v", before, left, at)
		}
		before = time.Now()
		left, err := m.send(frames[0])
		if at := <-received; err != nil || left.Before(before) || left.After(at) {
			t.Errorf("sent after %v, left at %v, received at %v, %v", before, left, at, err)
		}
	}
}
