package scenarios

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// crowd creates and deletes Services at random.
type crowd struct {
	*ledgered
	random *rand.Rand
	most   int // Services at a time

	mu     sync.Mutex
	living []*corev1.Service
	made   int
}

func (c *crowd) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.step(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(c.random.IntN(120)) * time.Millisecond):
		}
	}
}

func (c *crowd) step(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.living); n > 0 && (n >= c.most || c.random.IntN(5) < 2) {
		i := c.random.IntN(n)
		if err := c.remove(ctx, c.living[i].Namespace, c.living[i].Name); err != nil && ctx.Err() == nil {
			c.Error(err)
		}
		c.living = slices.Delete(c.living, i, i+1)
		return
	}
	service, err := c.client.CoreV1().Services(metav1.NamespaceDefault).Create(ctx, wanting(metav1.NamespaceDefault, fmt.Sprintf("crowd-%d", c.made)), metav1.CreateOptions{})
	if err != nil {
		if ctx.Err() == nil {
			c.Error(err)
		}
		return
	}
	c.made++
	c.living = append(c.living, service)
}

// now are the Services that live, as they are.
func (c *crowd) now() []*corev1.Service {
	c.Helper()
	list, err := c.client.CoreV1().Services(metav1.NamespaceDefault).List(c.ctx, metav1.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	var all []*corev1.Service
	for i := range list.Items {
		if list.Items[i].Spec.Type == corev1.ServiceTypeLoadBalancer {
			all = append(all, &list.Items[i])
		}
	}
	return all
}

// waits until some Service is as ok says.
func (c *crowd) waits(what string, ok func(*corev1.Service) bool) {
	c.Helper()
	c.eventually(patience, what, func() bool { return slices.ContainsFunc(c.now(), ok) })
}

func TestAPoolInAllMoodsTakesNothingAway(t *testing.T) {
	s := onLightLab(t, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &crowd{ledgered: s, random: rand.New(rand.NewPCG(seed, 1)), most: 40}
	const all = `addresses: ["198.18.64.1-198.18.64.60"]`
	s.poolOf("moody", all)
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.run(ctx) })
	defer wg.Wait()
	defer cancel()

	holds := func(service *corev1.Service) bool { return len(service.Status.LoadBalancer.Ingress) > 0 }
	is := func(reason string, held bool) func(*corev1.Service) bool {
		return func(service *corev1.Service) bool { return reasonOf(service) == reason && holds(service) == held }
	}
	for round := range 2 {
		for i := range 5 { // more than the smaller pool has, and the crowd leaves them alone
			c.becomes(c.create(fmt.Sprintf("steady-%d-%d", round, i)), 1, "Allocated")
		}
		time.Sleep(time.Second)

		s.poolOf("moody", all+`, excludedAddresses: ["198.18.0.0/16"]`)
		c.waits("a Service keeps what the emptied pool gave it", is("OutOfPool", true))
		c.waits("a new Service gets nothing from the emptied pool", is("NoEligiblePool", false))
		s.poolOf("moody", all+`, excludedAddresses: []`)
		c.waits("a Service is served from the pool that is full again", is("Allocated", true))

		s.poolOf("moody", `addresses: ["198.18.64.1-198.18.64.3"]`)
		c.waits("a Service keeps what the smaller pool does not have", is("OutOfPool", true))
		c.waits("a new Service waits for the smaller pool", is("Exhausted", false))
		s.poolOf("moody", all)
		c.waits("a Service is served from the wider pool", is("Allocated", true))
		c.deleted("moody")
		s.poolOf("moody", all)
	}
	cancel()
	wg.Wait()
	for _, service := range c.now() {
		s.becomes(service, 1, "Allocated")
	}
	s.quiet()
	s.stayed()
	t.Logf("%d Services, %d changes", c.made, s.holds.Seen())
}

// deleted deletes the pool, and checks that it gives nothing more, goes with the last Service that has an address of it, and
// serves again when it is made anew.
func (c *crowd) deleted(pool string) {
	c.Helper()
	ready := func() string {
		out, err := c.Kubectl(c.ctx, "get", "pool", pool, "--ignore-not-found", "-o", `jsonpath={.metadata.finalizers}{.status.conditions[?(@.type=="Ready")].reason}`)
		if err != nil {
			c.Fatal(err)
		}
		return out
	}
	c.eventually(patience, "the pool is protected", func() bool { return strings.Contains(ready(), "bellwether.dev/in-use") })
	c.must("delete", "pool", pool, "--wait=false")
	c.eventually(patience, "the pool says that it goes", func() bool { return strings.Contains(ready(), "Deleting") })
	late := c.create("late")
	var holders []*corev1.Service
	for _, service := range c.now() {
		if len(service.Status.LoadBalancer.Ingress) > 0 {
			holders = append(holders, service)
		}
	}
	if len(holders) == 0 {
		c.Fatal("no Service has an address of the pool that is deleted")
	}
	time.Sleep(time.Second)
	c.becomes(late, 0, "NoEligiblePool")
	for i, service := range holders {
		c.act(c.remove(c.ctx, service.Namespace, service.Name))
		if i < len(holders)-1 && ready() == "" {
			for _, left := range holders[i+1:] {
				if a, found := c.holds.Account(left.UID); found && !a.Gone {
					c.Errorf("the pool went while Service %s had %v of it", left.Name, a.Addrs())
				}
			}
		}
	}
	c.must("wait", "--for=delete", "pool/"+pool, "--timeout=90s")
	c.becomes(late, 0, "NoPool")
	for _, service := range c.now() {
		if in := service.Status.LoadBalancer.Ingress; len(in) > 0 {
			c.Errorf("the pool has gone, and Service %s has %v", service.Name, in)
		}
	}
	c.poolOf(pool, `addresses: ["198.18.64.1-198.18.64.60"]`)
	c.becomes(late, 1, "Allocated")
	c.eventually(patience, "the stream shows it", func() bool { return len(c.story(late).Changes) > 0 })
	if a := c.story(late); len(a.Changes) != 1 {
		c.Errorf("a Service made after the pool was deleted had %+v", a.Changes)
	}
	c.act(c.remove(c.ctx, late.Namespace, late.Name))
}
