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

	"github.com/bellwether-lb/bellwether/e2e/lab"
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

// powerLoss takes a node's power away and returns how long nobody answered for an address.
func (s *scene) powerLoss(node string, a netip.Addr) time.Duration {
	s.Helper()
	stop := s.asking(5*time.Millisecond, a)
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
	if twice := record.Doubles(); len(twice) > 0 {
		s.Errorf("%d questions for %s were answered twice, first %v", len(twice), a, twice[0])
	}
	return outage
}

// comeback gives a node its power back and watches its addresses return.
func (s *scene) comeback(node string, addrs []netip.Addr) {
	s.Helper()
	owners := map[netip.Addr]string{}
	for _, a := range addrs {
		owners[a], _ = s.owner(a, node)
	}
	stop := s.asking(5*time.Millisecond, addrs...)
	on := time.Now()
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
	record := stop()
	for _, a := range addrs {
		if g := gap(record, a, on); g > 500*time.Millisecond {
			s.Errorf("%s came back, and nobody answered for %s for %v", node, a, g)
		}
	}
	if twice := record.Doubles(); len(twice) > 0 {
		s.Errorf("%s came back, and %d questions were answered twice, first %v", node, len(twice), twice[0])
	}
}

func TestARollingRestartOfTheSpeakersIsSeamless(t *testing.T) {
	s := onFullLab(t)
	before := s.several(6)
	stop := s.asking(10*time.Millisecond, values(before)...)
	from := time.Now()
	s.must("-n", "bellwether-system", "rollout", "restart", "daemonset/bellwether-speaker")
	s.must("-n", "bellwether-system", "rollout", "status", "daemonset/bellwether-speaker", "--timeout=120s")
	time.Sleep(4 * time.Second)
	record := stop()
	worst := time.Duration(0)
	for _, a := range values(before) {
		g := gap(record, a, from)
		worst = max(worst, g)
		if g > 500*time.Millisecond {
			t.Errorf("nobody answered for %s for %v", a, g)
		}
	}
	t.Logf("%d answers; the longest time without one was %v; %d questions answered twice", len(record), worst.Round(time.Millisecond), len(record.Doubles()))
	if twice := record.Doubles(); len(twice) > 0 {
		t.Errorf("%d questions were answered twice, first %v", len(twice), twice[0])
	}
	s.unmoved(before)
}

func TestEveryAddressAnswersWhileTheAPIServerIsAway(t *testing.T) {
	s := onFullLab(t)
	before := s.several(4)
	server, err := s.Lab.Process(lab.Control, lab.APIServer)
	if err != nil {
		t.Fatal(err)
	}
	stop := s.asking(20*time.Millisecond, values(before)...)
	from := time.Now()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Second)
	if err := s.Lab.Restart(server); err != nil {
		t.Fatal(err)
	}
	if err := s.Lab.WaitAPIServer(s.ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	record := stop()
	for _, a := range values(before) {
		if g := gap(record, a, from); g > 500*time.Millisecond {
			t.Errorf("nobody answered for %s for %v while the API server was away", a, g)
		}
	}
	if twice := record.Doubles(); len(twice) > 0 {
		t.Errorf("%d questions were answered twice, first %v", len(twice), twice[0])
	}
	s.have(manifest("later", ""))
	a := s.addresses("later", 1)[0]
	s.owner(a, "")
	s.unmoved(before)
}
