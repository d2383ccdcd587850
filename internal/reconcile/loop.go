package reconcile

import (
	"context"
	"log/slog"
	"time"
)

// Loop runs a pass whenever it is poked: pokes that arrive close together become one pass, a failed pass is retried with
// backoff, and a pass runs at least once every Resync even when nobody pokes.
//
// Two guarantees: every poke is followed by a pass that starts after it, and two passes never run at once.
type Loop struct {
	Name string
	Poke Poke
	// Pass does the work. A returned error is logged and the pass retried; a positive duration asks for another
	// pass after that long even if nothing happens.
	Pass func(ctx context.Context) (again time.Duration, err error)
	// Settle is how long to wait after a poke for more of them; zero runs at once.
	Settle time.Duration
	// Resync is the longest time between two passes; zero means no resync.
	Resync time.Duration
	// RetryMin and RetryMax bound the backoff after a failed pass; zero means 100 ms and 10 s.
	RetryMin, RetryMax time.Duration
	Log                *slog.Logger
}

// Run passes until ctx ends and returns nil then.
func (l *Loop) Run(ctx context.Context) error {
	var failures int
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-l.Poke:
			if !l.settle(ctx) {
				return nil
			}
		}
		again, err := l.Pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			failures++
			again = sooner(again, l.backoff(failures))
			l.Log.Warn("pass failed, will retry", "loop", l.Name, "error", err, "failures", failures, "retryIn", again)
		} else {
			failures = 0
		}
		again = sooner(again, l.Resync)
		timer.Stop()
		if again > 0 {
			timer.Reset(again)
		}
	}
}

// settle waits for the burst of pokes to end; it reports false when ctx ended first.
func (l *Loop) settle(ctx context.Context) bool {
	if l.Settle == 0 {
		return true
	}
	timer := time.NewTimer(l.Settle)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	select {
	case <-l.Poke:
	default:
	}
	return true
}

func (l *Loop) backoff(failures int) time.Duration {
	low, high := l.RetryMin, l.RetryMax
	if low == 0 {
		low = 100 * time.Millisecond
	}
	if high == 0 {
		high = 10 * time.Second
	}
	for ; failures > 1 && low < high; failures-- {
		low *= 2
	}
	return min(low, high)
}

// sooner returns the smaller of two durations, where zero means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
