package lease

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// namedLock is a lock of which only the holder's name is asked.
type namedLock struct{ resourcelock.Interface }

func (namedLock) Identity() string { return "me" }

func TestALeaseRunsOutReckonedFromBeforeItsRenewalWasSent(t *testing.T) {
	l := New(nil, "ns", "lease", "me", reconcile.NewPoke(), slog.New(slog.DiscardHandler))
	l.leading.Store(true)
	lock := timedLock{lease: l, Interface: namedLock{}}
	mine := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}
	if l.Held() {
		t.Error("held before it was ever taken")
	}
	before := time.Now()
	if err := lock.timed(mine, func() error { time.Sleep(20 * time.Millisecond); return nil }); err != nil {
		t.Fatal(err)
	}
	if until := l.until.Load(); !l.Held() || until.After(before.Add(leaseDuration-leaseMargin+10*time.Millisecond)) {
		t.Errorf("held %t until %v after the request", l.Held(), until.Sub(before))
	}
	was := l.until.Load()
	if err := lock.timed(mine, func() error { return errors.New("no") }); err == nil || l.until.Load() != was {
		t.Error("a renewal that failed counts")
	}
	if err := lock.timed(resourcelock.LeaderElectionRecord{}, func() error {
		if l.Held() {
			t.Error("held while it is being given back")
		}
		return nil
	}); err != nil || l.Held() {
		t.Error("held after it was given back")
	}
}
