package sim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sizes are how many nodes are simulated, and with how many Services: by the environment, such as SIM_NODES=10,500 and SIM_SERVICES=20000.
func sizes(t *testing.T) (nodes []int, services int) {
	t.Helper()
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 60000 {
			t.Fatalf("SIM_NODES and SIM_SERVICES are numbers from 1 to 60,000, not %q", text)
		}
		return n
	}
	nodes, services = []int{5, 30}, 1000
	if text := os.Getenv("SIM_NODES"); text != "" {
		nodes = nil
		for part := range strings.SplitSeq(text, ",") {
			nodes = append(nodes, number(part))
		}
	}
	if text := os.Getenv("SIM_SERVICES"); text != "" {
		services = number(text)
	}
	return nodes, services
}

// partedAtMost is how many nodes a segment has that falls apart: on the way each node finds something else, and the decisions of more take
// hours.
const partedAtMost = 50

// TestSimulation has nodes lose power one after the other, and a segment fall apart and come together. Only what was on a lost node moves,
// nobody owns it twice, and a moment after the segment is whole again each address has one owner.
func TestSimulation(t *testing.T) {
	all, services := sizes(t)
	for _, n := range all {
		for _, loss := range []float64{0, 0.01} {
			t.Run(fmt.Sprintf("%d nodes, %g %% of frames lost", n, 100*loss), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := start(t, n, services, 7)
					met := s.until("all know all", func(_ int, o *node) bool { return o.heard == n-1 && o.gossiped == n && len(o.finds.absent) == 0 })
					t.Logf("started within a second: all know all after %v", met)
					s.begin()
					time.Sleep(5 * time.Second)
					s.quiet()
					s.gossipBlocked()
					s.wire.mu.Lock()
					s.wire.loss = loss
					s.wire.mu.Unlock()
					if n <= partedAtMost {
						s.partition(loss > 0)
					}
					s.losses(min(5, n-2), loss > 0)
				})
			})
		}
	}
}

// quiet counts the frames of a node where nothing happens.
func (s *speakers) quiet() {
	count := func() (sent, got, gossiped uint64) {
		for _, n := range s.nodes {
			sent, got, gossiped = sent+n.port.sent.Load(), got+n.port.got.Load(), gossiped+n.gossip.sent.Load()
		}
		return sent, got, gossiped
	}
	const lasts = 10
	sentBefore, gotBefore, gossipedBefore := count()
	time.Sleep(lasts * time.Second)
	sent, got, gossiped := count()
	per := float64(len(s.nodes) * lasts)
	s.t.Logf("of a node, a second: %.1f frames of the heartbeat sent, %.1f received; %.1f datagrams of gossip sent",
		float64(sent-sentBefore)/per, float64(got-gotBefore)/per, float64(gossiped-gossipedBefore)/per)
}

// gossipBlocked has a firewall fall between the nodes for a while, through which the heartbeat goes. Nothing moves.
func (s *speakers) gossipBlocked() {
	s.t.Helper()
	mute := func(is bool) {
		s.wire.mu.Lock()
		defer s.wire.mu.Unlock()
		s.wire.muted = is
	}
	s.forget()
	mute(true)
	const lasts = 20 * time.Second
	time.Sleep(lasts)
	s.mu.Lock()
	fewest := slices.MinFunc(s.nodes, func(a, b *node) int { return a.gossiped - b.gossiped }).gossiped
	s.mu.Unlock()
	mute(false)
	again := s.until("gossip knows all again", func(_ int, n *node) bool { return n.gossiped == len(s.nodes) })
	none, over := s.integrals()
	s.t.Logf("gossip blocked for %v: one knew of %d nodes by it then; all of all again %v after it was let through", lasts, fewest, again)
	if fewest == len(s.nodes) {
		s.t.Error("gossip was blocked and lost nobody")
	}
	if none > 0 || over > 0 {
		s.t.Errorf("an address had no owner for %v, and all together were owned twice for %v", none, over)
	}
}

// losses takes the power of nodes, one after the other.
func (s *speakers) losses(times int, lossy bool) {
	s.t.Helper()
	var dead []int
	var took, gossip []time.Duration
	var none, over time.Duration
	rng := rand.New(rand.NewPCG(uint64(len(s.nodes)), 2))
	moved := 0
	for range times {
		victim := rng.IntN(len(s.nodes))
		for slices.Contains(dead, victim) {
			victim = rng.IntN(len(s.nodes))
		}
		s.mu.Lock()
		before := s.ownersFor(finds{silent: dead})
		s.mu.Unlock()
		s.forget()
		s.powerOff(victim)
		dead = append(dead, victim)
		slices.Sort(dead)
		took = append(took, s.until("the dead are missed, and nobody else", func(_ int, n *node) bool { return slices.Equal(n.finds.silent, dead) }))
		s.mu.Lock()
		for _, found := range []finds{{silent: dead}, {silent: dead, absent: dead}} {
			for a, owner := range s.ownersFor(found) {
				if before[a] != int16(victim) && owner != before[a] {
					moved++
				}
			}
		}
		s.mu.Unlock()
		missed := time.Now()
		s.until("gossip knows of the dead", func(_ int, n *node) bool { return slices.Equal(n.finds.absent, dead) })
		gossip = append(gossip, took[len(took)-1]+time.Since(missed))
		time.Sleep(3 * time.Second)
		longest, twice := s.integrals()
		none, over = max(none, longest), over+twice
	}
	slices.Sort(took)
	slices.Sort(gossip)
	s.t.Logf("%d nodes lost: known to all after %v / %v / %v, and by gossip after %v / %v / %v; an address had no owner for %v at most; owned twice for %.0f s, summed over all addresses; %d moved that need not",
		times, took[0], took[len(took)/2], took[len(took)-1], gossip[0], gossip[len(gossip)/2], gossip[len(gossip)-1], none.Round(time.Millisecond), over.Seconds(), moved)
	if moved > 0 {
		s.t.Errorf("%d addresses moved that were on no lost node", moved)
	}
	if !lossy && over > 0 {
		s.t.Errorf("addresses were owned twice for %v", over)
	}
	if none > 2*time.Second {
		s.t.Errorf("an address had no owner for %v", none)
	}
}

// partition has a segment fall into halves for a while.
func (s *speakers) partition(lossy bool) {
	s.t.Helper()
	half := func(i int) int { return i % 2 }
	part := func(parted func(from, to int) bool) {
		s.wire.mu.Lock()
		defer s.wire.mu.Unlock()
		s.wire.parted = parted
	}
	s.forget()
	var in [2]int
	for i := range s.nodes {
		in[half(i)]++
	}
	part(func(from, to int) bool { return half(from) != half(to) })
	apart := s.until("each half misses the other", func(i int, n *node) bool { return n.heard == in[half(i)]-1 })
	time.Sleep(5 * time.Second)
	s.forget()
	part(nil)
	whole := s.until("all hear all again", func(_ int, n *node) bool { return n.heard == len(s.nodes)-1 })
	time.Sleep(2 * passTakes)
	_, over := s.integrals()
	s.t.Logf("parted: known to all after %v; whole again: known to all after %v, owned twice meanwhile for %.0f s, summed over all addresses", apart, whole, over.Seconds())
	time.Sleep(2 * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, n := range s.claims {
		if n != 1 && !lossy {
			s.t.Fatalf("%s has %d owners two seconds after the segment is whole", address(a), n)
		}
	}
}

// forget begins the integrals anew.
func (s *speakers) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.claims {
		s.claim(a, 0)
		s.none[a], s.over[a] = 0, 0
	}
}

// integrals are for how long one address had no owner at most, and for how long all were owned too often together.
func (s *speakers) integrals() (none, over time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.claims {
		s.claim(a, 0)
		none, over = max(none, s.none[a]), over+s.over[a]
	}
	return none, over
}
