package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// upInChild marks the process that TestKilledUpLeavesNothing starts to be
// killed in the middle of an up.
const upInChild = "BELLWETHER_TEST_UP"

func TestKilledUpLeavesNothing(t *testing.T) {
	if name := os.Getenv(upInChild); name != "" {
		_, err := Up(t.Context(), Options{Name: name, Log: os.Stderr})
		t.Logf("up ended with %v", err)
		return
	}
	// Programs are fetched before the lab's clock starts.
	if err := newLab(Options{Log: testLog{t}}).provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	const name = "tcrash"
	reserve(t, name)
	for _, after := range []time.Duration{
		5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second,
	} {
		t.Run(after.String(), func(t *testing.T) {
			l := newLab(Options{Name: name})
			child := exec.Command(os.Args[0], "-test.run=^TestKilledUpLeavesNothing$")
			child.Env = append(os.Environ(), upInChild+"="+name)
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			// Counted from the moment that it touches the machine.
			if err := waitFor(t.Context(), 10*time.Second, "the child to begin", func(context.Context) error {
				_, err := os.Stat(l.dir)
				return err
			}); err != nil {
				t.Error(err)
			}
			time.Sleep(after)
			_ = child.Process.Signal(syscall.SIGKILL)
			_ = child.Wait()
			if err := Down(t.Context(), name); err != nil {
				t.Errorf("down: %v", err)
			}
			checkNothingLeft(t, name)
		})
	}
}

func TestInterruptedUpLeavesNothing(t *testing.T) {
	const name = "tstop"
	reserve(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	_, err := Up(ctx, Options{Name: name, Light: true, Log: testLog{t}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("up ended with %v", err)
	}
	checkNothingLeft(t, name)
}
