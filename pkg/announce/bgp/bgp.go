package bgp

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/bfd"
	"github.com/bellwether-lb/bellwether/pkg/announce/discovery"
)

// BFD tells whether routers are there; *bfd.Engine does.
type BFD interface {
	Set(want map[bfd.Peer]bfd.Config) error
	Have() map[bfd.Peer]bfd.Status
}

// Discovery finds the routers of sessions without addresses; *discovery.Engine does.
type Discovery interface {
	Set(links []string)
	Have() map[string]discovery.Found
}

// Config says how an Announcer works.
type Config struct {
	Log *slog.Logger
	BFD BFD
	// Routers may be nil where no session is on a link without addresses.
	Routers Discovery
	// Password returns the password in a Secret. An error says why there is none, as a clause.
	Password func(secret string) (string, error)
	// Poke has the sessions looked at anew: whoever knows that BFD, a router on a link or a Secret has changed rings it.
	Poke reconcile.Poke
	// Changed is rung when what Have returns has changed.
	Changed reconcile.Poke
	// DrainTime is how long a peer is asked to prefer others' routes before one is withdrawn. Default: 2 s.
	DrainTime time.Duration
}

// State is how a session stands.
type State struct {
	// State is that of RFC 4271 section 8.2.2: Idle, Connect, Active, OpenSent, OpenConfirm or Established.
	State string
	Since time.Time
	// PeerASN is the AS number that the peer said it has; 0 before that.
	PeerASN uint32
	// Advertised counts the routes that the peer has been told; 0 while the session is not Established.
	Advertised int
	// Flaps counts how often it was Established and is not any more.
	Flaps uint64
	// Problem says why there is no session, or what is wrong with it, as a clause. Empty if nothing is.
	Problem string
	// BFD is the session's; nil where it has none.
	BFD *bfd.Status
	// Closed is true for a session that has ended in order and is not wanted until the plan says otherwise.
	Closed bool

	counts *counters
}

// Established is what State.State is while routes are exchanged.
const Established = "Established"

// Announcer has the sessions of a plan. Set and Have are for any goroutine.
type Announcer struct {
	cfg    Config
	plans  *reconcile.Latest[announce.BGPPlan]
	events chan event
	have   atomic.Pointer[map[string]State]

	// Of Run's goroutine alone.
	sessions map[string]*session
	servers  servers
}

// event is what a session's server says.
type event struct {
	session *session
	server  *peerServer
	what    change
}

// New returns an Announcer without sessions.
func New(cfg Config) *Announcer {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.DrainTime == 0 {
		cfg.DrainTime = 2 * time.Second
	}
	return &Announcer{cfg: cfg, plans: reconcile.NewLatest[announce.BGPPlan](), events: make(chan event, 64),
		sessions: map[string]*session{}}
}

// Set has these sessions from now on, with these routes. It returns at once.
func (a *Announcer) Set(plan announce.BGPPlan) { a.plans.Put(plan) }

// Have returns how the sessions stand, by the names of their BGPPeers. The map must not be changed.
func (a *Announcer) Have() map[string]State {
	if have := a.have.Load(); have != nil {
		return *have
	}
	return nil
}

// Quiet reports whether nothing is left to drain of the sessions that are to be closed.
func (a *Announcer) Quiet(plan announce.BGPPlan) bool {
	have := a.Have()
	for name, s := range plan {
		if s.Close && !have[name].Closed {
			return false
		}
	}
	return true
}

// Run has the sessions until ctx ends, and then falls silent: whoever is to be told must be told before, by a plan that closes its
// session. Peers that restart gracefully with this node keep its routes then.
func (a *Announcer) Run(ctx context.Context) error {
	var plan announce.BGPPlan
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer a.abandon()
	for {
		select {
		case <-ctx.Done():
			return nil
		case plan = <-a.plans.C():
		case e := <-a.events:
			if e.session.server == e.server {
				e.session.take(e.what, time.Now())
			}
		case <-a.cfg.Poke:
		case <-timer.C:
		}
		again := a.turn(ctx, plan, time.Now())
		timer.Reset(again)
		a.publish()
	}
}

// turn brings every session closer to the plan, and returns when there is more to do.
func (a *Announcer) turn(ctx context.Context, plan announce.BGPPlan, now time.Time) time.Duration {
	for name, s := range a.sessions {
		if _, wanted := plan[name]; !wanted {
			s.end()
			delete(a.sessions, name)
		}
	}
	for name, want := range plan {
		s := a.sessions[name]
		if s == nil {
			s = a.newSession(ctx, name, now)
			a.sessions[name] = s
		}
		s.want = want
	}
	a.locate(plan)
	again := time.Hour
	for _, s := range a.sessions {
		again = min(again, s.reconcile(now))
	}
	a.watchPeers()
	return again
}

// locate completes the sessions whose routers are looked for on links.
func (a *Announcer) locate(plan announce.BGPPlan) {
	if a.cfg.Routers == nil {
		return
	}
	links := []string{}
	for _, want := range plan {
		if link := want.Session.Interface; link != "" {
			links = append(links, link)
		}
	}
	slices.Sort(links)
	a.cfg.Routers.Set(slices.Compact(links))
	have := a.cfg.Routers.Have()
	for _, s := range a.sessions {
		link := s.want.Session.Interface
		if link == "" {
			continue
		}
		found := have[link]
		s.want.Session.Address, s.unfound = found.Router, found.Problem
		s.want.NextHop4, s.want.NextHop6 = found.Own, found.Own
	}
}

// watchPeers has BFD beside the sessions that want it.
func (a *Announcer) watchPeers() {
	if a.cfg.BFD == nil {
		return
	}
	want := map[bfd.Peer]bfd.Config{}
	for _, s := range a.sessions {
		if peer, cfg, is := s.bfd(); is {
			want[peer] = cfg
		}
	}
	if err := a.cfg.BFD.Set(want); err != nil {
		a.cfg.Log.Warn("BFD is not as it should be", "error", err)
	}
}

func (a *Announcer) publish() {
	have := make(map[string]State, len(a.sessions))
	for name, s := range a.sessions {
		have[name] = s.status()
	}
	if old := a.have.Load(); old != nil && maps.EqualFunc(*old, have, State.equal) {
		return
	}
	a.have.Store(&have)
	a.cfg.Changed.Ring()
}

func (s State) equal(o State) bool {
	b, ob := s.BFD, o.BFD
	s.BFD, o.BFD = nil, nil
	return s == o && (b == nil) == (ob == nil) && (b == nil || *b == *ob)
}

// abandon stops listening to the servers. They are not stopped: that would tell their peers.
func (a *Announcer) abandon() {
	for _, s := range a.sessions {
		if s.server != nil {
			s.server.unwatch()
		}
	}
}
