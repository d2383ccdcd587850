package sim

import (
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// segment carries frames between ports, each after a while.
type segment struct {
	mu     sync.Mutex
	rng    *rand.Rand
	loss   float64
	ports  []*port
	parted func(from, to int) bool // nil: nobody is

	gossips map[string]*gossip // by address and port
	muted   bool               // gossip does not get through, as behind a firewall
}

// The delay of a frame is between these.
const delayMin, delayMax = 50 * time.Microsecond, time.Millisecond

// delay is another frame's. s.mu is held.
func (s *segment) delay() time.Duration {
	return delayMin + time.Duration(s.rng.Int64N(int64(delayMax-delayMin)))
}

// port is a node's card.
type port struct {
	segment   *segment
	node      int
	mac       cluster.MAC
	in        chan []byte
	off       atomic.Bool // without power
	sent, got atomic.Uint64
}

func (s *segment) port(node int, mac cluster.MAC) *port {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &port{segment: s, node: node, mac: mac, in: make(chan []byte, 8192)}
	s.ports = append(s.ports, p)
	return p
}

// Send implements heartbeat.Port.
func (p *port) Send(frame []byte) error {
	if p.off.Load() {
		return nil
	}
	p.sent.Add(1)
	frame = slices.Clone(frame)
	s := p.segment
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, to := range s.ports {
		broadcast := frame[0]&1 != 0
		if to == p || !broadcast && cluster.MAC(frame[:6]) != to.mac || s.rng.Float64() < s.loss || s.parted != nil && s.parted(p.node, to.node) {
			continue
		}
		time.AfterFunc(s.delay(), func() { to.take(frame) })
	}
	return nil
}

func (p *port) take(frame []byte) {
	if p.off.Load() {
		return
	}
	select {
	case p.in <- frame:
		p.got.Add(1)
	default: // as a socket's buffer does
	}
}

// Read implements heartbeat.Port.
func (p *port) Read(buf []byte, until time.Time) (int, error) {
	select {
	case frame := <-p.in:
		return copy(buf, frame), nil
	default:
	}
	left := time.Until(until)
	if left <= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case frame := <-p.in:
		return copy(buf, frame), nil
	case <-timer.C:
		return 0, os.ErrDeadlineExceeded
	}
}

// Close implements heartbeat.Port.
func (*port) Close() error { return nil }
