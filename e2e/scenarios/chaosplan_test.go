package scenarios

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// fault is one thing that breaks, and is mended after a while.
type fault struct {
	At, For time.Duration
	What    string
	On      []string // nodes, or one process
}

func (f fault) String() string {
	return fmt.Sprintf("%7.3fs for %6.3fs: %s %v", f.At.Seconds(), f.For.Seconds(), f.What, f.On)
}

// Faults of nodes.
const (
	powerLost       = "power lost"
	cablePulled     = "cable pulled"
	interfaceDown   = "interface down"
	interfaceAnew   = "interface made anew"
	speakerKilled   = "speaker killed"
	speakerFrozen   = "speaker frozen"
	speakerRestarts = "speaker restarts in order"
	drained         = "node drained"
	gossipBlocked   = "gossip blocked"
	bothBlocked     = "gossip and heartbeat blocked"
	segmentParted   = "segment parted"
)

// Faults of what is no node.
const (
	serverKilled     = "API server killed"
	serverFrozen     = "API server frozen"
	etcdKilled       = "etcd killed"
	etcdFrozen       = "etcd frozen"
	diskFull         = "disk of etcd full"
	controllerKilled = "controller killed"
	controllerFrozen = "controller frozen"
	routerKilled     = "router killed"
	clockForward     = "clock set forward"
	clockBack        = "clock set back"
	rollingUpdate    = "rolling update"
)

// kinds are all faults, as often as they are wanted.
func kinds() []string {
	return []string{
		powerLost, powerLost, powerLost, cablePulled, cablePulled, interfaceDown, interfaceAnew, speakerKilled, speakerKilled, speakerFrozen, speakerFrozen,
		speakerRestarts, drained, gossipBlocked, bothBlocked, segmentParted, segmentParted, serverKilled, serverFrozen, etcdKilled, etcdFrozen, diskFull,
		controllerKilled, controllerKilled, controllerFrozen, controllerFrozen, routerKilled, clockForward, clockBack, rollingUpdate,
	}
}

func ofTheStore(what string) bool {
	return slices.Contains([]string{serverKilled, serverFrozen, etcdKilled, etcdFrozen, diskFull}, what)
}

// Things of which there is one, and which one fault at a time may use.
const (
	theStore  = "the store"
	theCut    = "the cut"
	theRouter = "the router"
	theClock  = "the clock"
)

// spared is how many nodes are always without a fault, and have been for a while: somebody can own the addresses.
const spared = 2

// recovery is what a node is given after a fault before it counts as one without: to start, to read its lists, to be stable for a while.
const recovery = 6 * time.Second

// returns is what the API server is given to be back after a fault of the store.
const returns = 15 * time.Second

// planner picks faults, and knows until when what they touch is theirs.
type planner struct {
	random *rand.Rand
	nodes  []string
	busy   map[string]time.Duration
	faults []fault
}

// chaosPlan is the same for the same seed, length and nodes. No two faults touch one thing at once.
func chaosPlan(seed uint64, length time.Duration, nodes []string) []fault {
	p := &planner{random: rand.New(rand.NewPCG(seed, 0)), nodes: nodes, busy: map[string]time.Duration{}}
	all := kinds()
	for at := p.between(time.Second, 3*time.Second); at < length; at += p.between(500*time.Millisecond, 4*time.Second) {
		if what := all[p.random.IntN(len(all))]; what == rollingUpdate {
			at = p.rollOut(at)
		} else {
			p.pick(at, what)
		}
	}
	slices.SortStableFunc(p.faults, func(a, b fault) int { return int(a.At - b.At) })
	return p.faults
}

func (p *planner) between(least, most time.Duration) time.Duration {
	return least + time.Duration(p.random.Int64N(int64(most-least))).Round(time.Millisecond)
}

func (p *planner) free(at time.Duration, things ...string) bool {
	return !slices.ContainsFunc(things, func(thing string) bool { return p.busy[thing] > at })
}

// pick adds a fault of a kind where one is possible.
func (p *planner) pick(at time.Duration, what string) {
	lasts := p.between(time.Second, 10*time.Second)
	if ofTheStore(what) {
		if p.free(at, theStore) {
			p.add(fault{at, lasts, what, nil}, at+lasts+returns, theStore)
			p.prolong(at, at+lasts+returns)
		}
		return
	}
	switch what {
	case controllerKilled, controllerFrozen:
		name := controllers()[p.random.IntN(2)]
		if p.free(at, name) {
			p.add(fault{at, lasts, what, []string{name}}, at+lasts, name)
		}
	case routerKilled:
		if p.free(at, theRouter) {
			p.add(fault{at, lasts, what, nil}, at+lasts+recovery, theRouter)
		}
	case clockForward, clockBack:
		if p.free(at, theClock) {
			p.add(fault{at, lasts / 4, what, nil}, at+lasts+recovery, theClock)
		}
	case segmentParted:
		if on := p.some(at, 1+p.random.IntN(2)); on != nil && p.free(at, theCut) {
			p.hit(fault{at, lasts, what, on}, theCut)
		}
	case drained: // is said, and taken back, by way of the API server
		if on := p.some(at, 1); on != nil && p.free(at, theStore) {
			p.hit(fault{at, lasts, what, on}, theStore)
		}
	case speakerRestarts:
		if on := p.some(at, 1); on != nil {
			p.hit(fault{at, lasts / 5, what, on})
		}
	default:
		if on := p.some(at, 1); on != nil {
			p.hit(fault{at, lasts, what, on})
		}
	}
}

// some picks nodes that may be hit.
func (p *planner) some(at time.Duration, n int) []string {
	var whole []string
	for _, node := range p.nodes {
		if p.free(at, node) {
			whole = append(whole, node)
		}
	}
	if len(whole) < spared+n {
		return nil
	}
	p.random.Shuffle(len(whole), func(i, j int) { whole[i], whole[j] = whole[j], whole[i] })
	return slices.Sorted(slices.Values(whole[:n]))
}

// hit adds a fault of nodes. Who starts while there is no API server is of use only when it is back.
func (p *planner) hit(f fault, things ...string) {
	p.add(f, f.At+f.For, things...)
	until := f.At + f.For + recovery
	if back := p.busy[theStore]; back > f.At && f.What != drained {
		until = max(until, back+recovery)
	}
	for _, node := range f.On {
		p.busy[node] = until
	}
}

func (p *planner) add(f fault, until time.Duration, things ...string) {
	p.faults = append(p.faults, f)
	for _, thing := range things {
		p.busy[thing] = until
	}
}

// prolong is hit for the nodes that are not whole yet as the store breaks.
func (p *planner) prolong(at, back time.Duration) {
	for _, node := range p.nodes {
		if until := p.busy[node]; until > at {
			p.busy[node] = max(until, back+recovery)
		}
	}
}

// rollOut restarts the speakers of all nodes, one after the other, as soon as all nodes are whole, and returns when it has begun.
func (p *planner) rollOut(at time.Duration) time.Duration {
	const each = time.Second + recovery
	things := append([]string{theStore}, p.nodes...)
	for _, thing := range things {
		at = max(at, p.busy[thing])
	}
	for i, node := range p.nodes {
		p.add(fault{at + time.Duration(i)*each, time.Second, speakerRestarts, []string{node}}, 0)
	}
	for _, thing := range things {
		p.busy[thing] = at + time.Duration(len(p.nodes))*each
	}
	return at
}

func TestChaosIsPlanned(t *testing.T) {
	nodes := []string{"node-1", "node-2", "node-3", "node-4", "node-5"}
	seen := map[string]int{}
	for seed := range uint64(50) {
		plan := chaosPlan(seed, 30*time.Minute, nodes)
		if again := chaosPlan(seed, 30*time.Minute, nodes); fmt.Sprint(plan) != fmt.Sprint(again) {
			t.Fatalf("seed %d gives two plans", seed)
		}
		for i, f := range plan {
			seen[f.What]++
			hit := map[string]bool{}
			for _, other := range plan[:i] {
				if other.At+other.For <= f.At {
					continue
				}
				for _, on := range other.On {
					hit[on] = true
					if slices.Contains(f.On, on) {
						t.Fatalf("seed %d: %v and %v touch one thing at once", seed, other, f)
					}
				}
			}
			for _, on := range f.On {
				hit[on] = true
			}
			maps.DeleteFunc(hit, func(name string, _ bool) bool { return !slices.Contains(nodes, name) })
			if len(nodes)-len(hit) < spared {
				t.Fatalf("seed %d: with %v only %d nodes are whole", seed, f, len(nodes)-len(hit))
			}
		}
	}
	for _, what := range kinds() {
		if seen[what] == 0 && what != rollingUpdate { // which is restarts
			t.Errorf("it never comes to %q", what)
		}
	}
	t.Log(seen)
}
