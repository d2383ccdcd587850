package bgp

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/bfd"
)

// session is one BGP session.
type session struct {
	a    *Announcer
	ctx  context.Context
	name string
	log  *slog.Logger

	want    announce.BGPSession
	server  *peerServer // nil before it is needed
	addedAt time.Time
	added   *api.Peer  // the peer as the server has it; nil while it has none
	relay   *relay     // to the router; nil while added is
	own     netip.Addr // of this node, towards the router; invalid while it is not known
	counts  *counters
	loaded  map[netip.Prefix]*loaded   // the routes as the server has them; what is equal is mostly shared
	newest  *loaded                    // the last of them that was another
	drains  map[netip.Prefix]time.Time // since when a route has been drained
	emptied time.Time                  // since when a session that is to be closed has had no route
	parting time.Time                  // since when the peer is being told that its session closes

	state    string
	since    time.Time
	peerASN  uint32
	agreed   agreed // while it is Established
	flaps    uint64
	problem  string // of this node's side
	unfound  string // why its router is not found on the link
	unopened string // why the peer could not be added
	lost     string // why the session was lost last
	again    bool   // it was lost, and is to be opened anew without gobgp's pause
	bfdWasUp bool
	closed   bool
	tryAt    time.Time
}

// retry is how often what failed on this node is tried again.
const retry = time.Second

// steady is how long a session must have lasted to be opened anew at once when it is lost.
const steady = 10 * time.Second

// unanswered is how long a router may take to answer before that is a problem.
const unanswered = 10 * time.Second

// withoutBFD is how long BFD may be away until the session is tried without it. If the router is gone, it does not come up.
const withoutBFD = 30 * time.Second

// farewell is how long a peer has to take withdrawals in before its session is closed.
const farewell = 200 * time.Millisecond

// parted is how long it may take at most until a peer has been told that its session closes.
const parted = 5 * time.Second

// endless is what is wrong with a router that wants no keepalives.
const endless = "the router asks for hold time 0, with which the session does not last: set another on the router"

// drained is what a peer is told that closes with the session, RFC 9003.
const drained = "Bellwether: this node is drained"

func (a *Announcer) newSession(ctx context.Context, name string, now time.Time) *session {
	return &session{a: a, ctx: ctx, name: name, log: a.cfg.Log.With("peer", name), state: "Idle", since: now, counts: &counters{},
		loaded: map[netip.Prefix]*loaded{}, drains: map[netip.Prefix]time.Time{}}
}

// take takes in what the server says.
func (s *session) take(c change, now time.Time) {
	if c.state == s.state || s.added == nil { // of a peer that has been removed meanwhile
		return
	}
	was, since := s.state, s.since
	s.state, s.since = c.state, now
	if s.state == "Idle" && !s.relay.progress().away { // else there was no router to lose
		s.lost = s.server.log.lost()
		if was == Established && s.agreed.hold == 0 {
			s.lost = endless
		}
	}
	if was == Established && !s.parting.IsZero() {
		s.lost = ""
		s.log.Info("a BGP session is closed, as this node is drained")
	} else if was == Established {
		s.flaps++
		s.again = now.Sub(since) >= steady
		s.log.Warn("a BGP session is lost", "reason", s.lost)
	}
	if s.state != Established {
		return
	}
	s.peerASN, s.lost = c.peerASN, ""
	s.log.Info("a BGP session is established", "asn", c.peerASN)
	switch w := s.want.Session; {
	case w.PeerASN == 0 && c.peerASN == w.MyASN:
		s.fail(now.Add(10*time.Second), "the router's AS number is %d, which dynamicASN does not allow here: correct dynamicASN, myASN or the router", c.peerASN)
	default:
		s.problem, s.agreed = "", *s.relay.heard.Load()
		if s.agreed.hold == 0 {
			s.problem = endless
		}
	}
}

// fail ends a session that cannot be, until it is tried again.
func (s *session) fail(tryAt time.Time, format string, args ...any) {
	s.problem, s.tryAt = fmt.Sprintf(format, args...), tryAt
	s.log.Warn("there is no BGP session", "problem", s.problem)
	s.remove()
}

// reconcile brings the session closer to what is wanted, and returns when to come back.
func (s *session) reconcile(now time.Time) (again time.Duration) {
	if err := s.serve(); err != nil {
		s.problem = err.Error()
		return retry
	}
	unknown := s.locateSelf()
	again = s.load(now)
	if s.want.Close {
		return min(again, s.close(now))
	}
	s.closed, s.emptied = false, time.Time{}
	if !s.parting.IsZero() {
		s.remove() // the server does not open it again by itself
	}
	switch left := s.held(now); {
	case left > 0:
		s.remove()
		return min(again, left)
	case !s.want.Session.Address.IsValid():
		s.remove()
		return again
	case now.Before(s.tryAt):
		return min(again, s.tryAt.Sub(now))
	}
	password, err := s.password()
	stands := err != nil && s.state == Established && s.added != nil && s.same(s.relay.to.password)
	if err = cmp.Or(err, unknown); err == nil {
		err = s.open(password)
	}
	if err != nil {
		known := s.unopened == err.Error()
		s.unopened, s.tryAt = err.Error(), now.Add(retry)
		if stands { // with the password that it has, as whatever was right before goes on
			return min(again, retry)
		}
		if !known {
			s.log.Warn("there is no BGP session", "problem", s.unopened)
		}
		s.remove()
		return min(again, retry)
	}
	s.unopened = ""
	if left := unanswered - time.Since(s.addedAt); left > 0 {
		again = min(again, left)
	}
	return again
}

// serve has a server for the session.
func (s *session) serve() error {
	if s.server != nil && s.server.routerID == s.want.Session.RouterID {
		return nil
	}
	s.end()
	p, err := s.a.servers.take(s.ctx, s.want.Session.RouterID)
	if err != nil {
		return err
	}
	s.server = p
	return p.watch(s.ctx, s.log, func(ctx context.Context, c change) {
		select {
		case s.a.events <- event{session: s, server: p, what: c}:
		case <-ctx.Done():
		}
	})
}

// held returns how long the session must wait, 0 for not at all: BFD has seen the router, and does not any more. A router that has no BFD
// holds nothing up, and neither does one that begins with it only when the session is there.
func (s *session) held(now time.Time) time.Duration {
	status, is := s.bfdStatus()
	if !is {
		s.bfdWasUp = false
		return 0
	}
	if status.State == bfd.Up {
		s.bfdWasUp = true
		return 0
	}
	if status.RemoteState == bfd.AdminDown {
		// Such a router draws no conclusions about the path, and neither does this node (RFC 5882 section 3.2). It may have no BFD from now on.
		s.bfdWasUp = false
	}
	if !s.bfdWasUp {
		return 0
	}
	left := max(0, withoutBFD-now.Sub(status.Since))
	s.bfdWasUp = left > 0
	return left
}

func (s *session) bfdStatus() (bfd.Status, bool) {
	peer, _, is := s.bfd()
	if !is || s.a.cfg.BFD == nil {
		return bfd.Status{}, false
	}
	status, is := s.a.cfg.BFD.Have()[peer]
	return status, is
}

// bfd is the BFD session beside this one.
func (s *session) bfd() (peer bfd.Peer, cfg bfd.Config, is bool) {
	p := s.want.BFD
	if p == nil || !s.want.Session.Address.IsValid() {
		return bfd.Peer{}, bfd.Config{}, false
	}
	return bfd.Peer{Remote: s.want.Session.Address, Local: s.want.Session.Source, Multihop: s.want.Far, Device: s.want.Session.VRF},
		bfd.Config{TransmitInterval: p.Transmit, ReceiveInterval: p.Receive, DetectMultiplier: p.Multiplier, Passive: p.Passive,
			EchoInterval: p.Echo, MinimumTTL: p.MinimumTTL, AdminDown: s.closed}, true
}

func (s *session) password() (string, error) {
	if s.want.PasswordSecret == "" {
		return "", nil
	}
	return s.a.cfg.Password(s.want.PasswordSecret)
}

// locateSelf finds this node's address towards the router. A session that is there keeps the one that it has.
func (s *session) locateSelf() error {
	if s.state == Established || !s.want.Session.Address.IsValid() {
		return nil
	}
	own, err := newEndpoint(s.want.Session, "").own(s.ctx)
	if err != nil {
		return err
	}
	if s.relay != nil {
		own = s.relay.from(own)
	}
	s.own = own
	return nil
}

// same reports whether the session that is open is the one that is wanted, but for timers.
func (s *session) same(password string) bool {
	return s.relay.to == newEndpoint(s.want.Session, password) && proto.Equal(withoutTimers(s.added), withoutTimers(neighbor(s.want, s.relay.port())))
}

// open adds the peer, or changes it.
func (s *session) open(password string) error {
	if s.added != nil && !s.again && s.same(password) {
		return s.retime()
	}
	s.remove()
	r, err := newRelay(s.ctx, newEndpoint(s.want.Session, password), s.own, s.counts, s.a.cfg.Poke.Ring)
	if err != nil {
		return err
	}
	r.retry.Store(int64(s.want.Session.Connect))
	peer := neighbor(s.want, r.port())
	if err := s.server.AddPeer(s.ctx, &api.AddPeerRequest{Peer: peer}); err != nil {
		r.end()
		return fmt.Errorf("open the session: %w", err)
	}
	s.relay, s.added, s.addedAt = r, peer, time.Now()
	return nil
}

// retime has the session that is open keep the time that is wanted.
func (s *session) retime() error {
	s.relay.retry.Store(int64(s.want.Session.Connect))
	peer := neighbor(s.want, s.relay.port())
	if proto.Equal(s.added, peer) {
		return nil
	}
	if _, err := s.server.UpdatePeer(s.ctx, &api.UpdatePeerRequest{Peer: peer}); err != nil {
		return fmt.Errorf("change the session: %w", err)
	}
	s.added = peer
	return nil
}

// withoutTimers is a peer without what gobgp changes while a session stays up.
func withoutTimers(p *api.Peer) *api.Peer {
	c := proto.CloneOf(p)
	c.Timers = nil
	return c
}

// remove ends the session at once; the routes stay loaded.
func (s *session) remove() {
	s.again, s.parting = false, time.Time{}
	if s.added == nil {
		return
	}
	if err := s.server.DeletePeer(s.ctx, &api.DeletePeerRequest{Address: s.added.Conf.NeighborAddress}); err != nil {
		s.log.Warn("a BGP session could not be ended", "error", err)
	}
	if s.state == Established {
		s.flaps++
	}
	s.relay.end()
	s.relay, s.added, s.state, s.since = nil, nil, "Idle", time.Now()
}

// close ends a session in order when its routes have been drained, and says why.
func (s *session) close(now time.Time) (again time.Duration) {
	if s.closed || len(s.loaded) > 0 {
		return time.Hour
	}
	if s.emptied.IsZero() {
		s.emptied = now
	}
	if left := farewell - now.Sub(s.emptied); left > 0 && s.state == Established {
		return left
	}
	if s.added != nil && s.state == Established && s.parting.IsZero() {
		if err := s.server.DisablePeer(s.ctx, &api.DisablePeerRequest{Address: s.added.Conf.NeighborAddress, Communication: drained}); err != nil {
			s.log.Warn("a BGP session could not be closed in order", "error", err)
		}
		s.parting = now
	}
	if left := parted - now.Sub(s.parting); left > 0 && s.state == Established {
		return left
	} else if left > 0 && s.added != nil && s.relay.busy.Load() { // the reason is on its way
		return time.Millisecond
	}
	s.remove()
	s.closed, s.bfdWasUp = true, false // BFD goes down with the session, and says nothing about the router
	return time.Hour
}

// end gives the server back, empty.
func (s *session) end() {
	if s.server == nil {
		return
	}
	s.remove()
	s.server.unwatch()
	for _, f := range []*api.Family{ipv4(), ipv6()} {
		if err := s.server.DeletePath(s.ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Family: f}); err != nil {
			s.log.Warn("routes could not be withdrawn", "error", err)
		}
	}
	clear(s.loaded)
	s.newest = nil
	s.a.servers.idle = append(s.a.servers.idle, s.server)
	s.server = nil
}

func (s *session) status() State {
	st := State{State: s.state, Since: s.since, PeerASN: s.peerASN, Flaps: s.flaps, Closed: s.closed, Problem: s.problem, counts: s.counts}
	trying := progress{}
	if s.relay != nil {
		trying = s.relay.progress()
	}
	if s.state == "OpenSent" && trying.away { // to gobgp, the relay is the router
		st.State = "Active"
	}
	if s.state == Established {
		for prefix := range s.loaded {
			if s.agreed.carries(prefix) {
				st.Advertised++
			}
		}
		if left := len(s.loaded) - st.Advertised; left > 0 && st.Problem == "" {
			st.Problem = fmt.Sprintf("the router takes no %s routes over this session, and %d of them are not announced to it: enable that address family on the router",
				s.agreed.lacks(), left)
		}
	}
	if status, is := s.bfdStatus(); is {
		st.BFD = &status
		if s.bfdWasUp && status.State != bfd.Up && s.added == nil && st.Problem == "" && !s.closed {
			st.Problem = "BFD does not see the router any more: " + status.Diagnostic.String()
		}
	}
	if st.Problem == "" && !s.closed {
		st.Problem = cmp.Or(s.unopened, s.unfound)
	}
	if st.Problem == "" && s.state != Established && !s.closed {
		st.Problem = s.lost
		if s.lost == "" && s.added != nil && time.Since(s.addedAt) >= unanswered {
			st.Problem = "the router does not answer: look at its address, its port and its password, and at what is between"
			if trying.problem != "" {
				st.Problem += " (" + trying.problem + ")"
			}
		}
	}
	return st
}
