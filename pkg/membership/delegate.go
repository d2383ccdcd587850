package membership

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// delegate is what memberlist calls, from goroutines of its own and partly under its own lock: it copies, pokes, and never
// blocks. What it cannot hand over at once is lost, and repaired by the next exchange of full states.
type delegate struct {
	meta   []byte
	queue  *memberlist.TransmitLimitedQueue
	states chan state
	gone   chan string
	poke   reconcile.Poke
	own    atomic.Pointer[[]byte] // the encoded state of this node

	mu    sync.Mutex
	nodes map[string]*memberlist.Node // the members; memberlist goes on writing to those that it hands out, so these are copies
}

// members returns who is a member, this node included. Nobody writes to what it returns.
func (d *delegate) members() []*memberlist.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.nodes))
}

func (d *delegate) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.nodes)
}

func (d *delegate) keep(n *memberlist.Node) {
	own := *n
	own.Addr, own.Meta = slices.Clone(n.Addr), slices.Clone(n.Meta)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nodes == nil {
		d.nodes = map[string]*memberlist.Node{}
	}
	d.nodes[n.Name] = &own
}

func (d *delegate) drop(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.nodes, name)
}

// memberlist.Delegate

func (d *delegate) NodeMeta(int) []byte { return d.meta }

func (d *delegate) NotifyMsg(msg []byte) { d.receive(msg) }

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}

func (d *delegate) LocalState(bool) []byte {
	if own := d.own.Load(); own != nil {
		return *own
	}
	return nil
}

func (d *delegate) MergeRemoteState(buf []byte, _ bool) { d.receive(buf) }

// receive decodes at once: memberlist uses the buffer again.
func (d *delegate) receive(msg []byte) {
	s, err := decode(msg)
	if err != nil {
		return
	}
	select {
	case d.states <- s:
	default:
	}
	d.poke.Ring()
}

// memberlist.EventDelegate

func (d *delegate) NotifyJoin(n *memberlist.Node) {
	d.keep(n)
	d.poke.Ring()
}

func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.drop(n.Name)
	select {
	case d.gone <- n.Name:
	default:
	}
	d.poke.Ring()
}

func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	d.keep(n)
	d.poke.Ring()
}

// broadcast is one state on its way out; a newer one of the same node replaces it.
type broadcast []byte

func (b broadcast) Invalidates(memberlist.Broadcast) bool { return true }
func (b broadcast) Message() []byte                       { return b }
func (b broadcast) Finished()                             {}
