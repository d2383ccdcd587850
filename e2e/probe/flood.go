package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/mdlayher/packet"
	"golang.org/x/time/rate"
)

// Flood asks for addresses as fast as it is let, and listens to no answer: other people's traffic on a segment.
type Flood struct {
	tap    *tap
	frames [][]byte
	sent   atomic.Int64
}

// NewFlood opens a link of a namespace for asking for so many IPv4 addresses from first on.
func NewFlood(netns, link string, first netip.Addr, addrs int) (*Flood, error) {
	t, err := openTap(netns, link, false)
	if err != nil {
		return nil, err
	}
	own, err := t.source(first)
	if err != nil {
		t.close()
		return nil, fmt.Errorf("prepare to ask for %s: %w", first, err)
	}
	f := &Flood{tap: t}
	for a := first; len(f.frames) < addrs; a = a.Next() {
		frame, err := t.question(own, a)
		if err != nil {
			t.close()
			return nil, fmt.Errorf("prepare to ask for %s: %w", a, err)
		}
		f.frames = append(f.frames, frame)
	}
	return f, nil
}

// Sent is how many questions were sent so far.
func (f *Flood) Sent() int64 { return f.sent.Load() }

// Run asks until ctx ends, as often as the limiter lets it, and closes the sockets.
func (f *Flood) Run(ctx context.Context, limit *rate.Limiter) error {
	defer f.tap.close()
	const together = 20
	for i := 0; ; i++ {
		if i%together == 0 {
			if err := limit.WaitN(ctx, together); err != nil {
				if ctx.Err() != nil || errors.Is(err, context.Canceled) {
					return nil
				}
				return fmt.Errorf("wait for the next question: %w", err)
			}
		}
		frame := f.frames[i%len(f.frames)]
		if _, err := f.tap.arp.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
			return fmt.Errorf("flood: %w", err)
		}
		f.sent.Add(1)
	}
}
