package l2

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// ErrEnded is what Set returns once Run has returned.
var ErrEnded = errors.New("the layer 2 announcer has ended")

// Announcer answers for addresses on this node's links. Run must be running for Set to get anywhere.
type Announcer struct {
	log      *slog.Logger
	open     Opener
	timings  Timings
	counters *Counters
	changed  reconcile.Poke
	born     time.Time

	sets   chan setting
	claims chan claim
	missed atomic.Bool // a reader has ceased to answer for an address and had no room to tell
	deaths chan death
	done   chan struct{} // closed when Run has ended
	have   atomic.Pointer[Have]

	// What follows is touched by Run's goroutine only.
	rng       *rand.Rand
	wanted    map[netip.Addr]announce.L2
	who       stations
	again     int              // of the last plan
	lines     map[string]*line // by link name
	yields    []deadline       // in order
	overtaken int              // addresses overtaken
	stale     bool             // have, and maybe the owned sets, are not what is true
	flushed   time.Time        // when they last were made so
	tasks     sync.WaitGroup   // readers, and closing sockets
	quit      chan struct{}    // closed when readers need not say farewell
}

// setting is a plan on its way to Run's goroutine.
type setting struct {
	plan  announce.L2Plan
	reply chan error // of size one
}

// deadline ends a yield, if it is still the same one.
type deadline struct {
	v   *voice
	due time.Time
}

// New returns an Announcer that does nothing yet.
func New(c Config) *Announcer {
	now := time.Now()
	a := &Announcer{
		log: c.Log, open: c.Open, timings: c.Timings.withDefaults(), counters: c.Counters, changed: c.Changed, born: now,
		sets: make(chan setting), claims: make(chan claim, 256), deaths: make(chan death), done: make(chan struct{}),
		rng: rand.New(rand.NewPCG(c.Seed, 0)), lines: map[string]*line{}, quit: make(chan struct{}),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.open == nil {
		a.open = PacketOpener(a.log)
	}
	if a.counters == nil {
		a.counters = &Counters{}
	}
	a.have.Store(&Have{})
	return a
}

// Have returns what is true now. Config.Changed is rung after it changes.
func (a *Announcer) Have() Have { return *a.have.Load() }

// Set makes the segments match the plan, which must not be changed afterwards, and returns what is true then. It may be
// called again at any time, by any goroutine, with the same plan or another. When it fails, the rest of the plan holds
// all the same: have tells the truth. Sockets that failed are opened again, with backoff, without another Set; a multicast
// group that could not be joined is tried again by the next one.
//
// Addresses beyond what may be announced at once are announced, and then answered, after Set has returned.
func (a *Announcer) Set(ctx context.Context, want announce.L2Plan) (have Have, err error) {
	s := setting{plan: want, reply: make(chan error, 1)}
	select {
	case a.sets <- s:
	case <-a.done:
		return a.Have(), ErrEnded
	case <-ctx.Done():
		return a.Have(), ctx.Err()
	}
	select {
	case err = <-s.reply:
	case <-a.done:
		err = ErrEnded
	case <-ctx.Done():
		err = ctx.Err()
	}
	return a.Have(), err
}

// Run owns the sockets and everything that is said through them, until ctx ends; it stops answering then, and returns
// nil. It may be called once.
func (a *Announcer) Run(ctx context.Context) error {
	defer a.end()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(a.wake(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case s := <-a.sets:
			err := a.apply(s.plan, time.Now())
			s.reply <- err
		case c := <-a.claims:
			now := time.Now()
			a.claimed(c, now)
			a.settle(now, false)
		case d := <-a.deaths:
			now := time.Now()
			// Not the port's successor, nor one that the owner closed itself.
			if l := a.lines[d.line.link.Name]; l == d.line && l.slot(d.family).port == d.port {
				a.fail(l, d.family, d.err, now)
			}
			a.settle(now, true)
		case <-timer.C:
			a.settle(time.Now(), false)
		}
	}
}

// end stops answering, then lets go of everything.
func (a *Announcer) end() {
	close(a.quit)
	for _, l := range a.lines {
		a.closeLine(l)
	}
	a.wanted = nil
	a.tasks.Wait()
	a.tell()
	close(a.done)
}

// settle does whatever is due, then lets readers and the world know: at once if flush is set, else at most once a tick, as
// that costs time in proportion to the number of addresses.
func (a *Announcer) settle(now time.Time, flush bool) {
	flush = flush || now.Sub(a.flushed) >= tick
	a.endYields(now)
	if flush {
		for _, l := range a.lines {
			a.equip(l, now)
			if l.dirty {
				a.publish(l, now)
			}
		}
	}
	for _, l := range a.lines {
		a.ask(l, now)
		a.speak(l, now)
		a.seekOwners(l, now)
		a.doubt(l, now)
		if !l.exactAt.IsZero() && !now.Before(l.exactAt) { // after what is urgent
			l.exactAt = time.Time{}
			a.narrow(l, true, now)
		}
	}
	if !flush {
		return
	}
	for _, l := range a.lines {
		a.equip(l, now) // what speaking has broken
		if l.dirty {
			a.publish(l, now)
		}
	}
	if a.stale {
		a.tell()
	}
	a.flushed = now
}

// publish tells a line's readers and sockets what there is to hear.
func (a *Announcer) publish(l *line, now time.Time) {
	l.publish(a.who)
	l.dirty = false
	l.exactAt = now.Add(calm)
	if more := len(l.voices) - l.told; more >= manyAtOnce {
		l.exactAt = now
	}
	l.told = len(l.voices)
	a.narrow(l, false, now)
}

const (
	// calm is how long no address must have come or gone until the sockets are told of them exactly, which takes milliseconds.
	calm = time.Second
	// manyAtOnce is how many come together where the sockets are told at once: others get many too then, and announce them.
	manyAtOnce = 64
)

func (a *Announcer) narrow(l *line, exactly bool, now time.Time) {
	for i, err := range l.narrow(exactly) {
		if err != nil {
			a.fail(l, families()[i], err, now)
		}
	}
}

// tell makes Have true.
func (a *Announcer) tell() {
	a.stale = false
	addrs := make(map[netip.Addr]State, len(a.wanted))
	for name, l := range a.lines {
		for addr, v := range l.voices {
			s := addrs[addr]
			if v.rival != (cluster.MAC{}) {
				if a.who.stranger(v.rival) || v.phase == live {
					s.Conflict = v.rival
				} else {
					s.Contested = v.rival
				}
				addrs[addr] = s
			}
			if !v.answers() {
				continue
			}
			s.Links = append(s.Links, name)
			s.Yielding = v.phase == yielding
			if s.Since.IsZero() || v.since.Before(s.Since) {
				s.Since = v.since
			}
			addrs[addr] = s
		}
	}
	for addr, s := range addrs {
		slices.Sort(s.Links)
		addrs[addr] = s
	}
	for addr, w := range a.wanted {
		if w.Yield {
			continue
		}
		s := addrs[addr]
		for _, name := range w.Links {
			if !slices.Contains(s.Links, name) {
				s.Missing = append(s.Missing, name)
			}
		}
		addrs[addr] = s
	}
	a.have.Store(&Have{Addrs: addrs, Overtaken: a.overtaken})
	a.changed.Ring()
}
