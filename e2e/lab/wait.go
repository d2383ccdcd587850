package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// hopeless marks an error that waiting will not mend.
type hopeless struct{ error }

func (h hopeless) Unwrap() error { return h.error }

// giveUp makes waitFor return at once.
func giveUp(err error) error { return hopeless{err} }

// waitFor asks again and again until ok returns nil. On failure the error says
// what was waited for and the last answer.
func waitFor(ctx context.Context, limit time.Duration, what string, ok func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		try, stop := context.WithTimeout(ctx, 3*time.Second)
		err := ok(try)
		stop()
		if err == nil {
			return nil
		}
		if errors.As(err, new(hopeless)) {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w after %s; last answer: %w",
				what, ctx.Err(), time.Since(start).Round(time.Millisecond), err)
		case <-time.After(pause):
		}
	}
}

// timeline prints how long each step took.
type timeline struct {
	out   io.Writer
	start time.Time
}

func newTimeline(out io.Writer) *timeline { return &timeline{out: out, start: time.Now()} }

// step runs one step and prints a line: when it ended, counted from the start,
// what it was, and how long it took.
func (t *timeline) step(what string, f func() error) error {
	began := time.Now()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	fmt.Fprintf(t.out, "  %6.2fs  %-44s %6.2fs\n", time.Since(t.start).Seconds(), what, time.Since(began).Seconds())
	return nil
}
