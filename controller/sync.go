package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/kube/lease"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

type serviceRecord = kube.Record[kube.Service]

// syncer is the controller's one loop: it takes a snapshot of the world, assigns, and writes what differs. Its fields below
// the line are the loop goroutine's alone.
type syncer struct {
	client    *kube.Client
	namespace string
	poke      reconcile.Poke

	services   *kube.Source[kube.Service]
	namespaces *kube.Source[map[string]string]
	nodes      *kube.Source[cluster.Node]
	objects    *kube.ConfigSource
	speakers   *kube.Source[kube.Said]

	convert func(*corev1.Service) kube.Service
	lease   *lease.Lease
	events  *kube.Recorder
	reports *reporter
	metrics *metrics
	log     *slog.Logger
	dump    atomic.Pointer[snapshot]
	idle    chan struct{} // closed when the loop has ended

	renumberWindow time.Duration

	// ---
	overlay     *kube.Overlay
	writer      *writer
	leading     bool
	secretAt    time.Time // when the Secret of gossip was there; zero: not looked for since this replica leads
	configKey   string
	config      config.Config
	problems    []config.Problem
	retention   *retention
	settled     settled
	conflicts   conflicts
	inUse       []allocator.InUse
	routed      routes // by configuration and sessions
	routedKey   string
	routedLocal map[netip.Addr]struct{} // of Services with TrafficLocal, that some router has been told
	ownedKey    string
	owned       map[netip.Addr]struct{}
	silent      map[cluster.Key]time.Time // since when nobody announces a Service that holds addresses
}

// snapshot is what one pass saw and decided.
type snapshot struct {
	Services    []cluster.Service
	Retained    []allocator.Retention
	Config      config.Config
	Assignments allocator.Assignments

	records []*serviceRecord
	at      []int                   // by record: the position in Services, or -1 for what is not ours to serve
	owned   map[netip.Addr]struct{} // what the speakers say that they answer for
}

// outcome returns what was assigned to a record; nil for what is not ours to serve.
func (w *snapshot) outcome(record int) *allocator.Outcome {
	if w.at[record] < 0 {
		return nil
	}
	return &w.Assignments.Services[w.at[record]]
}

func (s *syncer) tasks() []func(context.Context) error {
	loop := &reconcile.Loop{Name: "sync", Poke: s.poke, Pass: s.pass, Resync: 5 * time.Minute, Log: s.log}
	return []func(context.Context) error{
		s.readServices, s.namespaces.Run, s.nodes.Run, s.objects.Run, s.speakers.Run, s.events.Run, s.reports.Run,
		func(ctx context.Context) error { return s.lease.Run(ctx, s.drain) },
		func(ctx context.Context) error { defer close(s.idle); return loop.Run(ctx) },
	}
}

// headStart is how long the lists of Services wait for the lease when the program starts: what is listed after it was taken
// need not be read again.
const headStart = 300 * time.Millisecond

func (s *syncer) readServices(ctx context.Context) error {
	for began := time.Now(); !s.lease.Held() && time.Since(began) < headStart && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
	}
	return s.services.Run(ctx)
}

// drain waits until nothing more is written, so that the next writer sees all of it.
func (s *syncer) drain() {
	<-s.idle
	s.writer.underWay.Wait()
}

func (s *syncer) synced() bool {
	return s.services.Synced() && s.namespaces.Synced() && s.nodes.Synced() && s.objects.Synced() && s.speakers.Synced()
}

// ready says why this replica could not take over now.
func (s *syncer) ready() error {
	if !s.synced() {
		return errors.New("the first lists from the API server are not complete")
	}
	return nil
}

// secretEvery is how often the Secret of gossip is looked for: whoever deletes it, to have another, gets one at the next pass after that.
const secretEvery = time.Minute

// pass is one turn: see, assign, write what differs.
func (s *syncer) pass(ctx context.Context, _ time.Time) (time.Duration, error) {
	if !s.synced() {
		return 20 * time.Millisecond, nil
	}
	s.parseConfig()
	if !s.lease.Held() {
		s.leading, s.secretAt = false, time.Time{}
		s.metrics.leading.Set(0)
		if s.retention.needed(s.config) {
			s.retention.watch(s.config, s.services.Records(), time.Now())
		}
		return time.Second, nil
	}
	if now := time.Now(); now.Sub(s.secretAt) >= secretEvery {
		if err := s.client.EnsureGossipSecret(ctx, s.namespace); err != nil && !s.leading {
			return 0, err
		} else if err != nil {
			s.log.Warn("the Secret of gossip may be missing, and speakers that start wait for it", "error", err)
		}
		s.secretAt = now
	}
	for _, result := range s.writer.finished() {
		s.settle(result)
	}
	if err := s.takeOver(ctx); err != nil || !s.leading {
		return 20 * time.Millisecond, err
	}
	started := time.Now()
	version := s.services.Version()
	records := s.overlay.Lay(s.services.Records(), version)
	if s.retention.needed(s.config) {
		s.retention.watch(s.config, records, started)
	}
	world := s.snapshot(records, started)
	retained, again := s.retention.list(started)
	world.Retained = retained
	if s.conflicts.learn(s.speakers.Records(), started) {
		s.settled.clear()
	}
	inUse, clears := elsewhere(s.config, s.nodes.Records(), s.speakers.Records(), s.conflicts, started)
	s.inUse, again = inUse, reconcile.Sooner(again, clears)
	world.Assignments = allocator.Assign(s.config, world.Services, retained, inUse)
	s.metrics.pass.Observe(time.Since(started).Seconds())
	again = reconcile.Sooner(again, s.write(ctx, world))
	s.dump.Store(world)
	s.metrics.observe(world, s.problems)
	s.reports.box.Put(s.report(world))
	return again, nil
}

// takeOver makes this replica the leader, if it is not yet. Writes of an earlier term are waited for: what they were to give has been given to
// others meanwhile, and as long as it is assumed to be held, those would have to give way.
func (s *syncer) takeOver(ctx context.Context) error {
	if s.leading || s.writer.open > 0 {
		return nil
	}
	if s.services.Asked().Before(s.lease.Taken()) {
		if err := s.catchUp(ctx); err != nil {
			return err
		}
	}
	s.retention.learn(s.poolObjects())
	s.leading = true
	s.metrics.leading.Set(1)
	return nil
}

// catchUp reads the Services anew before the first pass of a new leader: its informer may lag behind what the last leader
// wrote a moment ago.
func (s *syncer) catchUp(ctx context.Context) error {
	opts := metav1.ListOptions{Limit: 1000}
	for {
		bounded, cancel := context.WithTimeout(ctx, kube.RequestTimeout)
		page, err := s.client.Services("").List(bounded, opts)
		cancel()
		if err != nil {
			return fmt.Errorf("reading the Services before taking over: %w", err)
		}
		for i := range page.Items {
			wire := &page.Items[i]
			if value := s.convert(wire); value.Wanted || value.Marked {
				s.overlay.Learn(kube.NewRecord(wire, value))
			}
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			return nil
		}
	}
}

// parseConfig parses the pools and advertisements when any of them has changed.
func (s *syncer) parseConfig() {
	key := s.objects.Versions()
	if key == s.configKey {
		return
	}
	s.configKey = key
	s.config, s.problems = config.Parse(s.objects.Objects())
	for _, n := range s.objects.Notes() {
		s.log.Warn("an object of MetalLB's is not taken as it is", "note", n.String())
	}
	s.settled.clear()
}

func (s *syncer) poolObjects() []v1beta1.IPAddressPool {
	var pools []v1beta1.IPAddressPool
	for _, r := range s.objects.Pools.Records() {
		pools = append(pools, r.Value)
	}
	return pools
}

// snapshot collects the Services that are ours to serve. One that has addresses which we never gave and no pool covers
// belongs to another controller and is left alone.
func (s *syncer) snapshot(records []*serviceRecord, now time.Time) *snapshot {
	labels := make(map[string]map[string]string)
	for _, r := range s.namespaces.Records() {
		labels[r.Name] = r.Value
	}
	world := &snapshot{Config: s.config, Services: make([]cluster.Service, 0, len(records)),
		records: records, at: make([]int, len(records)), owned: s.announcedAddresses()}
	for i, r := range records {
		world.at[i] = -1
		if !s.serves(&r.Value) {
			continue
		}
		service := r.Value.Service
		if len(service.Held) == 0 {
			service.Held = r.Value.Ingress
		}
		service.NamespaceLabels = labels[service.Key.Namespace]
		service.OldMayGo = s.windowOver(&r.Value, world.owned, now)
		world.at[i] = len(world.Services)
		world.Services = append(world.Services, service)
	}
	return world
}

// serves reports whether a Service is ours to serve.
func (s *syncer) serves(v *kube.Service) bool {
	switch {
	case !v.Wanted:
		return false
	case len(v.Held) == 0 && (len(v.Ingress) > 0 || v.Hostname):
		return s.adopts(v)
	}
	return true
}

// adopts reports whether the addresses of a Service that carries no mark of ours are all from our pools: then the mark was
// lost, and the addresses must not be given to anybody else.
func (s *syncer) adopts(v *kube.Service) bool {
	if v.Marked {
		return true
	}
	for _, a := range v.Ingress {
		if s.config.PoolIndex(a) < 0 {
			return false
		}
	}
	return !v.Hostname
}

func (s *syncer) dumpView() any {
	if world := s.dump.Load(); world != nil {
		return map[string]any{"services": world.Services, "retained": world.Retained, "config": world.Config}
	}
	return map[string]any{}
}

func (s *syncer) dumpPlan() any {
	if world := s.dump.Load(); world != nil {
		return world.Assignments
	}
	return map[string]any{}
}
