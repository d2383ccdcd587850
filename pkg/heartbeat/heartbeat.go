package heartbeat

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Config says how this node takes part.
type Config struct {
	Node string
	Key  []byte // gossip's; nil: frames are not authenticated
	Log  *slog.Logger
	// Open opens a link's socket. Default: OpenPacket.
	Open    Opener
	Timings Timings
	// Traffic counts the frames of any kind that have come in on the link of an index: where they do, it works.
	Traffic func(index int) uint64
	// Publish is given what the segments say whenever that changes. It is called from one goroutine and must not block.
	Publish func(Findings)
}

// Findings is what the segments say. It is immutable.
type Findings struct {
	// Silent are the links of other nodes that are not heard where they should be, sorted.
	Silent []Peer `json:"silent,omitempty"`
	// Cut are the links of this node on which nobody is heard any more, sorted.
	Cut []string `json:"cut,omitempty"`
	// OtherKey are links of which frames come in that this node's key does not fit, sorted; sixteen at most on each link of this node.
	// They may well be another cluster's, and nobody vouches for their names.
	OtherKey []Peer `json:"otherKey,omitempty"`
	// Heard says which nodes are heard, with what each last said of itself; empty where it has not said yet.
	Heard []Heard `json:"heard,omitempty"`
}

// States are what those who are heard say of themselves.
func (f Findings) States() (all [][]byte) {
	for _, h := range f.Heard {
		if len(h.State) > 0 {
			all = append(all, h.State)
		}
	}
	return all
}

// Heard is a node that is heard on a segment, and from where: its State may still tell of the card that it had before.
type Heard struct {
	Peer
	MAC   cluster.MAC `json:"-"`
	State []byte      `json:"-"`
}

// Counters count frames, over all links.
type Counters struct {
	Sent, Received atomic.Uint64 // of all kinds
	Accusations    atomic.Uint64 // peers found silent by this node
}

// Heartbeat speaks with the other speakers on every link.
type Heartbeat struct {
	cfg      Config
	links    *reconcile.Latest[[]cluster.Link]
	state    atomic.Pointer[[]byte]
	nodes    atomic.Pointer[map[string]struct{}]
	reports  chan report
	counters Counters
}

// report is what one link says now.
type report struct {
	of       *station
	findings Findings
}

// New prepares a Heartbeat; nothing is sent before Run.
func New(cfg Config) *Heartbeat {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Open == nil {
		cfg.Open = OpenPacket
	}
	cfg.Timings = cfg.Timings.withDefaults()
	return &Heartbeat{cfg: cfg, links: reconcile.NewLatest[[]cluster.Link](), reports: make(chan report)}
}

// Links says which links to speak on: those of them that are up.
func (h *Heartbeat) Links(links []cluster.Link) { h.links.Put(links) }

// State says what the others shall know of this node, in a form that they understand. It goes out with the next hello.
func (h *Heartbeat) State(state []byte) { h.state.Store(&state) }

// Nodes says which nodes there are. The links of one that is not among them, nor heard, are not missed any more.
func (h *Heartbeat) Nodes(names []string) {
	nodes := make(map[string]struct{}, len(names))
	for _, name := range names {
		nodes[name] = struct{}{}
	}
	h.nodes.Store(&nodes)
}

// isNode reports whether there is a node of a name, as far as is known.
func (h *Heartbeat) isNode(name string) bool {
	nodes := h.nodes.Load()
	if nodes == nil {
		return true
	}
	_, is := (*nodes)[name]
	return is
}

// Counters are counted into all the time.
func (h *Heartbeat) Counters() *Counters { return &h.counters }

// Run takes part until ctx ends, says goodbye, and returns nil.
func (h *Heartbeat) Run(ctx context.Context) error {
	stations := map[string]*station{} // by link name
	said := map[*station]Findings{}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-h.reports:
			if stations[r.of.link.Name] != r.of {
				continue
			}
			said[r.of] = r.findings
		case links := <-h.links.C():
			for name, s := range stations {
				if !slices.ContainsFunc(links, s.serves) {
					s.stop()
					delete(stations, name)
					delete(said, s)
				}
			}
			for _, l := range links {
				if !l.Up || stations[l.Name] != nil {
					continue
				}
				own, stop := context.WithCancel(ctx)
				s := &station{h: h, link: l, stop: stop}
				stations[l.Name] = s
				tasks.Go(func() { s.run(own) })
			}
		}
		h.cfg.Publish(merge(said))
	}
}

// merge joins what all links say. Who is heard on one of them is not silent.
func merge(said map[*station]Findings) Findings {
	var all Findings
	for s, f := range said {
		if len(f.Cut) > 0 {
			all.Cut = append(all.Cut, s.link.Name)
		}
		all.Heard = append(all.Heard, f.Heard...)
		all.Silent = append(all.Silent, f.Silent...)
		all.OtherKey = append(all.OtherKey, f.OtherKey...)
	}
	if len(all.Silent) > 0 {
		heard := make(map[Peer]bool, len(all.Heard))
		for _, p := range all.Heard {
			heard[p.Peer] = true
		}
		all.Silent = slices.DeleteFunc(all.Silent, func(p Peer) bool { return heard[p] })
	}
	slices.SortFunc(all.OtherKey, comparePeers)
	all.OtherKey = slices.Compact(all.OtherKey)
	slices.Sort(all.Cut)
	slices.SortFunc(all.Silent, comparePeers)
	all.Silent = slices.Compact(all.Silent)
	slices.SortFunc(all.Heard, func(a, b Heard) int { return comparePeers(a.Peer, b.Peer) })
	return all
}

// station speaks on one link. A link that is re-created or gets another MAC gets a new one.
type station struct {
	h    *Heartbeat
	link cluster.Link
	stop context.CancelFunc
}

func (s *station) serves(l cluster.Link) bool {
	return l.Up && l.Name == s.link.Name && l.Index == s.link.Index && l.MAC == s.link.MAC
}

// The backoff between sockets that failed.
const retryMin, retryMax = 100 * time.Millisecond, 5 * time.Second

// run speaks until ctx ends.
func (s *station) run(ctx context.Context) {
	wait := retryMin
	spoke := time.Now()
	for ctx.Err() == nil {
		began := time.Now()
		port, err := s.h.cfg.Open(s.link)
		if err == nil {
			err = s.speak(ctx, port)
			err = errors.Join(err, port.Close())
			if now := time.Now(); now.Sub(began) > retryMax {
				spoke = now
			}
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > retryMax {
			wait = retryMin
		}
		if time.Since(spoke) > retryMax { // what was heard then is old
			select {
			case s.h.reports <- report{s, Findings{}}:
			case <-ctx.Done():
			}
		}
		s.h.cfg.Log.Debug("heartbeat failed on a link, will try again", "link", s.link.Name, "error", err, "retryIn", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMax)
	}
}

// nap is the longest that a station waits for a frame before it looks whether it is to stop.
const nap = 200 * time.Millisecond

// flood is how many frames are taken in at most before what is due is done.
const flood = 64

// calm is the shortest time between two reports: where hundreds of nodes start together, what each finds changes with every frame.
const calm = 5 * time.Millisecond

// speak goes on until ctx ends or the port fails.
func (s *station) speak(ctx context.Context, port Port) error {
	var sendErr error
	seg := s.segment(port, func(err error) { sendErr = err })
	var buf [frameMax]byte
	var reported time.Time
	for taken := 0; ctx.Err() == nil; {
		now := time.Now()
		until := earlier(seg.next(), now.Add(nap))
		if seg.changed {
			until = earlier(until, reported.Add(calm))
		}
		n, err := port.Read(buf[:], until)
		now = time.Now()
		if err == nil {
			s.h.counters.Received.Add(1)
			seg.hear(buf[:n], now)
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if taken++; err != nil || taken >= flood {
			taken = 0
			seg.tick(now)
		}
		if sendErr != nil {
			return sendErr
		}
		if seg.changed && now.Sub(reported) >= calm {
			seg.changed, reported = false, now
			select {
			case s.h.reports <- report{s, seg.findings()}:
			case <-ctx.Done():
			}
		}
	}
	seg.say(&message{kind: bye}, everybody())
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// segment makes the state machine of a new run on the link. Errors of sending go to failed, but for those that pass.
func (s *station) segment(port Port, failed func(error)) *segment {
	return &segment{
		self: Peer{Node: s.h.cfg.Node, Link: s.link.Name}, mac: s.link.MAC, epoch: rand.Uint64() | 1, timings: s.h.cfg.Timings,
		codec: newCodec(s.h.cfg.Key), rng: rand.New(rand.NewPCG(rand.Uint64(), 0)), peers: map[Peer]*peer{}, changed: true,
		send: func(frame []byte) {
			if err := port.Send(frame); err != nil && !passing(err) {
				failed(err)
			}
			s.h.counters.Sent.Add(1)
		},
		traffic: func() uint64 { return s.h.cfg.Traffic(s.link.Index) },
		missed:  func() { s.h.counters.Accusations.Add(1) },
		isNode:  s.h.isNode,
		state: func() []byte {
			if state := s.h.state.Load(); state != nil {
				return *state
			}
			return nil
		},
	}
}
