package l2

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// lan is one Ethernet segment in memory: what a port sends arrives at all others that should get it.
type lan struct {
	mu    sync.Mutex
	ports map[*lanPort]bool
	taped []taped // everything that was ever sent
}

type taped struct {
	at    time.Time
	frame []byte
}

func newLAN() *lan { return &lan{ports: map[*lanPort]bool{}} }

// send delivers a frame to all ports but the sender's.
func (l *lan) send(from *lanPort, frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	frame = slices.Clone(frame)
	l.taped = append(l.taped, taped{time.Now(), frame})
	for p := range l.ports {
		family := cluster.IPv4
		if frame[12] == 0x86 {
			family = cluster.IPv6
		}
		if p == from || p.family != family || (frame[0]&1 == 0 && cluster.MAC(frame[:6]) != p.link.MAC) || !p.hears(frame) {
			continue
		}
		select {
		case p.in <- taped{time.Now(), frame}:
		default:
		}
	}
}

// tape returns what was sent since the n-th frame.
func (l *lan) tape(n int) []taped {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.taped[n:])
}

func (l *lan) rewind() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.taped)
}

// nic is one machine's way to its segments, with faults to inject.
type nic struct {
	mu       sync.Mutex
	segments map[string]*lan // by link name
	open     map[*lanPort]bool
	opens    int
	noOpen   map[string]error // link name -> what opening fails with
	noSend   map[string]error
	noGroups map[string]error
	ice      chan struct{} // closed at the thaw
}

func newNIC(segments map[string]*lan) *nic {
	return &nic{segments: segments, open: map[*lanPort]bool{},
		noOpen: map[string]error{}, noSend: map[string]error{}, noGroups: map[string]error{}}
}

func (n *nic) opener(link cluster.Link, family cluster.Family) (Port, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opens++
	if err := n.noOpen[link.Name]; err != nil {
		return nil, err
	}
	p := &lanPort{nic: n, link: link, family: family,
		in: make(chan taped, 4096), fault: make(chan error, 1), closed: make(chan struct{})}
	n.open[p] = true
	p.plug(n.segments[link.Name])
	return p, nil
}

// plug takes every open port over to a segment.
func (n *nic) plug(into *lan) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.open {
		p.unplug()
		p.plug(into)
	}
}

// freeze keeps what comes in from being read until thaw is called.
func (n *nic) freeze() (thaw func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ice := make(chan struct{})
	n.ice = ice
	return func() {
		n.mu.Lock()
		n.ice = nil
		n.mu.Unlock()
		close(ice)
	}
}

// breakPorts makes every open port of a link fail once to read.
func (n *nic) breakPorts(link string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.open {
		if p.link.Name == link {
			select {
			case p.fault <- err:
			default:
			}
		}
	}
}

func (n *nic) set(m map[string]error, link string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m[link] = err
}

func (n *nic) opened() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.opens
}

// world describes the sockets and groups: "eth0/3 IPv6 02:.. [groups]".
func (n *nic) world() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for p := range n.open {
		out = append(out, fmt.Sprintf("%s/%d %s %s %v", p.link.Name, p.link.Index, p.family, p.link.MAC, p.groups))
	}
	slices.Sort(out)
	return out
}

type lanPort struct {
	nic    *nic
	lan    atomic.Pointer[lan]
	link   cluster.Link
	family cluster.Family
	in     chan taped
	last   time.Time // when what was read last came in; the reader's
	fault  chan error
	closed chan struct{}
	groups []netip.Addr // guarded by nic.mu
	only   []netip.Addr // guarded by lan.mu

	exactly bool // likewise
}

func (p *lanPort) Read(buf []byte) (int, error) {
	select {
	case err := <-p.fault:
		return 0, err
	case <-p.closed:
		return 0, os.ErrClosed
	case f := <-p.in:
		p.nic.mu.Lock()
		ice := p.nic.ice
		p.nic.mu.Unlock()
		if ice != nil {
			<-ice
		}
		p.last = f.at
		return copy(buf, f.frame), nil
	}
}

func (p *lanPort) Received() time.Time { return p.last }

func (p *lanPort) More() bool { return len(p.in) > 0 }

func (p *lanPort) Reply(frame []byte) error {
	_, err := p.Send(frame)
	return err
}

func (p *lanPort) Send(frame []byte) (time.Time, error) {
	p.nic.mu.Lock()
	err := p.nic.noSend[p.link.Name]
	p.nic.mu.Unlock()
	if err != nil {
		return time.Time{}, err
	}
	select {
	case <-p.closed:
		return time.Time{}, os.ErrClosed
	default:
	}
	p.lan.Load().send(p, frame)
	return time.Now(), nil
}

func (p *lanPort) Only(addrs []netip.Addr, exactly bool) error {
	segment := p.lan.Load()
	segment.mu.Lock()
	defer segment.mu.Unlock()
	p.only, p.exactly = slices.Clone(addrs), exactly
	return nil
}

// hears reports whether a frame is about one of the addresses that the port was told of, and of no other. lan.mu is held.
func (p *lanPort) hears(frame []byte) bool {
	if p.family == cluster.IPv4 {
		if len(frame) < arpFrameLen {
			return true
		}
		return slices.Contains(p.only, netip.AddrFrom4([4]byte(frame[ethLen+14:]))) || slices.Contains(p.only, netip.AddrFrom4([4]byte(frame[ethLen+24:])))
	}
	return len(frame) < ndpFrameMin || slices.Contains(p.only, netip.AddrFrom16([16]byte(frame[ethLen+ipv6Len+8:])))
}

func (p *lanPort) Groups(want []netip.Addr) error {
	p.nic.mu.Lock()
	defer p.nic.mu.Unlock()
	if err := p.nic.noGroups[p.link.Name]; err != nil {
		return err
	}
	p.groups = slices.Clone(want)
	return nil
}

func (p *lanPort) Close() error {
	p.nic.mu.Lock()
	delete(p.nic.open, p)
	p.nic.mu.Unlock()
	p.unplug()
	close(p.closed)
	return nil
}

func (p *lanPort) plug(into *lan) {
	p.lan.Store(into)
	into.mu.Lock()
	defer into.mu.Unlock()
	into.ports[p] = true
}

func (p *lanPort) unplug() {
	from := p.lan.Load()
	from.mu.Lock()
	defer from.mu.Unlock()
	delete(from.ports, p)
}

// asker is the MAC of the station that asks in tests.
var asker = cluster.MAC{0x02, 0xaa, 0, 0, 0, 1}

// ask puts a question on the segment and returns who answers, once everything has come to rest.
func (l *lan) ask(t testing.TB, addr netip.Addr, wait func()) []cluster.MAC {
	t.Helper()
	mark := l.rewind()
	l.send(nil, question(t, addr, asker))
	wait()
	answers := map[cluster.MAC]bool{}
	for _, f := range l.tape(mark) {
		if cluster.MAC(f.frame[:6]) == asker {
			answers[cluster.MAC(f.frame[6:12])] = true
		}
	}
	return slices.SortedFunc(maps.Keys(answers), func(a, b cluster.MAC) int { return slices.Compare(a[:], b[:]) })
}
