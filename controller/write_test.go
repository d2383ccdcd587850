package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

func conflict() error {
	return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, "web", nil)
}
func notFound() error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, "web")
}

func newWritingDesk() *desk {
	d := newDesk()
	d.overlay, d.metrics = kube.NewOverlay(), newMetrics(prometheus.NewRegistry())
	d.writer = newWriter(nil, nil, reconcile.NewPoke())
	d.convert = kube.ServiceConverter(kube.DefaultLoadBalancerClass)
	return d
}

func TestAWriteThatFailsIsTriedAgainLaterAndLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time stands still
		d := newWritingDesk()
		var waits []time.Duration
		for range 12 {
			d.settle(written{job: job{before: d.record}, err: errors.New("no")})
			waits = append(waits, d.writer.wait(d.record, time.Now()))
		}
		if !slices.IsSorted(waits) || waits[0] != 100*time.Millisecond || waits[11] != 15*time.Second {
			t.Errorf("waits %v, want 100 ms at first and 15 s in the end", waits)
		}
		newer := *d.record
		newer.ResourceVersion = "11"
		if wait := d.writer.wait(&newer, time.Now()); wait != 0 {
			t.Errorf("waits %v though somebody changed the Service meanwhile", wait)
		}
		if d.overlay.Writing(d.record.Value.Key) {
			t.Error("a write that failed counts as under way")
		}
	})
}

func TestAConflictWaitsForTheNextVersion(t *testing.T) {
	d := newWritingDesk()
	d.settle(written{job: job{before: d.record}, err: conflict()})
	if wait := d.writer.wait(d.record, time.Now()); wait == 0 {
		t.Error("the same version is written again at once")
	}
}

func TestAServiceThatHasGoneIsForgotten(t *testing.T) {
	d := newWritingDesk()
	d.settle(written{job: job{before: d.record}, err: errors.New("no")})
	d.overlay.Begin(d.record, ips("192.0.2.1"), nil)
	d.settle(written{job: job{before: d.record}, err: notFound()})
	if len(d.writer.retries) > 0 || d.overlay.Writing(d.record.Value.Key) {
		t.Errorf("remembers %v, writing %t", d.writer.retries, d.overlay.Writing(d.record.Value.Key))
	}
}

func TestASuccessEndsTheWaiting(t *testing.T) {
	d := newWritingDesk()
	d.events = kube.NewRecorder(&kube.Client{}, "test", "")
	d.settle(written{job: job{before: d.record}, err: errors.New("no")})
	wire := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u1", ResourceVersion: "11"}}
	d.settle(written{job: job{before: d.record}, service: wire})
	if wait := d.writer.wait(d.record, time.Now()); wait != 0 {
		t.Errorf("waits %v after a success", wait)
	}
}

func TestOnlyARefusalSaysThatNothingWasWritten(t *testing.T) {
	for err, want := range map[error]bool{
		conflict(): true, notFound(): true, apierrors.NewTooManyRequests("busy", 1): true,
		errors.New("connection reset"): false, apierrors.NewTimeoutError("etcd", 1): false, apierrors.NewInternalError(errors.New("etcd")): false,
	} {
		if kube.Refused(err) != want {
			t.Errorf("%v: a refusal: %t", err, !want)
		}
	}
}

func TestAWriteIsFoundByWhatItWrote(t *testing.T) {
	service := &corev1.Service{Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}, {IP: "2001:db8::1"}}}}}
	if !shows(service, ips("192.0.2.1", "2001:db8::1")) || shows(service, ips("192.0.2.1")) || shows(service, ips("2001:db8::1", "192.0.2.1")) {
		t.Error("it is not by its addresses that a write is known")
	}
}

// TestWhatBecameOfAWrite: the API server does not say at first whether it was carried out.
func TestWhatBecameOfAWrite(t *testing.T) {
	gone := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`
	service := func(uid, version, ip string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"ns","name":"web","uid":%q,"resourceVersion":%q},"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, uid, version, ip)
	}
	for _, c := range []struct {
		says    string
		code    int
		answer  string
		written bool
	}{
		{"it was written", 200, service("u1", "11", "192.0.2.1"), true},
		{"nothing was written", 200, service("u1", "10", "192.0.2.9"), false},
		{"what is wanted was there already, and nothing was written", 200, service("u1", "10", "192.0.2.1"), false},
		{"another wrote something else", 200, service("u1", "11", "192.0.2.9"), false},
		{"it is another Service", 200, service("u2", "11", "192.0.2.1"), false},
		{"it is gone", 404, gone, false},
	} {
		t.Run(c.says, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if asked++; asked < 3 { // it may not say yet, nor who asks be let in
					w.WriteHeader([]int{http.StatusGatewayTimeout, http.StatusForbidden}[asked-1])
					return
				}
				w.WriteHeader(c.code)
				_, _ = w.Write([]byte(c.answer))
			}))
			defer server.Close()
			client, err := kube.NewClient(&rest.Config{Host: server.URL, QPS: -1})
			if err != nil {
				t.Fatal(err)
			}
			j := job{before: newDesk().record, want: kube.ServiceStatus{Addrs: ips("192.0.2.1")}}
			j.before.Namespace, j.before.Name = "ns", "web"
			failed := errors.New("no answer")
			found, err := newWriter(nil, client, reconcile.NewPoke()).findOut(t.Context(), j, failed)
			if asked != 3 || (err == nil) != c.written || (found != nil) != c.written || c.code == 200 && !c.written && !errors.Is(err, failed) {
				t.Errorf("asked %d times, it finds %v, %v", asked, found, err)
			}
		})
	}
}

// TestAWriteOfAnEarlierTerm: a leader is frozen before its write has left it, and wakes when another leads. What became of the write is known
// then, and before that it does not lead again: it would hold what the other gave to somebody else against that one.
func TestAWriteOfAnEarlierTerm(t *testing.T) {
	left := make(chan string, 9)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		left <- r.Method
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"ns","name":"web","uid":"u1","resourceVersion":"10"}}`))
	}))
	defer server.Close()
	reads, err := kube.NewClient(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	fenced, err := reads.Fenced(func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	d := newWritingDesk()
	d.writer = newWriter(fenced, reads, reconcile.NewPoke())
	d.record.Namespace, d.record.Name = "ns", "web"
	j := job{before: d.record, want: kube.ServiceStatus{Addrs: ips("192.0.2.1")}}
	if started, _ := d.writer.start(t.Context(), j, time.Now()); !started {
		t.Fatal("the write does not begin")
	}
	d.overlay.Begin(d.record, j.want.Addrs, nil)
	if err := d.takeOver(t.Context()); err != nil || d.leading {
		t.Errorf("it leads while a write is under way: %t, %v", d.leading, err)
	}
	d.writer.underWay.Wait()
	if method := <-left; method != http.MethodGet || len(left) > 0 {
		t.Errorf("%s and %d more have left a replica that does not lead", method, len(left))
	}
	for _, result := range d.writer.finished() {
		d.settle(result)
	}
	if d.writer.open > 0 || d.overlay.Writing(d.record.Value.Key) {
		t.Errorf("%d writes are thought to be under way", d.writer.open)
	}
}

func TestTheSlotsBoundTheWritesUnderWay(t *testing.T) {
	w := newWriter(nil, nil, reconcile.NewPoke())
	for range writesAtOnce {
		w.slots <- struct{}{}
	}
	if started, _ := w.start(t.Context(), job{before: newDesk().record}, time.Now()); started {
		t.Error("a write began though all slots are taken")
	}
}

// two Services in one world: the first moves away from the address that the second shall have.
func TestAnAddressIsNotGivenOnBeforeItHasBeenGivenBack(t *testing.T) {
	pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	pool.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.1-192.0.2.2"}
	c, _ := config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{pool}})
	record := func(name string, change func(*kube.Service)) *serviceRecord {
		r := &serviceRecord{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
		r.Value.Key, r.Value.Wanted, r.Value.Families = cluster.Key{Namespace: "ns", Name: name}, true, []cluster.Family{cluster.IPv4}
		change(&r.Value)
		return r
	}
	mover := record("a", func(v *kube.Service) { holds("p", "192.0.2.2", "192.0.2.1")(v); v.WantAddrs = ips("192.0.2.2") })
	waiter := record("b", func(v *kube.Service) { v.WantAddrs = ips("192.0.2.1") })
	moved := mover.Value.Service
	moved.OldMayGo = true
	world := &snapshot{Config: c, Services: []cluster.Service{moved, waiter.Value.Service}, records: []*serviceRecord{mover, waiter}, at: []int{0, 1}}
	world.Assignments = allocator.Assign(c, world.Services, nil, nil)
	if got := world.outcome(1).Addrs; !slices.Equal(got, ips("192.0.2.1")) {
		t.Fatalf("the waiting Service is assigned %v", got)
	}
	departing := leaving(world)
	if !departing.blocks(ips("192.0.2.1")[0], waiter) || departing.blocks(ips("192.0.2.2")[0], mover) {
		t.Errorf("the waiting Service must wait, and the other must not: %v", departing)
	}
}

// lists is an API server without Services.
type lists struct{}

func (lists) List(context.Context, metav1.ListOptions) (*corev1.ServiceList, error) {
	return &corev1.ServiceList{}, nil
}
func (lists) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return watch.NewFake(), nil
}

func TestWhatIsRememberedOfServicesThatAreGoneIsDropped(t *testing.T) {
	d := newWritingDesk()
	gone := cluster.Key{Namespace: "ns", Name: "gone"}
	d.writer.retries[gone] = retry{}
	d.silent = map[cluster.Key]time.Time{gone: {}}
	services, err := kube.NewSource(lists{}, &corev1.Service{}, d.convert, reconcile.NewPoke())
	if err != nil {
		t.Fatal(err)
	}
	d.services = services
	d.forget(0)
	if len(d.writer.retries) != 0 || len(d.silent) != 0 {
		t.Errorf("remembers %v and %v", d.writer.retries, d.silent)
	}
}

func TestConditionsOfPools(t *testing.T) {
	younger := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "z"}}
	younger.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.0/30", "203.0.113.1"}
	bad := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "bad"}}
	bad.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.64/30", "web"}
	good := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	good.Spec.Addresses, good.Spec.Advertise = []v1beta1.AddressRange{"192.0.2.0/29"}, []v1beta1.Protocol{v1beta1.ProtocolL2}
	full := allocator.PoolUsage{V4: allocator.Usage{Total: 8, Assigned: 8}}
	free := allocator.PoolUsage{V4: allocator.Usage{Total: 8, Available: 8}}
	s := &syncer{log: slog.New(slog.DiscardHandler)}
	s.config, s.problems = config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{younger, bad, good}})
	for _, c := range []struct {
		says  string
		wire  v1beta1.IPAddressPool
		usage allocator.PoolUsage
		want  []string
	}{
		{"one that is fine", good, free, []string{"Accepted=True", "Ready=True", "Exhausted=False", "Overlaps=False", "Advertised=True"}},
		{"one that is full", good, full, []string{"Accepted=True", "Ready=True", "Exhausted=True", "Overlaps=False", "Advertised=True"}},
		{"one that overlaps an elder", younger, free, []string{"Accepted=True", "Ready=True", "Exhausted=False", "Overlaps=True", "Advertised=False"}},
		{"one with an entry that cannot be read", bad, free, []string{"Accepted=False", "Ready=False", "Exhausted=False", "Overlaps=False", "Advertised=False"}},
	} {
		t.Run(c.says, func(t *testing.T) {
			var got []string
			for _, condition := range s.poolConditions(c.wire, c.usage) {
				got = append(got, condition.Type+"="+string(condition.Status))
				if condition.Reason == "" || condition.Message == "" {
					t.Errorf("%s has no reason or no sentence", condition.Type)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestAPoolInUseIsHeldByAFinalizer(t *testing.T) {
	for _, c := range []struct {
		has    []string
		wanted bool
		want   []string
	}{
		{nil, true, []string{v1beta1.FinalizerInUse}},
		{[]string{"x"}, true, []string{"x", v1beta1.FinalizerInUse}},
		{[]string{"x", v1beta1.FinalizerInUse}, true, []string{"x", v1beta1.FinalizerInUse}},
		{[]string{"x", v1beta1.FinalizerInUse}, false, []string{"x"}},
		{[]string{"x"}, false, []string{"x"}},
	} {
		if got := withFinalizer(c.has, c.wanted); !slices.Equal(got, c.want) {
			t.Errorf("%v, wanted %t: got %v, want %v", c.has, c.wanted, got, c.want)
		}
	}
}

func TestWhatIsSaidTakesTurnsWhileAddressesAreGiven(t *testing.T) {
	w := newWriter(nil, nil, reconcile.NewPoke())
	record := newDesk(holds("p", "192.0.2.1")).record
	gives := job{before: record, want: kube.ServiceStatus{Addrs: ips("192.0.2.2")}}
	tells := job{before: record, want: kube.ServiceStatus{Addrs: ips("192.0.2.1")}}
	if !gives.gives() || tells.gives() {
		t.Fatal("a write is taken for what it is not")
	}
	now := time.Unix(1000, 0)
	if wait := w.turn(tells, now); wait != 0 {
		t.Errorf("nothing is given, and what is to be said waits %v", wait)
	}
	w.giving, w.gaveAt, w.toldAt = 1, now, now
	if wait := w.turn(gives, now); wait != 0 {
		t.Errorf("an address waits %v", wait)
	}
	for after, want := range map[time.Duration]time.Duration{0: tellEvery, 40 * time.Millisecond: 60 * time.Millisecond, tellEvery: 0} {
		if wait := w.turn(tells, now.Add(after)); wait != want {
			t.Errorf("%v after the last it waits %v, want %v", after, wait, want)
		}
	}
	w.open = 1
	w.results <- written{job: gives}
	if w.finished(); w.giving != 0 {
		t.Errorf("%d writes are thought to be under way", w.giving)
	}
	if wait := w.turn(tells, now.Add(10*time.Millisecond)); wait == 0 {
		t.Error("more addresses may be coming, and it does not wait")
	}
	if wait := w.turn(tells, now.Add(givingLasts)); wait != 0 {
		t.Errorf("nothing is given any more, and it waits %v", wait)
	}
}

func TestAServiceAtRestIsLookedAtAgainOnlyWhenSomethingChanges(t *testing.T) {
	d := newDesk(holds("p", "192.0.2.1"))
	outcome := d.world().outcome(0)
	if d.settled.is(d.record, outcome) {
		t.Error("at rest before anybody looked")
	}
	d.settled.note(d.record, outcome)
	if !d.settled.is(d.record, d.world().outcome(0)) {
		t.Error("looked at again though nothing has changed")
	}
	newer := *d.record
	other := *outcome
	other.Reason = allocator.OutOfPool
	if d.settled.is(&newer, outcome) || d.settled.is(d.record, &other) || d.settled.is(d.record, nil) {
		t.Error("not looked at again though something has changed")
	}
	d.settled.clear()
	if d.settled.is(d.record, outcome) {
		t.Error("at rest after all was forgotten")
	}
}
