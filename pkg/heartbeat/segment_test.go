package heartbeat

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// world is a segment with many nodes, in virtual time: the state machines are the real ones.
type world struct {
	now    time.Time
	nodes  []*simulated
	mail   mailbag
	sorted uint64
	loss   float64
	rng    *rand.Rand
	parted func(from, to int) bool
	taped  [][]byte
	gone   string // the name of a node that there is no more
}

// simulated is a node of a world.
type simulated struct {
	*segment
	at         int
	off        bool // it neither sends nor hears nor does anything
	deaf, dumb bool
	chatter    bool // other stations' frames come in, too
	came       uint64
	sent, got  int
	restarts   int
}

type letter struct {
	due   time.Time
	order uint64
	to    int
	frame []byte
}

type mailbag []letter

func (m mailbag) Len() int { return len(m) }
func (m mailbag) Less(i, j int) bool {
	if m[i].due.Equal(m[j].due) {
		return m[i].order < m[j].order
	}
	return m[i].due.Before(m[j].due)
}
func (m mailbag) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *mailbag) Push(x any)   { *m = append(*m, x.(letter)) }
func (m *mailbag) Pop() any {
	old := *m
	l := old[len(old)-1]
	*m = old[:len(old)-1]
	return l
}

func macOf(i int) cluster.MAC { return cluster.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)} }

func newWorld(n int, seed uint64) *world {
	w := &world{now: time.Unix(1000, 0), rng: rand.New(rand.NewPCG(seed, 0))}
	for i := range n {
		w.nodes = append(w.nodes, &simulated{at: i})
		w.boot(i, "secret")
	}
	return w
}

// boot starts a new run of a node.
func (w *world) boot(i int, key string) {
	node := w.nodes[i]
	node.off, node.restarts = false, node.restarts+1
	node.segment = &segment{
		self: Peer{Node: fmt.Sprintf("node-%d", i), Link: "eth0"}, mac: macOf(i), epoch: w.rng.Uint64() | 1,
		timings: Timings{}.withDefaults(), codec: newCodec([]byte(key)), rng: w.rng, peers: map[Peer]*peer{},
		send:    func(frame []byte) { w.post(node, frame) },
		traffic: func() uint64 { return node.came },
		missed:  func() {}, isNode: func(name string) bool { return name != w.gone },
		state:   func() []byte { return []byte(fmt.Sprintf("node-%d, run %d", i, node.restarts)) },
		helloAt: w.now.Add(time.Duration(w.rng.IntN(100)) * time.Millisecond),
	}
}

func (w *world) post(from *simulated, frame []byte) {
	w.taped = append(w.taped, frame)
	from.sent++
	if from.dumb {
		return
	}
	for i, to := range w.nodes {
		if to == from || (frame[0]&1 == 0 && cluster.MAC(frame[:6]) != to.mac) || w.rng.Float64() < w.loss || (w.parted != nil && w.parted(from.at, i)) {
			continue
		}
		w.deliver(i, frame)
	}
}

func (w *world) deliver(to int, frame []byte) {
	w.sorted++
	heap.Push(&w.mail, letter{due: w.now.Add(50*time.Microsecond + time.Duration(w.rng.IntN(int(time.Millisecond)))), order: w.sorted, to: to, frame: frame})
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); ; {
		next, who := end, -1
		for i, n := range w.nodes {
			if due := n.next(); !n.off && due.Before(next) {
				next, who = due, i
			}
		}
		if len(w.mail) > 0 && !w.mail[0].due.After(next) {
			l := heap.Pop(&w.mail).(letter)
			w.pass(l.due)
			if to := w.nodes[l.to]; !to.off && !to.deaf {
				to.came++
				to.got++
				to.hear(l.frame, w.now)
			}
			continue
		}
		w.pass(next)
		if who < 0 {
			return
		}
		w.nodes[who].tick(w.now)
	}
}

// pass lets the clock run to a time.
func (w *world) pass(to time.Time) {
	if to.After(w.now) {
		for _, n := range w.nodes {
			if n.chatter && !n.deaf && to.UnixMilli()/50 != w.now.UnixMilli()/50 {
				n.came++
			}
		}
		w.now = to
	}
}

// until lets time pass until something is so, and returns how long it took; it fails the test after a minute.
func (w *world) until(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	began := w.now
	for !ok() {
		if w.now.Sub(began) > time.Minute {
			t.Fatalf("not within a minute: %s", what)
		}
		w.run(time.Millisecond)
	}
	return w.now.Sub(began)
}

// quiet reports whether every node that is on hears all others, and nobody's link is cut.
func (w *world) quiet() bool {
	on := 0
	for _, n := range w.nodes {
		if !n.off {
			on++
		}
	}
	for _, n := range w.nodes {
		if f := n.findings(); !n.off && (len(f.Heard) != on-1 || len(f.Cut) > 0) {
			return false
		}
	}
	return true
}

// misses returns whom a node finds silent.
func (w *world) misses(i int) []int {
	var out []int
	for _, p := range w.nodes[i].findings().Silent {
		var n int
		_, _ = fmt.Sscanf(p.Node, "node-%d", &n)
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// missedByAll reports whether all others find exactly these silent.
func (w *world) missedByAll(who ...int) bool {
	for i, n := range w.nodes {
		if !n.off && !slices.Contains(who, i) && !slices.Equal(w.misses(i), who) {
			return false
		}
	}
	return true
}

// TestAnotherKey: who has another key is not believed, and is told of until it falls silent.
func TestAnotherKey(t *testing.T) {
	w := newWorld(3, 1)
	w.boot(2, "another secret")
	w.run(5 * time.Second)
	for i, others := range [][]Peer{{w.nodes[2].self}, {w.nodes[2].self}, {w.nodes[0].self, w.nodes[1].self}} {
		f := w.nodes[i].findings()
		slices.SortFunc(f.OtherKey, comparePeers)
		if !slices.Equal(f.OtherKey, others) || len(f.Heard) != 2-len(others) {
			t.Errorf("%d: %+v", i, f)
		}
	}
	w.nodes[2].off = true
	w.run(10 * time.Second)
	if f := w.nodes[0].findings(); len(f.OtherKey) != 0 || len(f.Silent) != 0 {
		t.Errorf("it is gone: %+v", f)
	}
	for i := range 2 * foreignMax {
		w.nodes[0].otherKey(Peer{Node: fmt.Sprint(i)}, w.now)
	}
	if n := len(w.nodes[0].foreign); n != foreignMax {
		t.Errorf("%d are remembered", n)
	}
}

// TestTheDeadAreMissed: everybody knows, soon, and misses nobody else.
func TestTheDeadAreMissed(t *testing.T) {
	for _, n := range []int{3, 5, 10, 100} {
		var took []time.Duration
		for seed := range uint64(20) {
			w := newWorld(n, seed)
			w.until(t, "all meet", w.quiet)
			w.run(2*time.Second + time.Duration(w.rng.IntN(100))*time.Millisecond)
			dead := w.rng.IntN(n)
			w.nodes[dead].off = true
			took = append(took, w.until(t, "the dead node is missed", func() bool { return w.missedByAll(dead) }))
			if w.run(10 * time.Second); !w.missedByAll(dead) {
				t.Errorf("%d nodes, seed %d: later somebody else is missed", n, seed)
			}
			if n == 100 {
				break // enough
			}
		}
		slices.Sort(took)
		t.Logf("%d nodes: missed by all after %v / %v / %v", n, took[0], took[len(took)/2], took[len(took)-1])
		if worst := took[len(took)-1]; worst > 350*time.Millisecond {
			t.Errorf("%d nodes: the dead one is missed after %v", n, worst)
		}
	}
}

// TestManyDieAtOnce: also those whose watchers died with them are missed.
func TestManyDieAtOnce(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(12, seed)
		w.until(t, "all meet", w.quiet)
		dead := w.rng.Perm(12)[:7]
		slices.Sort(dead)
		for _, i := range dead {
			w.nodes[i].off = true
		}
		if took := w.until(t, "the dead are missed", func() bool { return w.missedByAll(dead...) }); took > time.Second {
			t.Errorf("seed %d: %v", seed, took)
		}
	}
}

// TestADeadLinkSuspectsItself: a node whose link neither sends nor hears, or does not hear, or does not send, is missed by all
// others, and itself misses nobody.
func TestADeadLinkSuspectsItself(t *testing.T) {
	for _, n := range []int{2, 3, 8} {
		for name, breaks := range map[string]func(*simulated){
			"dead": func(s *simulated) { s.deaf, s.dumb = true, true },
			"deaf": func(s *simulated) { s.deaf = true },
			"dumb": func(s *simulated) { s.dumb = true },
		} {
			w := newWorld(n, 7)
			for _, node := range w.nodes {
				node.chatter = true
			}
			w.until(t, "all meet", w.quiet)
			bad := w.nodes[n-1]
			breaks(bad)
			if took := w.until(t, name+" is missed", func() bool { return w.missedByAll(n - 1) }); took > 600*time.Millisecond {
				t.Errorf("%d nodes, %s: missed after %v", n, name, took)
			}
			w.run(5 * time.Second)
			if !w.missedByAll(n-1) || len(w.misses(n-1)) > 0 || len(bad.findings().Cut) != 1 {
				t.Errorf("%d nodes, %s: missed by all: %v; it misses %v and finds %+v", n, name, w.missedByAll(n-1), w.misses(n-1), bad.findings())
			}
			bad.deaf, bad.dumb = false, false
			if took := w.until(t, name+" is back", w.quiet); took > 2*time.Second {
				t.Errorf("%d nodes, %s: heard again after %v", n, name, took)
			}
		}
	}
}

// TestTheLastOneAccusesNobody unless other frames show that its own link works.
func TestTheLastOneAccusesNobody(t *testing.T) {
	for _, chatter := range []bool{false, true} {
		w := newWorld(2, 1)
		w.nodes[0].chatter = chatter
		w.until(t, "both meet", w.quiet)
		w.nodes[1].off = true
		w.run(time.Second)
		f := w.nodes[0].findings()
		if (len(f.Cut) == 0) != chatter || (len(f.Silent) == 1) != chatter {
			t.Errorf("chatter %v: %+v", chatter, f)
		}
		w.boot(1, "secret")
		w.until(t, "both meet again", w.quiet)
	}
}

// TestParted: each half misses the other, and when the segment is whole again nobody is missed.
func TestParted(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(7, seed)
		w.until(t, "all meet", w.quiet)
		w.parted = func(from, to int) bool { return (from < 3) != (to < 3) }
		took := w.until(t, "the halves miss each other", func() bool {
			for i := range w.nodes {
				if other := map[bool][]int{true: {3, 4, 5, 6}, false: {0, 1, 2}}[i < 3]; !slices.Equal(w.misses(i), other) {
					return false
				}
			}
			return true
		})
		w.run(time.Minute)
		w.parted = nil
		back := w.until(t, "nobody is missed", w.quiet)
		if took > time.Second || back > 2*time.Second {
			t.Errorf("seed %d: parted after %v, joined after %v", seed, took, back)
		}
	}
}

// TestLoss: where frames get lost, whoever is accused wrongly says so, and is heard.
func TestLoss(t *testing.T) {
	w := newWorld(10, 3)
	w.until(t, "all meet", w.quiet)
	w.loss = 0.01
	missed := 0
	for range 600 {
		w.run(100 * time.Millisecond)
		for i := range w.nodes {
			missed += len(w.misses(i))
		}
	}
	if missed > 0 {
		t.Errorf("with a hundredth of the frames lost, %d times somebody is missed", missed)
	}
	w.loss = 0.3
	w.run(time.Minute)
	w.loss = 0
	w.until(t, "nobody is missed", w.quiet)
}

// TestStopped: a node that does not run for a while misses nobody when it does again, and is heard soon.
func TestStopped(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(5, seed)
		w.until(t, "all meet", w.quiet)
		w.run(time.Duration(w.rng.IntN(100)) * time.Millisecond)
		w.nodes[2].off = true
		w.run(5 * time.Second)
		w.nodes[2].off = false
		for range 300 {
			if w.run(time.Millisecond); len(w.misses(2)) > 0 {
				t.Fatalf("seed %d: it misses %v", seed, w.misses(2))
			}
		}
		if !w.quiet() {
			t.Errorf("seed %d: not all hear all", seed)
		}
	}
}

// TestRecordings: what a dead node once said brings it not back, and a run that has a wrong key is nobody.
func TestRecordings(t *testing.T) {
	w := newWorld(3, 5)
	w.run(5 * time.Second)
	w.nodes[2].off = true
	w.until(t, "it is missed", func() bool { return w.missedByAll(2) })
	tape := slices.Clone(w.taped)
	for range 3 {
		for _, frame := range tape {
			w.deliver(0, frame)
		}
		if w.run(time.Second); !slices.Equal(w.misses(0), []int{2}) {
			t.Errorf("with its frames sent again, node 0 misses %v", w.misses(0))
		}
	}
	w.boot(2, "another secret")
	if w.run(5 * time.Second); !slices.Equal(w.misses(0), []int{2}) || len(w.nodes[2].findings().Heard) > 0 {
		t.Errorf("with a wrong key: node 0 misses %v, node 2 hears %v", w.misses(0), w.nodes[2].findings().Heard)
	}
	w.boot(2, "secret")
	if took := w.until(t, "its new run is heard", w.quiet); took > 2*time.Second {
		t.Errorf("heard after %v", took)
	}
	w.run(2 * time.Second)
	for _, h := range w.nodes[0].findings().Heard {
		if h.Node == "node-2" && string(h.State) != "node-2, run 3" {
			t.Errorf("it says %q", h.State)
		}
	}
}

// TestNewcomersLearnWhoIsMissed: who starts while a link is dead hears of it from the others.
func TestNewcomersLearnWhoIsMissed(t *testing.T) {
	w := newWorld(4, 9)
	w.run(5 * time.Second)
	w.nodes[3].off = true
	w.until(t, "it is missed", func() bool { return w.missedByAll(3) })
	w.nodes[0].off = true
	w.run(time.Second)
	w.boot(0, "secret")
	w.until(t, "the newcomer knows", func() bool { return slices.Equal(w.misses(0), []int{3}) })
}

// TestAnotherCard: a node that is heard again is known by the card that it has now, in the same moment.
func TestAnotherCard(t *testing.T) {
	w := newWorld(3, 4)
	w.run(5 * time.Second)
	w.nodes[1].off = true
	w.until(t, "it is missed", func() bool { return w.missedByAll(1) })
	w.boot(1, "secret")
	w.nodes[1].mac = macOf(77)
	var heard []Heard
	w.until(t, "it is heard", func() bool {
		heard = slices.DeleteFunc(w.nodes[0].findings().Heard, func(h Heard) bool { return h.Node != "node-1" })
		return len(heard) > 0
	})
	if heard[0].MAC != macOf(77) {
		t.Errorf("it is heard as %v", heard[0])
	}
}

// TestGoodbye: who stops as planned is not missed.
func TestGoodbye(t *testing.T) {
	w := newWorld(4, 11)
	w.run(5 * time.Second)
	w.nodes[1].say(&message{kind: bye}, everybody())
	w.nodes[1].off = true
	for range 100 {
		if w.run(10 * time.Millisecond); !w.missedByAll() {
			t.Fatal("somebody is missed")
		}
	}
}

// TestCost: watching costs a node the same whatever the number of nodes; hellos grow with it, up to a hundred a second.
func TestCost(t *testing.T) {
	for _, n := range []int{2, 3, 5, 20, 100} {
		w := newWorld(n, 1)
		w.run(2 * time.Second)
		for _, node := range w.nodes {
			node.sent, node.got = 0, 0
		}
		const seconds = 1
		w.run(seconds * time.Second)
		sent, got := 0, 0
		for _, node := range w.nodes {
			sent, got = max(sent, node.sent), max(got, node.got)
		}
		t.Logf("%d nodes: at most %d frames sent and %d received by a node in a second", n, sent/seconds, got/seconds)
		if sent/seconds > 60 || got/seconds > 60+min(n, 100)*3/2 {
			t.Errorf("%d nodes: %d sent, %d received", n, sent/seconds, got/seconds)
		}
	}
}
