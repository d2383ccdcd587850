package reconcile

import (
	"context"
	"log/slog"
	"time"
)

// Loop runs a pass whenever it is poked: pokes that arrive close together become one pass, a failed pass is retried with
// backoff, and a pass runs at least once every Resync even when nobody pokes.
//
// Three guarantees: every poke is followed by a pass that starts after it, two passes never run at once, and a flood of pokes
// costs no more than a tenth of a core. An idle loop answers a poke at once, and a few more after it.
type Loop struct {
	Name string
	Poke Poke
	// Pass does the work. It is given when it was asked for: when the poke was rung, or the time had come. A returned error is logged and
	// the pass retried; a positive duration asks for another pass after that long even if nothing happens.
	Pass func(ctx context.Context, asked time.Time) (again time.Duration, err error)
	// Settle is the least time between two passes; zero means none but the rest that a flood is paid with.
	Settle time.Duration
	// Resync is the longest time between two passes; zero means no resync.
	Resync time.Duration
	// RetryMin and RetryMax bound the backoff after a failed pass; zero means 100 ms and 10 s.
	RetryMin, RetryMax time.Duration
	Log                *slog.Logger
}

// Run passes until ctx ends and returns nil then.
func (l *Loop) Run(ctx context.Context) error {
	failures, debt, ended := 0, time.Duration(0), time.Now()
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		var asked time.Time
		select {
		case <-ctx.Done():
			return nil
		case asked = <-wake.C:
		case asked = <-l.Poke:
		}
		started := time.Now()
		again, err := l.Pass(ctx, asked)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			failures++
			again = Sooner(again, l.backoff(failures))
			l.Log.Warn("pass failed, will retry", "loop", l.Name, "error", err, "failures", failures, "retryIn", again)
		} else {
			failures = 0
		}
		debt = min(max(debt-started.Sub(ended), 0)+price*time.Since(started), burst+longestRest)
		ended = time.Now()
		rest := max(debt-burst, l.Settle)
		if !sleep(ctx, rest) {
			return nil
		}
		if again = Sooner(again, l.Resync); again > 0 {
			wake.Reset(max(again-rest, 0))
		}
	}
}

// burst is the rest that a loop may put off: enough for all that happens while a cluster starts or a node is lost.
const burst = time.Second

// price is how many times its own length a pass has to be rested for, sooner or later: then passes take a tenth of the time.
const price = 9

// longestRest bounds what a single pass is rested for: one may have taken long because the process did not run.
const longestRest = time.Second

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
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

// Sooner returns the smaller of two durations, where zero means never.
func Sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
