package main

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// writesAtOnce bounds the status writes under way. The API server's own flow control does the rest.
const writesAtOnce = 64

// writer writes statuses in parallel, so that one that is slow or fails delays no other. Its maps belong to the loop
// goroutine; results come back through a channel.
type writer struct {
	client   *kube.Client // writes only while this replica leads
	reads    *kube.Client
	poke     reconcile.Poke
	slots    chan struct{}
	results  chan written
	underWay sync.WaitGroup
	retries  map[cluster.Key]retry
	open     int       // writes that have begun and are not finished
	giving   int       // those of them that change addresses
	gaveAt   time.Time // when the last of them began
	toldAt   time.Time // when the last write began that changes only what is said
}

// While addresses are being given, and for a moment after, what is only to be said waits its turn.
const (
	givingLasts = 250 * time.Millisecond
	tellEvery   = 100 * time.Millisecond
)

type retry struct {
	failures int
	version  string // the resource version that the failed write was based on
	at       time.Time
}

// job is a status to write.
type job struct {
	before *serviceRecord
	want   kube.ServiceStatus
	lost   []allocator.Loss
}

// gives reports whether the write changes addresses, and not only what is said about them.
func (j job) gives() bool { return !slices.Equal(j.want.Addrs, j.before.Value.Ingress) }

// written is the end of one write.
type written struct {
	job
	service *corev1.Service
	err     error
}

func newWriter(writes, reads *kube.Client, poke reconcile.Poke) *writer {
	return &writer{client: writes, reads: reads, poke: poke, slots: make(chan struct{}, writesAtOnce), results: make(chan written, 4*writesAtOnce),
		retries: map[cluster.Key]retry{}}
}

// start begins a write. When it cannot now, it returns when to try again: after some time, or, if that is 0, when the end of
// another write pokes the loop. A write that has begun is not broken off when ctx ends: drain waits for it.
func (w *writer) start(ctx context.Context, j job, now time.Time) (started bool, wait time.Duration) {
	if wait := w.turn(j, now); wait > 0 {
		return false, wait
	}
	select {
	case w.slots <- struct{}{}:
	default:
		return false, 0
	}
	w.open++
	if j.gives() {
		w.giving, w.gaveAt = w.giving+1, now
	} else {
		w.toldAt = now
	}
	w.underWay.Go(func() {
		r := j.before
		service, err := w.client.WriteService(context.WithoutCancel(ctx), r.Value.Key, r.UID, r.ResourceVersion, j.want)
		if err != nil && !kube.Refused(err) {
			service, err = w.findOut(ctx, j, err)
		}
		<-w.slots
		w.results <- written{job: j, service: service, err: err}
		w.poke.Ring()
	})
	return true, 0
}

// turn returns how long a write has to wait for those that give addresses: thousands of Services that come at once all have
// one before much is said of them.
func (w *writer) turn(j job, now time.Time) time.Duration {
	if j.gives() || w.giving == 0 && now.Sub(w.gaveAt) >= givingLasts {
		return 0
	}
	return max(tellEvery-now.Sub(w.toldAt), 0)
}

// findOut reads what became of a write that got no answer, or none that says whether it was carried out. Until that is known the addresses
// stay assumed, and nobody else can be given them.
func (w *writer) findOut(ctx context.Context, j job, failed error) (*corev1.Service, error) {
	r := j.before
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		select {
		case <-ctx.Done():
			return nil, failed
		case <-time.After(wait):
		}
		bounded, cancel := context.WithTimeout(ctx, kube.RequestTimeout)
		service, err := w.reads.Services(r.Namespace).Get(bounded, r.Name, metav1.GetOptions{})
		cancel()
		switch {
		case err == nil && service.UID == r.UID && service.ResourceVersion != r.ResourceVersion && shows(service, j.want.Addrs):
			return service, nil
		case err == nil:
			return nil, failed
		case apierrors.IsNotFound(err):
			return nil, err
		}
	}
}

// shows reports whether a Service's status has these addresses, in this order.
func shows(service *corev1.Service, addrs []netip.Addr) bool {
	return slices.EqualFunc(service.Status.LoadBalancer.Ingress, addrs, func(is corev1.LoadBalancerIngress, a netip.Addr) bool { return is.IP == a.String() })
}

// finished returns the writes that have ended since the last call.
func (w *writer) finished() []written {
	var out []written
	for {
		select {
		case r := <-w.results:
			w.open--
			if r.gives() {
				w.giving--
			}
			out = append(out, r)
		default:
			return out
		}
	}
}

// wait returns how long a Service has to wait after a failed write; zero means not at all.
func (w *writer) wait(r *serviceRecord, now time.Time) time.Duration {
	back, failed := w.retries[r.Value.Key]
	switch {
	case !failed:
		return 0
	case back.version != r.ResourceVersion: // somebody changed it meanwhile: that is what a conflict waits for
		return 0
	}
	return max(back.at.Sub(now), 0)
}

// settle takes the end of a write into account: in the overlay, in events, and in when to try again.
func (s *syncer) settle(w written) {
	key := w.before.Value.Key
	if w.err == nil {
		delete(s.writer.retries, key)
		s.overlay.Done(kube.NewRecord(w.service, s.convert(w.service)))
		s.metrics.writes.WithLabelValues("ok").Inc()
		s.tell(w)
		return
	}
	if apierrors.IsNotFound(w.err) {
		delete(s.writer.retries, key)
		s.overlay.Forget(key, w.before.UID)
		return
	}
	failures := s.writer.retries[key].failures + 1
	backoff := min(50*time.Millisecond<<min(failures, 9), 15*time.Second)
	s.writer.retries[key] = retry{failures: failures, version: w.before.ResourceVersion, at: time.Now().Add(backoff)}
	s.overlay.Forget(key, w.before.UID)
	if apierrors.IsConflict(w.err) {
		s.metrics.writes.WithLabelValues("conflict").Inc()
		return
	}
	s.metrics.writes.WithLabelValues("error").Inc()
	s.log.Warn("status not written, will retry", "service", key, "error", w.err, "failures", failures, "retryIn", backoff)
}

// write begins the writes that the assignments ask for, those that give addresses first, and returns when to look again.
func (s *syncer) write(ctx context.Context, world *snapshot) time.Duration {
	now := time.Now()
	departing := leaving(world)
	var again time.Duration
	var giving, telling []job
	for i, r := range world.records {
		outcome := world.outcome(i)
		if s.settled.is(r, outcome) {
			continue
		}
		want, differs, recheck := s.desired(r, outcome, world.owned, now)
		again = reconcile.Sooner(again, recheck)
		if !differs && recheck == 0 {
			s.settled.note(r, outcome)
		}
		if !differs || s.overlay.Writing(r.Value.Key) {
			continue
		}
		if wait := s.writer.wait(r, now); wait > 0 {
			again = reconcile.Sooner(again, wait)
			continue
		}
		j := job{before: r, want: want}
		if outcome != nil {
			j.lost = outcome.Lost
		}
		switch {
		case slices.ContainsFunc(want.Addrs, func(a netip.Addr) bool { return departing.blocks(a, r) }):
			// the end of the other's write pokes the loop
		case j.gives():
			giving = append(giving, j)
		default:
			telling = append(telling, j)
		}
	}
	s.begin(ctx, giving, now)
	again = reconcile.Sooner(again, s.begin(ctx, telling, now))
	s.forget(len(world.records))
	return again
}

// begin begins as many writes as it can, and returns when to go on if no end of a write says so.
func (s *syncer) begin(ctx context.Context, jobs []job, now time.Time) time.Duration {
	for _, j := range jobs {
		if !s.lease.Held() {
			return 0
		}
		if started, wait := s.writer.start(ctx, j, now); !started {
			return wait
		}
		s.overlay.Begin(j.before, j.want.Addrs, j.want.Pools)
	}
	return 0
}

// departures are the addresses that Services still hold and shall give up.
type departures map[netip.Addr]struct{}

// leaving collects the departures. Nobody else is given such an address before the write that takes it away is done: that one
// may fail and this one not, and then two would hold it.
func leaving(world *snapshot) departures {
	d := departures{}
	for i, r := range world.records {
		outcome := world.outcome(i)
		if outcome == nil {
			continue
		}
		for _, a := range r.Value.Held {
			if !slices.Contains(outcome.Addrs, a) {
				d[a] = struct{}{}
			}
		}
	}
	return d
}

// blocks reports whether a Service must wait for an address.
func (d departures) blocks(a netip.Addr, r *serviceRecord) bool {
	_, is := d[a]
	return is && !slices.Contains(r.Value.Held, a)
}

// forget drops what is remembered of Services that are gone, of so many that there are.
func (s *syncer) forget(services int) {
	if len(s.settled) > 1000+2*services {
		s.settled.clear()
	}
	for key := range s.writer.retries {
		if _, present := s.services.Get(key.String()); !present {
			delete(s.writer.retries, key)
		}
	}
	for key := range s.silent {
		if _, present := s.services.Get(key.String()); !present {
			delete(s.silent, key)
		}
	}
}

// announcedAddresses returns what the speakers say that they answer for, and takes in what they tell routers.
func (s *syncer) announcedAddresses() map[netip.Addr]struct{} {
	records := s.speakers.Records()
	if versions := kube.VersionsOf(records); versions != s.ownedKey || s.owned == nil {
		s.ownedKey, s.owned, s.routedLocal = versions, map[netip.Addr]struct{}{}, map[netip.Addr]struct{}{}
		for _, r := range records {
			for _, a := range r.Value.Local {
				s.routedLocal[a] = struct{}{}
			}
			for _, a := range r.Value.Owned {
				s.owned[a] = struct{}{}
			}
		}
		s.settled.clear()
	}
	s.followRoutes(records)
	return s.owned
}

// followRoutes takes in which advertisements reach a router.
func (s *syncer) followRoutes(speakers []*kube.Record[kube.Said]) {
	key := ""
	if len(s.config.Peers) > 0 {
		key = s.ownedKey + "/" + s.configKey + "/" + kube.VersionsOf(s.nodes.Records())
	}
	if key != s.routedKey {
		s.routedKey, s.routed = key, routed(s.config, s.nodes.Records(), speakers)
		s.settled.clear()
	}
}
