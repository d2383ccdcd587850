// Package lease keeps one writer among the replicas of the controller. It is a room of its own as its library brings the types of all
// of Kubernetes' APIs along, which a speaker has no use for: they are megabytes of memory on every node.
package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// Lease keeps one writer among the replicas of the controller.
type Lease struct {
	config    *rest.Config
	namespace string
	name      string
	identity  string
	log       *slog.Logger
	poke      reconcile.Poke

	leading atomic.Bool
	taken   atomic.Pointer[time.Time] // when it last became the writer
	others  atomic.Bool               // the lease was another's when it was last read
	until   atomic.Pointer[time.Time] // when the lease runs out, reckoned from before its last renewal was sent
}

// New prepares a lease; Run takes part. The poke is rung when this replica becomes the writer, or stops being it.
func New(c *rest.Config, namespace, name, identity string, poke reconcile.Poke, log *slog.Logger) *Lease {
	return &Lease{config: c, namespace: namespace, name: name, identity: identity, poke: poke, log: log}
}

const (
	leaseDuration = 4 * time.Second
	renewDeadline = 2500 * time.Millisecond
	retryPeriod   = 500 * time.Millisecond
	// leaseMargin is how long before it runs out the lease is trusted no more: a write that is sent then is at the API
	// server before another replica can be the writer.
	leaseMargin = 500 * time.Millisecond
)

// Run takes part in the election until ctx ends; then, when drain has returned, the lease is given back at once. Losing the
// lease, as when the API server is away, is no reason to end: it is tried for again.
func (l *Lease) Run(ctx context.Context, drain func()) error {
	electing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		<-ctx.Done()
		drain()
		stop()
	}()
	cfg := *l.config
	cfg.Timeout = renewDeadline
	coord, err := coordination.NewForConfig(&cfg)
	if err != nil {
		return fmt.Errorf("preparing the lease: %w", err)
	}
	lock := timedLock{lease: l, Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: l.namespace, Name: l.name},
		Client:     coord,
		LockConfig: resourcelock.ResourceLockConfig{Identity: l.identity},
	}}
	for electing.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, Name: l.name, ReleaseOnCancel: true,
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) {
					l.log.Info("took the lease, this replica writes now", "lease", l.name)
					now := time.Now()
					l.taken.Store(&now)
					l.leading.Store(true)
					l.poke.Ring()
				},
				OnStoppedLeading: func() {
					if l.leading.Swap(false) {
						l.log.Info("lost the lease, another replica may write", "lease", l.name)
					}
					l.poke.Ring()
				},
			},
		})
		if err != nil {
			return fmt.Errorf("taking part in the election for lease %s: %w", l.name, err)
		}
		elector.Run(electing)
		l.leading.Store(false)
	}
	return nil
}

// Held reports whether this replica may write now. A replica that was frozen finds its lease run out here, before another
// has told it so.
func (l *Lease) Held() bool {
	until := l.until.Load()
	return l.leading.Load() && until != nil && time.Now().Before(*until)
}

// Taken returns when this replica became the writer. What was read from the API server since then has all that any other
// wrote.
func (l *Lease) Taken() time.Time { return *l.taken.Load() }

// timedLock notes when a lease that is taken or renewed runs out. The time counts from before the request: its answer may
// be read late, by a replica that was frozen meanwhile.
type timedLock struct {
	resourcelock.Interface
	lease *Lease
}

// Get notes whose the lease is: one that another has taken is not ours any more, and not ours to give back.
func (t timedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	r, raw, err := t.Interface.Get(ctx)
	if err == nil {
		others := r.HolderIdentity != t.Identity()
		t.lease.others.Store(others)
		if others {
			t.lease.until.Store(nil)
		}
	}
	return r, raw, err
}

func (t timedLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return t.timed(r, func() error { return t.Interface.Create(ctx, r) })
}

func (t timedLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if r.HolderIdentity == "" && t.lease.others.Load() {
		return errors.New("the lease is another's by now, there is nothing to give back")
	}
	return t.timed(r, func() error { return t.Interface.Update(ctx, r) })
}

func (t timedLock) timed(r resourcelock.LeaderElectionRecord, write func() error) error {
	until := time.Now().Add(leaseDuration - leaseMargin)
	if r.HolderIdentity != t.Identity() { // it is being given back
		t.lease.until.Store(nil)
	}
	err := write()
	if err == nil && r.HolderIdentity == t.Identity() {
		t.lease.until.Store(&until)
	}
	return err
}
