package sim

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossipPort is what all nodes gossip on.
const gossipPort = 7946

// gossip is what memberlist sees of a node's card: datagrams are lost and late as frames are, streams only do not come about.
type gossip struct {
	port    *port
	at      netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	sent    atomic.Uint64
}

var errUnreachable = errors.New("no route to host")

func newGossip(p *port, addr netip.Addr) *gossip {
	g := &gossip{port: p, at: netip.AddrPortFrom(addr, gossipPort), packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 64)}
	p.segment.mu.Lock()
	defer p.segment.mu.Unlock()
	p.segment.gossips[g.at.String()] = g
	return g
}

// FinalAdvertiseAddr implements memberlist.Transport, as all of these do.
func (g *gossip) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return g.at.Addr().AsSlice(), int(g.at.Port()), nil
}

func (g *gossip) PacketCh() <-chan *memberlist.Packet { return g.packets }

func (g *gossip) StreamCh() <-chan net.Conn { return g.streams }

func (*gossip) Shutdown() error { return nil }

// to finds who has an address, and after what time something sent to it is there; nil where it does not get there.
func (s *segment) to(from *port, addr string, mayBeLost bool) (*gossip, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := s.gossips[addr]
	if to == nil || from.off.Load() || s.muted || mayBeLost && s.rng.Float64() < s.loss || s.parted != nil && s.parted(from.node, to.port.node) {
		return nil, 0
	}
	return to, s.delay()
}

func (g *gossip) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	g.sent.Add(1)
	to, after := g.port.segment.to(g.port, addr, true)
	if to == nil {
		return now, nil
	}
	b = slices.Clone(b)
	time.AfterFunc(after, func() {
		if to.port.off.Load() {
			return
		}
		select {
		case to.packets <- &memberlist.Packet{Buf: b, From: net.UDPAddrFromAddrPort(g.at), Timestamp: time.Now()}:
		default: // as a socket's buffer does
		}
	})
	return now, nil
}

func (g *gossip) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, after := g.port.segment.to(g.port, addr, false)
	if to == nil || to.port.off.Load() {
		time.Sleep(timeout)
		return nil, errUnreachable
	}
	time.Sleep(2 * after)
	near, far := net.Pipe()
	select {
	case to.streams <- stream{far, g.at}:
		return stream{near, to.at}, nil
	default:
		return nil, errUnreachable
	}
}

// stream is a connection that knows who is at its other end.
type stream struct {
	net.Conn
	with netip.AddrPort
}

func (s stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.with) }
