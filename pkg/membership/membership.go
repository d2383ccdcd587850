package membership

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Config says how this node takes part.
type Config struct {
	Node string     // this node's name
	Bind netip.Addr // address to gossip on
	Port uint16     // UDP and TCP, the same on every node
	Key  []byte     // 32 bytes; nil: gossip is not encrypted
	Log  *slog.Logger
	// Transport carries the gossip. Default: UDP and TCP.
	Transport memberlist.Transport
	// Publish is given the members whenever they change. It is called from one goroutine and must not block.
	Publish func(cluster.Members)
	// Spread is given this node's state whenever it changes, in the form that Heard understands, so that it can be told on
	// other ways than gossip. Called as Publish is; may be nil.
	Spread func(state []byte)
}

// Membership takes part in the gossip. Run owns memberlist; everything else hands values over.
type Membership struct {
	cfg      Config
	epoch    uint64
	delegate *delegate
	peers    *reconcile.Latest[map[string]netip.Addr]
	state    *reconcile.Latest[cluster.Member]
	heard    *reconcile.Latest[[][]byte]
	decoded  map[string]state // what was heard last, by how it was said
	leave    chan chan struct{}
	settled  atomic.Bool
	health   atomic.Int64
}

// New prepares a Membership; nothing is sent before Run.
func New(cfg Config) *Membership {
	epoch := rand.Uint64()
	d := &delegate{
		meta:   epochMeta(epoch),
		states: make(chan state, 1024),
		gone:   make(chan string, 1024),
		poke:   reconcile.NewPoke(),
	}
	d.queue = &memberlist.TransmitLimitedQueue{NumNodes: d.count, RetransmitMult: 4}
	return &Membership{cfg: cfg, epoch: epoch, delegate: d, leave: make(chan chan struct{}),
		peers: reconcile.NewLatest[map[string]netip.Addr](), state: reconcile.NewLatest[cluster.Member](),
		heard: reconcile.NewLatest[[][]byte]()}
}

// Peers says which speakers there should be: node names with the address that each gossips on. Those that are not members
// are asked to be, again and again.
func (m *Membership) Peers(peers map[string]netip.Addr) { m.peers.Put(peers) }

// State says what the others shall know of this node.
func (m *Membership) State(own cluster.Member) { m.state.Put(own) }

// Heard says what those who are heard on a segment say of themselves. They are alive, whatever gossip knows of them.
func (m *Membership) Heard(states [][]byte) { m.heard.Put(states) }

// Settled reports whether this node knows whom there is to know: it has met a peer, or has tried long enough.
func (m *Membership) Settled() bool { return m.settled.Load() }

// Health is memberlist's own score: 0 is healthy, 7 the worst.
func (m *Membership) Health() int { return int(m.health.Load()) }

// Leave tells the others that this node goes, and returns when they should know. Run ends then.
func (m *Membership) Leave(ctx context.Context) {
	done := make(chan struct{})
	select {
	case m.leave <- done:
		<-done
	case <-ctx.Done():
	}
}

// settings is a profile for one Ethernet segment or a few: a dead member is noticed by its peers in four or five seconds. What must
// be noticed sooner is the heartbeat's to notice; a probe costs more than all that the heartbeat says in its time.
func (m *Membership) settings() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = m.cfg.Node
	c.BindAddr, c.BindPort = m.cfg.Bind.String(), int(m.cfg.Port)
	c.AdvertiseAddr, c.AdvertisePort = m.cfg.Bind.String(), int(m.cfg.Port)
	c.SecretKey, c.Transport = m.cfg.Key, m.cfg.Transport
	c.Delegate, c.Events = m.delegate, m.delegate
	c.ProbeInterval, c.ProbeTimeout = time.Second, 200*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
	c.GossipInterval = 500 * time.Millisecond
	c.GossipToTheDeadTime = 10 * time.Second
	c.PushPullInterval = 10 * time.Second
	c.TCPTimeout = time.Second
	c.DeadNodeReclaimTime = time.Millisecond // a node may come back with another address
	c.EnableCompression = false              // our states are, and compressing every probe costs more than all the rest
	c.LogOutput = logWriter{m.cfg.Log}
	return c
}

// calm is the shortest time between two looks at who is a member: where hundreds of nodes start together, that changes with every
// message.
const calm = 5 * time.Millisecond

// Run takes part until ctx ends or Leave was called.
func (m *Membership) Run(ctx context.Context) error {
	list := m.create(ctx)
	if list == nil {
		return nil
	}
	defer func() { _ = list.Shutdown() }()

	joining, stop := context.WithCancel(ctx)
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		m.join(joining, list)
	}()
	defer func() {
		stop()
		<-joined
	}()

	own := state{Node: m.cfg.Node, Epoch: m.epoch}
	known := book{view: map[origin]state{}}
	again := time.NewTimer(0)
	defer again.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	resend := time.NewTimer(0)
	defer resend.Stop()
	sends := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case done := <-m.leave:
			stop()
			err := list.Leave(time.Second)
			close(done)
			if err != nil {
				m.cfg.Log.Warn("the others may notice late that this node left", "error", err)
			}
			return nil
		case own.Member = <-m.state.C():
			own.Seq++
			known.learn(own)
			if err := m.tell(own); err != nil {
				return err
			}
			sends = 0
			resend.Reset(0)
		case s := <-m.delegate.states:
			if s.Node == m.cfg.Node || !known.learn(s) {
				continue
			}
		case states := <-m.heard.C():
			known.heard = m.meet(states)
			for _, s := range known.heard {
				if s.Node != m.cfg.Node {
					known.learn(s)
				}
			}
		case name := <-m.delegate.gone:
			maps.DeleteFunc(known.view, func(at origin, _ state) bool { return at.node == name && name != m.cfg.Node })
		case <-resend.C:
			m.sendAll(list)
			if pause, more := resendAfter(sends); more {
				resend.Reset(pause)
				sends++
			}
			continue
		case <-m.delegate.poke:
		case <-again.C:
		case <-tick.C:
			m.health.Store(int64(list.GetHealthScore()))
		}
		if wait := known.publish(m.delegate.members(), m.cfg.Publish); wait > 0 {
			again.Reset(wait)
		}
	}
}

// origin is one run of one node's speaker.
type origin struct {
	node  string
	epoch uint64
}

// book is what Run knows.
type book struct {
	view      map[origin]state
	heard     []state // on the segments, now
	published *cluster.Members
	looked    time.Time // when it was compared with what was published
}

// learn takes in a state, and reports whether it is news.
func (b *book) learn(s state) bool {
	at := origin{s.Node, s.Epoch}
	if known, told := b.view[at]; told && known.Seq >= s.Seq {
		return false
	}
	b.view[at] = s
	return true
}

// publish publishes the members if they have changed, or returns after what time it is to be asked again.
func (b *book) publish(nodes []*memberlist.Node, to func(cluster.Members)) time.Duration {
	now := time.Now()
	if wait := b.looked.Add(calm).Sub(now); wait > 0 {
		return wait
	}
	b.looked = now
	if all := members(nodes, b.view, b.heard); b.published == nil || !reflect.DeepEqual(*b.published, all) {
		b.published = &all
		to(all)
	}
	return 0
}

// members joins those whom gossip knows with those who are heard on a segment. Who comes back to gossip and was heard all along is known by
// what was heard: gossip tells that somebody is there before it tells his state.
func members(nodes []*memberlist.Node, view map[origin]state, heard []state) cluster.Members {
	out := cluster.Members{Known: true, Alive: make(map[string]cluster.Member, len(nodes))}
	of := make(map[origin]state, len(heard))
	for _, s := range heard {
		if at := (origin{s.Node, s.Epoch}); s.Seq >= of[at].Seq {
			of[at] = s
		}
	}
	for _, n := range nodes {
		epoch, _ := epochOf(n.Meta)
		at := origin{n.Name, epoch}
		s, told := view[at]
		if !told {
			s = of[at]
		}
		out.Alive[n.Name] = s.Member
	}
	newest := map[string]uint64{}
	for _, s := range heard {
		if known, listed := out.Alive[s.Node]; listed && !known.OnSegmentOnly || newest[s.Node] > s.Seq {
			continue
		}
		newest[s.Node] = s.Seq
		s.Member.OnSegmentOnly = true
		out.Alive[s.Node] = s.Member
	}
	return out
}

// tell spreads this node's state.
func (m *Membership) tell(own state) error {
	msg, err := own.encode()
	if err != nil {
		return err
	}
	m.delegate.own.Store(&msg)
	if m.cfg.Spread != nil {
		m.cfg.Spread(msg)
	}
	m.delegate.queue.QueueBroadcast(broadcast(msg))
	return nil
}

// resendAfter is the pause after the first, second, ... round of datagrams that carry a new state to every member. Gossip
// spreads it too, but may spend all its transmissions on one of them, and the others then learn only at the next full
// exchange.
func resendAfter(sends int) (time.Duration, bool) {
	switch sends {
	case 0:
		return 30 * time.Millisecond, true
	case 1:
		return 60 * time.Millisecond, true
	case 2:
		return 120 * time.Millisecond, true
	}
	return 0, false
}

// sendAll sends this node's state to every member.
func (m *Membership) sendAll(list *memberlist.Memberlist) {
	own := m.delegate.own.Load()
	if own == nil {
		return
	}
	for _, n := range m.delegate.members() {
		if n.Name == m.cfg.Node {
			continue
		}
		if err := list.SendBestEffort(n, *own); err != nil {
			m.cfg.Log.Debug("state not sent", "to", n.Name, "error", err)
		}
	}
}

// create starts memberlist, again and again while its address cannot be bound; nil when ctx ended first.
func (m *Membership) create(ctx context.Context) *memberlist.Memberlist {
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		list, err := memberlist.Create(m.settings())
		if err == nil {
			return list
		}
		m.cfg.Log.Warn("cannot gossip yet, will retry", "address", netip.AddrPortFrom(m.cfg.Bind, m.cfg.Port), "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// patience is how long a node that meets none of its peers waits before it takes itself for the only one.
const patience = 5 * time.Second

// The pauses of join, while peers are missing and while none is.
const joinPause, joinedPause = 500 * time.Millisecond, 5 * time.Second

// join asks peers that are not members to be, a few at a time.
func (m *Membership) join(ctx context.Context, list *memberlist.Memberlist) {
	var peers map[string]netip.Addr
	var since time.Time
	tick := time.NewTimer(joinPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case peers = <-m.peers.C():
			if since.IsZero() {
				since = time.Now()
			}
		case <-tick.C:
		}
		tick.Reset(joinPause)
		if peers == nil {
			continue
		}
		missing := m.missing(peers)
		if len(missing) == 0 {
			tick.Reset(joinedPause)
		}
		met := m.delegate.count() > 1
		for _, addr := range pickSome(missing, 3) {
			if _, err := list.Join([]string{addr}); err != nil {
				m.cfg.Log.Debug("peer not met", "address", addr, "error", err)
				continue
			}
			met = true
		}
		if met || len(missing) == 0 || time.Since(since) > patience {
			m.settle("by gossip")
		}
	}
}

// meet reads the states of those who are heard on a segment.
func (m *Membership) meet(states [][]byte) []state {
	heard := m.decodeAll(states)
	if len(heard) > 0 {
		m.settle("on a segment")
	}
	return heard
}

// decodeAll reads what it can; what was heard before is not read again.
func (m *Membership) decodeAll(states [][]byte) []state {
	all, decoded := make([]state, 0, len(states)), make(map[string]state, len(states))
	for _, data := range states {
		s, known := m.decoded[string(data)]
		if !known {
			var err error
			if s, err = decode(data); err != nil {
				continue
			}
		}
		all, decoded[string(data)] = append(all, s), s
	}
	m.decoded = decoded
	return all
}

// settle notes that this node has met whom it waits for.
func (m *Membership) settle(how string) {
	if m.settled.CompareAndSwap(false, true) {
		m.cfg.Log.Info("settled", "met", how, "members", m.delegate.count())
		m.delegate.poke.Ring()
	}
}

func (m *Membership) missing(peers map[string]netip.Addr) []string {
	alive := map[string]struct{}{m.cfg.Node: {}}
	for _, n := range m.delegate.members() {
		alive[n.Name] = struct{}{}
	}
	var addrs []string
	for name, addr := range peers {
		if _, met := alive[name]; !met && addr.IsValid() {
			addrs = append(addrs, net.JoinHostPort(addr.String(), strconv.Itoa(int(m.cfg.Port))))
		}
	}
	return addrs
}

func pickSome(from []string, n int) []string {
	rand.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	return from[:min(n, len(from))]
}

// logWriter passes memberlist's log on; it is chatty, so all of it is for debugging.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Debug("memberlist", "line", string(line))
	return len(line), nil
}

var _ io.Writer = logWriter{}
