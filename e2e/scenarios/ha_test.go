package scenarios

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/probe"
)

// several has a few Services on each of which one address is announced, and returns the addresses by Service.
func (s *scene) several(n int) map[string]netip.Addr {
	s.Helper()
	s.pool("lan", "198.18.0.200-198.18.0.219", "fd00:198:18::200-fd00:198:18::219")
	var all strings.Builder
	for i := range n {
		family := "IPv4"
		if i%2 == 1 {
			family = "IPv6"
		}
		all.WriteString(manifest(fmt.Sprintf("s%d", i), "ipFamilies: ["+family+"]"))
	}
	s.have(all.String())
	addrs := map[string]netip.Addr{}
	for i := range n {
		name := fmt.Sprintf("s%d", i)
		addrs[name] = s.addresses(name, 1)[0]
	}
	for _, a := range addrs {
		s.owner(a, "")
	}
	return addrs
}

func values(m map[string]netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range m {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// unmoved checks that every Service still has its address.
func (s *scene) unmoved(before map[string]netip.Addr) {
	s.Helper()
	for name, a := range before {
		if now := s.addresses(name, 1)[0]; now != a {
			s.Errorf("Service %s had %s and has %s", name, a, now)
		}
	}
}

func TestKillingEitherControllerMovesNoAddress(t *testing.T) {
	s := onFullLab(t)
	before := s.several(4)
	for round := range 2 {
		leader := s.must("-n", "bellwether-system", "get", "lease", "bellwether-controller", "-o", "jsonpath={.spec.holderIdentity}")
		s.must("-n", "bellwether-system", "delete", "pod", leader, "--grace-period=0", "--force")
		name := fmt.Sprintf("after-%d", round)
		s.have(manifest(name, ""))
		started := time.Now()
		a := s.addresses(name, 1)[0]
		t.Logf("leader %s killed; a new Service had its address %v later", leader, time.Since(started).Round(10*time.Millisecond))
		if slices.Contains(values(before), a) {
			t.Errorf("%s was given a second time, to Service %s", a, name)
		}
		s.unmoved(before)
		s.must("-n", "bellwether-system", "rollout", "status", "deployment/bellwether-controller", "--timeout=60s")
	}
}

// repeats is how often failovers are repeated; more with BELLWETHER_REPEATS.
func repeats(t *testing.T) int {
	text := os.Getenv("BELLWETHER_REPEATS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("BELLWETHER_REPEATS is %q: set it to a number of at least 1", text)
	}
	return n
}

// gap is the longest time without an answer for an address, up to a little before now.
func gap(record probe.Record, a netip.Addr, from time.Time) time.Duration {
	return record.Of(a).LongestGap(from, time.Now().Add(-100*time.Millisecond)).Length()
}

func TestPowerLossOfTheOwnerIsShortAndItsReturnIsSeamless(t *testing.T) {
	s := onFullLab(t)
	s.pool("lan", "198.18.0.200-198.18.0.210", "fd00:198:18::200-fd00:198:18::210")
	s.have(manifest("web", dualStack))
	addrs := s.addresses("web", 2)
	for _, a := range addrs {
		s.owner(a, "")
	}
	var outages []time.Duration
	for i := range repeats(t) {
		a := addrs[i%2]
		node, _ := s.owner(a, "")
		outages = append(outages, s.powerLoss(node, a))
		s.comeback(node, addrs)
	}
	slices.Sort(outages)
	t.Logf("power loss until another node answered: min %v, median %v, max %v of %d", outages[0].Round(time.Millisecond),
		outages[len(outages)/2].Round(time.Millisecond), outages[len(outages)-1].Round(time.Millisecond), len(outages))
}

// allAnswered checks that every question was answered, by one.
func (s *scene) allAnswered(record probe.Record, prober *probe.Prober) {
	s.Helper()
	asked, lost := prober.Asks(), prober.Unanswered()
	for _, q := range lost {
		s.Errorf("for %s, the question of %s was not answered; around it %s", q.Addr, q.Asked.Format(clock), around(record.Of(q.Addr), q.Asked))
	}
	if len(lost) > 0 {
		for _, n := range s.Lab.Nodes() {
			late, known := s.speakerMetric(n.Name, "bellwether_layer2_late_total")
			s.Logf("the speaker of %s has left %v questions to others or to nobody (known: %t)", n.Name, late, known)
		}
	}
	s.answeredOnce(record, prober)
	s.Logf("%d questions, %d not answered; the slowest answer took %v", asked, len(lost), record.Slowest().Round(time.Millisecond))
}

// coincidences is how many questions of a record an announcement may cross. It takes some microseconds from the new owner to the old, so
// not one of a hundred moves has such a question at these paces.
const coincidences = 1

// answeredOnce checks that no question was answered by two machines, but for those that an announcement crossed.
func (s *scene) answeredOnce(record probe.Record, prober *probe.Prober) {
	s.Helper()
	announced, crossed := prober.Announcements(), 0
	for _, d := range record.Doubles() {
		near := announced.Of(d.Addr).Between(d.Asked.Add(-25*time.Millisecond), d.Asked.Add(25*time.Millisecond))
		if d.Crossed(announced) {
			crossed++
			s.Logf("an announcement crossed the question for %s of %s; announced then: %s", d.Addr, d.Asked.Format(clock), told(near))
			continue
		}
		s.Errorf("for %s, the question of %s was answered by %v; around it %s; announced then: %s",
			d.Addr, d.Asked.Format(clock), d.MACs, around(record.Of(d.Addr), d.Asked), told(near))
	}
	if crossed > coincidences {
		s.Errorf("announcements crossed %d questions: that is no coincidence any more", crossed)
	}
}

const clock = "05.000000"

// told lists who said when that an address is there.
func told(r probe.Record) (list []string) {
	for _, a := range r {
		list = append(list, a.Time.Format(clock)+" by "+a.MAC)
	}
	return list
}

// around tells the answers to the questions just before and after a moment: what was asked when, who answered, how soon.
func around(r probe.Record, at time.Time) (told []string) {
	for _, a := range r {
		if d := a.Asked.Sub(at).Abs(); d <= 25*time.Millisecond {
			told = append(told, fmt.Sprintf("%s: %s after %v", a.Asked.Format(clock), a.MAC, a.Time.Sub(a.Asked)))
		}
	}
	return told
}

// powerLoss takes a node's power away and returns how long nobody answered for an address.
func (s *scene) powerLoss(node string, a netip.Addr) time.Duration {
	s.Helper()
	stop, prober := s.probing(5*time.Millisecond, a)
	time.Sleep(300 * time.Millisecond)
	off := time.Now()
	if err := s.Lab.PowerOff(s.ctx, node); err != nil {
		s.Fatal(err)
	}
	s.owner(a, node)
	time.Sleep(500 * time.Millisecond)
	record := stop()
	outage := gap(record, a, off)
	if outage > 2*time.Second {
		s.Errorf("%s lost power, and nobody answered for %s for %v; want less than 2 s", node, a, outage)
	}
	s.answeredOnce(record, prober)
	return outage
}

// comeback gives a node its power back and watches its addresses return.
func (s *scene) comeback(node string, addrs []netip.Addr) {
	s.Helper()
	owners := map[netip.Addr]string{}
	for _, a := range addrs {
		owners[a], _ = s.owner(a, node)
	}
	stop, prober := s.probing(5*time.Millisecond, addrs...)
	if err := s.Lab.PowerOn(s.ctx, node); err != nil {
		s.Fatal(err)
	}
	s.eventually(60*time.Second, node+" owns an address again", func() bool {
		for _, a := range addrs {
			if owner, err := s.Owner(s.ctx, a); err == nil && owner == node {
				return true
			}
		}
		return false
	})
	time.Sleep(3 * time.Second)
	s.allAnswered(stop(), prober)
}

func TestARollingRestartOfTheSpeakersIsSeamless(t *testing.T) {
	s := onFullLab(t)
	before := s.several(6)
	stop, prober := s.probing(10*time.Millisecond, values(before)...)
	s.must("-n", "bellwether-system", "rollout", "restart", "daemonset/bellwether-speaker")
	s.must("-n", "bellwether-system", "rollout", "status", "daemonset/bellwether-speaker", "--timeout=120s")
	time.Sleep(4 * time.Second)
	s.allAnswered(stop(), prober)
	s.unmoved(before)
}
