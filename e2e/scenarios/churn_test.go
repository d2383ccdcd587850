package scenarios

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// numberFrom reads a number of at least one from the environment.
func numberFrom(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q: set it to a number of at least 1", variable, text)
	}
	return n
}

// churnRules are pools that have together fewer addresses than the Services that live at a time want.
func churnRules() []rule {
	return []rule{
		{name: "a-open", addresses: []string{"198.18.64.0-198.18.64.79"}, excluded: []string{"198.18.64.3", "198.18.64.9"}, avoid: true},
		{name: "b-both", addresses: []string{"198.18.65.1-198.18.65.60", "fd00:198:18:0:1::1-fd00:198:18:0:1::40"}, across: true},
		{name: "c-gold", addresses: []string{"198.18.66.1-198.18.66.30", "fd00:198:18:0:2::1-fd00:198:18:0:2::10"}, label: "gold", priority: 5},
		{name: "d-red", addresses: []string{"198.18.67.1-198.18.67.20"}, label: "red", priority: 1},
		{name: "e-asked", addresses: []string{"198.18.68.250-198.18.69.9"}, request: true, avoid: true},
		{name: "f-six", addresses: []string{"fd00:198:18:0:3::1-fd00:198:18:0:3::10"}},
	}
}

// churn is thousands of Services in a random order.
type churn struct {
	*ledgered
	seed  uint64
	total int64
	rules []rule
	tiers map[string]string
	made  atomic.Int64
}

func (c *churn) namespaces() []string { return []string{"churn-gold", "churn-red", "churn-none"} }

// shape gives the n-th Service its wishes.
func (c *churn) shape(random *rand.Rand, n int64) *corev1.Service {
	namespace := c.namespaces()[random.IntN(3)]
	s := wanting(namespace, fmt.Sprintf("churn-%d", n))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	switch random.IntN(10) {
	case 0, 1:
		ofPolicy(corev1.IPFamilyPolicyRequireDualStack)(s)
	case 2, 3:
		ofPolicy(corev1.IPFamilyPolicyPreferDualStack)(s)
	case 4:
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	}
	if random.IntN(4) == 0 {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.Selector["app"] = pick("web", "mail")
	}
	if random.IntN(3) == 0 {
		annotated("bellwether.dev/allow-shared-ip", pick("x", "y", "z"))(s)
		s.Spec.Ports[0].Port = int32(80 + random.IntN(4))
		if random.IntN(4) == 0 {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "more", Port: 90, Protocol: corev1.ProtocolUDP})
			s.Spec.Ports[0].Name = "first"
		}
	}
	switch random.IntN(8) {
	case 0:
		want := c.someAddress(random)
		if random.IntN(3) == 0 {
			want = fmt.Sprintf("198.18.65.%d, fd00:198:18:0:1::%x", 1+random.IntN(60), 1+random.IntN(64))
		}
		annotated("bellwether.dev/load-balancer-ips", want)(s)
	case 1:
		annotated("bellwether.dev/address-pool", pick("a-open", "b-both", "c-gold", "d-red", "e-asked", "f-six", "nowhere"))(s)
	}
	return s
}

// someAddress is one of a pool, or one that no pool has.
func (c *churn) someAddress(random *rand.Rand) string {
	if random.IntN(10) == 0 {
		return "203.0.113.5"
	}
	all := c.rules[random.IntN(len(c.rules))].all()
	return all[random.IntN(len(all))].String()
}

// run creates and deletes in an order of its own, until all clients together have created enough.
func (c *churn) run(ctx context.Context, stream uint64) {
	random := rand.New(rand.NewPCG(c.seed, stream))
	var mine []*corev1.Service
	for ctx.Err() == nil {
		time.Sleep(time.Duration(random.IntN(180)) * time.Millisecond)
		if n := len(mine); n > 0 && (n > 60 || random.IntN(20) < 9) {
			i := random.IntN(n)
			if err := c.remove(ctx, mine[i].Namespace, mine[i].Name); err != nil && ctx.Err() == nil {
				c.Error(err)
			}
			mine = slices.Delete(mine, i, i+1)
			continue
		}
		n := c.made.Add(1)
		if n > c.total {
			return
		}
		s := c.shape(random, n)
		if _, err := c.client.CoreV1().Services(s.Namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			if ctx.Err() == nil {
				c.Error(err)
			}
			continue
		}
		mine = append(mine, s)
	}
}

// disturb kills, freezes and restarts the controllers at random until done is closed, and leaves both running.
func (c *churn) disturb(done <-chan struct{}) {
	c.Helper()
	random := rand.New(rand.NewPCG(c.seed, 0))
	pause := func(least, more time.Duration) {
		select {
		case <-done:
		case <-time.After(least + time.Duration(random.Int64N(int64(more)))):
		}
	}
	counts := map[string]int{}
	for going := true; going; {
		pause(time.Second, 3*time.Second)
		name := controllers()[random.IntN(2)]
		if leader := c.leaseholder(); random.IntN(3) > 0 && leader != "" { // the leader is where it hurts
			name = leader
		}
		what := []string{"killed for a while", "killed and started at once", "frozen for a moment", "frozen for longer than the lease",
			"frozen for longer than the lease", "both killed"}[random.IntN(6)]
		counts[what]++
		switch what {
		case "killed for a while":
			c.act(c.controller(name).Kill())
			pause(2*time.Second, 5*time.Second)
		case "killed and started at once":
			c.act(c.controller(name).Kill())
		case "frozen for a moment":
			c.act(c.controller(name).Pause())
			pause(50*time.Millisecond, 2*time.Second)
		case "frozen for longer than the lease":
			c.act(c.controller(name).Pause())
			pause(5*time.Second, 3*time.Second)
		case "both killed":
			c.act(c.controller(name).Kill())
			c.act(c.controller(other(name)).Kill())
			pause(50*time.Millisecond, 2*time.Second)
		}
		for _, name := range controllers() {
			c.act(c.revive(name))
		}
		select {
		case <-done:
			going = false
		default:
		}
	}
	c.Logf("what happened to the controllers: %v", counts)
}

// services are those of the churn, as they are.
func (c *churn) services() []*corev1.Service {
	c.Helper()
	var all []*corev1.Service
	for _, namespace := range c.namespaces() {
		list, err := c.client.CoreV1().Services(namespace).List(c.ctx, metav1.ListOptions{})
		if err != nil {
			c.Fatal(err)
		}
		for i := range list.Items {
			all = append(all, &list.Items[i])
		}
	}
	return all
}

// faults are what the oracle finds.
func (c *churn) faults() []string {
	c.Helper()
	services := c.services()
	o := newOracle(c.rules, c.tiers, services)
	var faults []string
	for _, s := range services {
		faults = append(faults, o.judge(s)...)
	}
	return faults
}

func TestThousandsOfServicesComeAndGoWhileControllersDie(t *testing.T) {
	c := &churn{
		seed: numberFrom(t, "BELLWETHER_SEED", rand.Uint64()), total: int64(numberFrom(t, "BELLWETHER_CHURN", 2000)),
		rules: churnRules(), tiers: map[string]string{"churn-gold": "gold", "churn-red": "red"},
	}
	t.Logf("BELLWETHER_SEED=%d BELLWETHER_CHURN=%d", c.seed, c.total)
	shared := netip.MustParsePrefix("198.18.65.0/24")
	c.ledgered = onLightLab(t, func(a netip.Addr) bool {
		return shared.Contains(a) || strings.HasPrefix(a.String(), "fd00:198:18:0:1::")
	})
	for _, namespace := range c.namespaces() {
		c.namespace(namespace, map[string]string{"tier": c.tiers[namespace]})
	}
	for _, r := range c.rules {
		c.poolOf(r.name, r.manifest())
	}
	c.led()

	began, done := time.Now(), make(chan struct{})
	ctx, cancel := context.WithCancel(c.ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for i := range uint64(6) {
		clients.Go(func() { c.run(ctx, i+1) })
	}
	go func() { clients.Wait(); close(done) }()
	c.disturb(done)
	churned := time.Since(began)

	c.led()
	c.settled()
	living, pending := 0, map[string]int{}
	for _, s := range c.services() {
		living++
		if reason := reasonOf(s); reason != "Allocated" {
			pending[reason]++
		}
	}
	t.Logf("%d Services made in %v, %d live, of which wait %v; %d changes seen", c.total, churned.Round(time.Second), living, pending, c.holds.Seen())
	c.stayed()
}

// settled waits until all Services have what the rules say, and sees that it stays so.
func (c *churn) settled() {
	c.Helper()
	var faults []string
	deadline := time.Now().Add(patience)
	for faults = c.faults(); len(faults) > 0 && time.Now().Before(deadline); faults = c.faults() {
		time.Sleep(500 * time.Millisecond)
	}
	c.quiet()
	for _, fault := range c.faults() {
		c.Error(fault)
	}
}
