package kube

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func TestAFencedClientSendsNothingWithoutTheLease(t *testing.T) {
	var arrived atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","resourceVersion":"2"}}`))
	}))
	defer server.Close()
	plain, err := NewClient(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	var held atomic.Bool
	fenced, err := plain.Fenced(held.Load)
	if err != nil {
		t.Fatal(err)
	}
	write := func() error {
		_, err := fenced.WriteService(t.Context(), cluster.Key{Namespace: "ns", Name: "web"}, "u1", "1", ServiceStatus{})
		return err
	}
	for round := range int32(3) {
		held.Store(false)
		if err := write(); !errors.Is(err, errFenced) || Answered(err) {
			t.Errorf("without the lease: %v", err)
		}
		if n := arrived.Load(); n != round {
			t.Errorf("%d requests arrived without the lease", n-round)
		}
		held.Store(true)
		if err := write(); err != nil {
			t.Errorf("with the lease: %v", err)
		}
	}
}

// namedLock is a lock of which only the holder's name is asked.
type namedLock struct{ resourcelock.Interface }

func (namedLock) Identity() string { return "me" }

func TestALeaseRunsOutReckonedFromBeforeItsRenewalWasSent(t *testing.T) {
	l := NewLease(nil, "ns", "lease", "me", reconcile.NewPoke(), slog.New(slog.DiscardHandler))
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
