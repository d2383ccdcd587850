package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run starts a loop in a bubble of virtual time and ends it with the test.
func run(t *testing.T, l *Loop) {
	t.Helper()
	l.Log = quiet()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v after its context ended", err)
		}
	})
	synctest.Wait()
}

func TestPokesThatArriveDuringAPassBecomeOneMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes := 0
		l := &Loop{Poke: NewPoke(), Pass: func(context.Context, time.Time) (time.Duration, error) {
			passes++
			time.Sleep(10 * time.Millisecond)
			return 0, nil
		}}
		run(t, l)
		for range 100 {
			l.Poke.Ring()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if passes != 2 {
			t.Errorf("%d passes for 100 pokes during the first, want 2", passes)
		}
	})
}

func TestAFloodOfPokesTakesATenthOfACore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes := 0
		l := &Loop{Poke: NewPoke(), Pass: func(context.Context, time.Time) (time.Duration, error) {
			passes++
			time.Sleep(10 * time.Millisecond)
			return 0, nil
		}}
		run(t, l)
		flood := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
				l.Poke.Ring()
			}
			synctest.Wait()
		}
		flood(2 * time.Second) // what may be put off is put off
		passes = 0
		flood(10 * time.Second)
		if passes < 95 || passes > 105 {
			t.Errorf("%d passes of 10 ms in ten seconds of pokes, want about 100", passes)
		}
	})
}

func TestAFewPokesAreAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		l := &Loop{Poke: NewPoke(), Pass: func(context.Context, time.Time) (time.Duration, error) {
			at = append(at, time.Since(began))
			time.Sleep(3 * time.Millisecond)
			return 0, nil
		}}
		run(t, l)
		for i := range 4 {
			time.Sleep(5 * time.Millisecond)
			l.Poke.Ring()
			synctest.Wait()
			if len(at) != i+2 || at[i+1] != time.Since(began) {
				t.Errorf("poke %d, at %v: passes at %v", i, time.Since(began), at)
			}
		}
	})
}

func TestAFailedPassIsRetriedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		l := &Loop{Poke: NewPoke(), RetryMax: 400 * time.Millisecond, Pass: func(context.Context, time.Time) (time.Duration, error) {
			at = append(at, time.Since(start))
			if len(at) > 5 {
				return 0, nil
			}
			return 0, errors.New("no")
		}}
		run(t, l)
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []int{0, 100, 300, 700, 1100, 1500} // milliseconds
		if len(at) != len(want) {
			t.Fatalf("passes at %v, want %d of them", at, len(want))
		}
		for i := range want {
			if at[i] != time.Duration(want[i])*time.Millisecond {
				t.Errorf("pass %d at %v, want %d ms", i, at[i], want[i])
			}
		}
	})
}

func TestAPassRunsAtLeastOnceEveryResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes := 0
		l := &Loop{Poke: NewPoke(), Resync: time.Minute, Pass: func(context.Context, time.Time) (time.Duration, error) {
			passes++
			return 0, nil
		}}
		run(t, l)
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if passes != 61 {
			t.Errorf("%d passes in an hour with a resync of a minute, want 61", passes)
		}
	})
}

func TestLatestKeepsTheNewest(t *testing.T) {
	box := NewLatest[int]()
	for i := range 10 {
		box.Put(i)
	}
	if got := <-box.C(); got != 9 {
		t.Errorf("took %d, want the newest, 9", got)
	}
	select {
	case got := <-box.C():
		t.Errorf("took %d from an empty mailbox", got)
	default:
	}
}

func TestAProcessThatWasFrozenInAPassIsSoonBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passes []time.Time
		l := &Loop{Poke: NewPoke(), Pass: func(context.Context, time.Time) (time.Duration, error) {
			passes = append(passes, time.Now())
			if len(passes) == 1 {
				time.Sleep(time.Minute)
			}
			return 0, nil
		}}
		run(t, l)
		time.Sleep(time.Minute)
		thawed := time.Now()
		l.Poke.Ring()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(passes) != 2 || passes[1].Sub(thawed) > longestRest {
			t.Errorf("thawed at %v, passes at %v", thawed, passes)
		}
	})
}
