package scenarios

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/bellwether-lb/bellwether/e2e/holds"
	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/probe"
	"github.com/bellwether-lb/bellwether/e2e/routers"
)

// chaos is a lab in which things break by a plan, while the laws are watched: on the wire, in the API server, in a router.
type chaos struct {
	*scene
	seed   uint64
	client kubernetes.Interface
	bird   *routers.BIRD
	addrs  []netip.Addr // of layer 2; asked for all the time

	began        time.Time
	healed, dark []window // after a parted segment is whole; in which the clock was set
	mu           sync.Mutex
	broken       []window // in which the store was
}

// convergence is how long after the last fault all is as if there had been none. It takes some seconds.
const convergence = patience

// longestSilence is how long nobody may answer for an address, whatever breaks at once. It takes a quarter of a second for a fault.
const longestSilence = 5 * time.Second

// TestChaos breaks what can break, several things at once, by a plan that BELLWETHER_SEED makes, for as long as BELLWETHER_CHAOS says.
func TestChaos(t *testing.T) {
	length := 5 * time.Minute
	if text := os.Getenv("BELLWETHER_CHAOS"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length < 10*time.Second {
			t.Fatalf("BELLWETHER_CHAOS is %q: set it to a duration of at least 10s, such as 30m", text)
		}
	}
	seed := numberFrom(t, "BELLWETHER_SEED", rand.Uint64())
	t.Logf("to see it again: make chaos CHAOS=%v SEED=%d", length, seed)
	options := lab.Options{Name: "chaos", Nodes: 5, Light: true, Log: os.Stderr}
	p, err := bringUp(t.Context(), options)
	t.Cleanup(func() {
		if err := lab.Down(context.Background(), options.Name); err != nil {
			t.Error(err)
		}
	})
	if p != nil {
		keepLogsWhenFailed(t, p) // before it goes down
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &chaos{scene: &scene{T: t, Product: p, ctx: t.Context()}, seed: seed}
	c.client, err = p.Lab.Client()
	c.act(err)
	c.prepare()
	c.unfold(chaosPlan(seed, length, c.nodes()))
}

func (c *chaos) nodes() []string {
	var names []string
	for _, n := range c.Lab.Nodes() {
		names = append(names, n.Name)
	}
	return names
}

// tell writes down what happens, and when.
func (c *chaos) tell(format string, args ...any) {
	c.Helper()
	c.Logf("%s %8.3fs "+format, append([]any{timeOfDay(time.Now()), time.Since(c.began).Seconds()}, args...)...)
}

// prepare has addresses of both families on layer 2, and a router that hears of others.
func (c *chaos) prepare() {
	c.Helper()
	c.addrs = values(c.several(12))
	c.act(c.startRouter())
	c.Cleanup(func() {
		if err := c.bird.Stop(); err != nil {
			c.Error(err)
		}
	})
	c.have(fmt.Sprintf(`{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: routed}, spec: {advertise: [BGP], %s}}
---
{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: bird}, spec: {myASN: 64512, peerASN: 65001, peerAddress: %s, dualStackAddressFamily: true, holdTime: 9s, keepaliveTime: 3s, connectTime: 1s}}
`, routedAddresses, c.Lab.Addrs(lab.Router)[0]))
	c.Cleanup(func() { // before their pool
		if _, err := c.Kubectl(context.Background(), "delete", "services", "-l", "chaos=comes"); err != nil {
			c.Error(err)
		}
	})
}

// unfold does what the plan says, and then judges.
func (c *chaos) unfold(plan []fault) {
	c.Helper()
	c.began = time.Now()
	observer, err := probe.NewObserver(c.Lab.NetNS(lab.Switch), "br0", c.addrs...)
	c.act(err)
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	var background sync.WaitGroup
	background.Go(func() {
		if err := observer.Run(ctx); err != nil {
			c.Error("observe the segment:", err)
		}
	})
	stop, prober := c.probing(20*time.Millisecond, c.addrs...)
	books := &books{chaos: c}
	background.Go(func() { books.keep(ctx) })
	coming, settle := context.WithCancel(ctx)
	var churn sync.WaitGroup
	churn.Go(func() { c.comeAndGo(coming) })

	c.follow(plan)
	mended := time.Now()
	settle()
	churn.Wait()
	c.converges(prober)
	c.tell("%v after the last fault all is well", time.Since(mended).Round(time.Millisecond))
	c.quietAndDone(prober)
	ended := time.Now()
	answers := stop()
	cancel()
	background.Wait()
	c.judge(answers, observer.Record(), books, ended)
}

// follow lets the faults begin and end when the plan says.
func (c *chaos) follow(plan []fault) {
	type standing struct {
		fault
		mend func() error
	}
	var open []standing
	mendOne := func(i int) {
		s := open[i]
		open = slices.Delete(open, i, i+1)
		c.mark(s.fault, false)
		if err := s.mend(); err != nil {
			c.Errorf("mend %v: %v", s.fault, err)
		}
		c.tell("mended: %s %v", s.What, s.On)
	}
	defer func() {
		for len(open) > 0 {
			mendOne(0)
		}
	}()
	for len(plan)+len(open) > 0 && c.ctx.Err() == nil {
		now := time.Since(c.began)
		if i := slices.IndexFunc(open, func(s standing) bool { return s.At+s.For <= now }); i >= 0 {
			mendOne(i)
			continue
		}
		if len(plan) > 0 && plan[0].At <= now {
			c.tell("%s %v", plan[0].What, plan[0].On)
			c.mark(plan[0], true)
			mend, err := c.strike(plan[0])
			open = append(open, standing{plan[0], mend})
			if err != nil {
				c.Errorf("%v: %v", plan[0], err)
			}
			plan = plan[1:]
			continue
		}
		under := map[string]bool{}
		for _, s := range open {
			for _, on := range s.On {
				under[on] = true
			}
			under[theStore] = under[theStore] || ofTheStore(s.What)
		}
		c.supervise(under)
		time.Sleep(50 * time.Millisecond)
	}
}

// mark notes what a fault excuses that is about to begin or end.
func (c *chaos) mark(f fault, begins bool) {
	now := time.Now()
	switch {
	case f.What == clockForward || f.What == clockBack: // in either direction, and what comes after is written down as before
		c.dark = append(c.dark, window{now.Add(-clockJump - 100*time.Millisecond), now.Add(clockJump + time.Second)})
	case f.What == segmentParted && !begins:
		c.healed = append(c.healed, window{now, now.Add(3 * time.Second)})
	case ofTheStore(f.What):
		c.mu.Lock()
		defer c.mu.Unlock()
		c.broken = append(c.broken, window{now, now.Add(f.For + returns)})
	}
}

// comeAndGo has Services come and go that a router hears of.
func (c *chaos) comeAndGo(ctx context.Context) {
	random := rand.New(rand.NewPCG(c.seed, 1))
	services := c.client.CoreV1().Services(metav1.NamespaceDefault)
	var names []string
	made, failed := 0, 0
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(100+random.IntN(500)) * time.Millisecond):
		}
		try, end := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		var err error
		if n := len(names); n > 0 && (n > 40 || random.IntN(5) < 2) {
			i := random.IntN(n)
			if err = services.Delete(try, names[i], metav1.DeleteOptions{}); err == nil {
				names = slices.Delete(names, i, i+1)
			}
		} else {
			name := fmt.Sprintf("come-%d", made)
			made++
			s := wanting(metav1.NamespaceDefault, name, annotated("bellwether.dev/address-pool", "routed"))
			s.Labels = map[string]string{"chaos": "comes"}
			if _, err = services.Create(try, s, metav1.CreateOptions{}); err == nil {
				names = append(names, name)
			}
		}
		end()
		if err != nil {
			failed++
		}
	}
	c.tell("%d Services were made; %d requests failed", made, failed)
}

// books are ledgers, a new one after each time that the API server lets no watch go on.
type books struct {
	*chaos
	all  []*holds.Ledger
	lost []string
}

// keep watches the Services until ctx ends.
func (b *books) keep(ctx context.Context) {
	for ctx.Err() == nil {
		try, end := context.WithTimeout(ctx, 10*time.Second)
		stream, err := holds.Open(try, b.client.CoreV1(), holds.NewLedger(nil))
		end()
		if err != nil {
			time.Sleep(300 * time.Millisecond)
			continue
		}
		if n := len(b.all); n > 0 {
			b.lost = append(b.lost, lostBetween(b.all[n-1], stream.Ledger)...)
		}
		b.all = append(b.all, stream.Ledger)
		if err := stream.Run(ctx); err != nil {
			b.mu.Lock()
			if !within(b.broken, time.Now()) {
				b.Error("the watch ended, and nothing was done to the API server:", err)
			}
			b.mu.Unlock()
		}
	}
}

// lostBetween are the addresses that Services had at the end of a ledger and do not have at the beginning of the next.
func lostBetween(before, after *holds.Ledger) []string {
	var lost []string
	for _, now := range after.Accounts() {
		then, known := before.Account(now.UID)
		if !known || then.Gone {
			continue
		}
		for _, a := range then.Addrs() {
			if !slices.Contains(now.Addrs(), a) {
				lost = append(lost, fmt.Sprintf("%s had %v and has %v", now.Key, then.Addrs(), now.Addrs()))
			}
		}
	}
	return lost
}

// converges waits until everything is as if there had been no fault.
func (c *chaos) converges(prober *probe.Prober) {
	c.Helper()
	before := ""
	c.eventually(convergence, "all is well again", func() bool {
		c.supervise(nil)
		lacks := c.lacks(prober)
		if lacks != "" && lacks != before {
			c.tell("still to come: %s", lacks)
		}
		before = lacks
		return lacks == ""
	})
}

// lacks says what is not as it should be without a fault.
func (c *chaos) lacks(prober *probe.Prober) string {
	ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
	defer cancel()
	for _, node := range c.nodes() {
		got, err := c.Kubectl(ctx, "get", "speaker", node, "-o", `jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status}{end} {range .status.conditions[?(@.type=="MembersAgree")]}{.reason}{end}`)
		if err != nil || strings.TrimSpace(got) != "True AllHeard" {
			return fmt.Sprintf("%s says %q, %v", node, got, err)
		}
	}
	record, now := prober.Record(), time.Now()
	record = record.Between(now.Add(-time.Second), now)
	for _, a := range c.addrs {
		owner, err := c.Owner(ctx, a)
		if err != nil || owner == "" {
			return fmt.Sprintf("%s is owned by %q, %v", a, owner, err)
		}
		mac, err := c.MAC(ctx, owner)
		if macs := record.Of(a).MACs(); err != nil || !slices.Equal(macs, []string{mac}) {
			return fmt.Sprintf("%s is owned by %s, which is %s, %v, and was answered for by %v", a, owner, mac, err, macs)
		}
	}
	return c.routesLack(ctx)
}

// routesLack says what a router does not hear of the Services that come and go, or hears too much.
func (c *chaos) routesLack(ctx context.Context) string {
	list, err := c.client.CoreV1().Services("").List(ctx, metav1.ListOptions{LabelSelector: "chaos=comes"})
	if err != nil {
		return err.Error()
	}
	var want []netip.Prefix
	for i := range list.Items {
		has := held(&list.Items[i])
		if len(has) == 0 {
			return fmt.Sprintf("Service %s has no address: %s", list.Items[i].Name, messageOf(&list.Items[i]))
		}
		for _, a := range has {
			want = append(want, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(want, netip.Prefix.Compare)
	rib, err := c.bird.RIB(ctx)
	if err != nil {
		return err.Error()
	}
	for _, node := range nodeAddrs(c.Lab, false) {
		var got []netip.Prefix
		for prefix := range rib.Of(node) {
			got = append(got, prefix)
		}
		slices.SortFunc(got, netip.Prefix.Compare)
		if !slices.Equal(got, want) {
			return fmt.Sprintf("the router hears of %v from %s, want %v", got, node, want)
		}
	}
	return ""
}

// quietAndDone checks for two seconds that every question is answered.
func (c *chaos) quietAndDone(prober *probe.Prober) {
	c.Helper()
	from := time.Now()
	time.Sleep(2 * time.Second)
	if lost := slices.DeleteFunc(prober.Unanswered(), func(q probe.Question) bool {
		return q.Asked.Before(from) || time.Since(q.Asked) < time.Second
	}); len(lost) > 0 {
		c.Errorf("%d questions were not answered after all was well, first %v", len(lost), lost[0])
	}
}

// judge holds what was seen against the laws.
func (c *chaos) judge(answers, claims probe.Record, b *books, ended time.Time) {
	c.Helper()
	breaches := func(law string, broken []string) {
		c.Helper()
		for i, one := range broken {
			if i == 5 {
				c.Errorf("%s: and %d more", law, len(broken)-i)
				break
			}
			c.Errorf("%s: %s", law, one)
		}
	}
	twice, crossed := answeredTwice(answers, claims, c.healed)
	breaches("one owner on a segment that is whole", twice)
	breaches("who announces last has it", overruled(answers, claims, append(slices.Clone(c.healed), c.dark...)))
	quiet := silences(answers, c.addrs, c.began, ended, c.dark)
	for _, s := range quiet {
		if s.Length() > longestSilence {
			c.Errorf("an address is answered for: not %s; at most %v", s, longestSilence)
		}
	}
	for _, ledger := range b.all {
		breaches("no address is held twice", append(ledger.Doubles(), ledger.Standing()...))
		breaches("no address is lost", ledger.Moved())
	}
	breaches("no address is lost while nobody watches", b.lost)
	moves := 0
	for _, a := range c.addrs {
		of := answers.Of(a)
		for i := 1; i < len(of); i++ {
			if of[i].MAC != of[i-1].MAC {
				moves++
			}
		}
	}
	c.tell("%d answers, of them %d by both as an announcement crossed the question, %d claims on the wire, %d changes of owners; the longest silence was %s; %d ledgers", len(answers), crossed, len(claims), moves, quiet[0], len(b.all))
}
