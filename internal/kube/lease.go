package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// Lease keeps one writer among the replicas of the controller.
type Lease struct {
	client    *Client
	namespace string
	name      string
	identity  string
	log       *slog.Logger
	poke      reconcile.Poke

	elector atomic.Pointer[leaderelection.LeaderElector]
	leading atomic.Bool
}

// NewLease prepares a lease; Run takes part. The poke is rung when this replica becomes the writer, or stops being it.
func NewLease(c *Client, namespace, name, identity string, poke reconcile.Poke, log *slog.Logger) *Lease {
	return &Lease{client: c, namespace: namespace, name: name, identity: identity, poke: poke, log: log}
}

const (
	leaseDuration = 4 * time.Second
	renewDeadline = 2500 * time.Millisecond
	retryPeriod   = 500 * time.Millisecond
)

// Run takes part in the election until ctx ends; then the lease is given back at once. Losing the lease, as when the API
// server is away, is no reason to end: it is tried for again.
func (l *Lease) Run(ctx context.Context) error {
	cfg := *l.client.Config
	cfg.Timeout = renewDeadline
	coord, err := coordination.NewForConfig(&cfg)
	if err != nil {
		return fmt.Errorf("preparing the lease: %w", err)
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: l.namespace, Name: l.name},
		Client:     coord,
		LockConfig: resourcelock.ResourceLockConfig{Identity: l.identity},
	}
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, Name: l.name, ReleaseOnCancel: true,
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) {
					l.log.Info("took the lease, this replica writes now", "lease", l.name)
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
		l.elector.Store(elector)
		elector.Run(ctx)
		l.leading.Store(false)
	}
	return nil
}

// Held reports whether this replica may write now. A replica that was frozen finds its lease run out here, before another
// has told it so.
func (l *Lease) Held() bool {
	elector := l.elector.Load()
	return l.leading.Load() && elector != nil && elector.IsLeader() && elector.Check(0) == nil
}
