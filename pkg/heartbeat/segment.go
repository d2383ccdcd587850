package heartbeat

import (
	"bytes"
	"cmp"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Timings are the delays of watching. The zero value of each means its default.
type Timings struct {
	// Ask is how long a watched peer may be silent before it is asked, and Again how long it has to answer each question.
	// Defaults: 200 ms, 25 ms.
	Ask, Again time.Duration
	// RollCall is how long all others have to answer before a node takes its own link for cut. Default: 25 ms.
	RollCall time.Duration
	// Hello is the time between hellos, where there are up to a hundred peers. Default: 1 s.
	Hello time.Duration
}

func (t Timings) withDefaults() Timings {
	t.Ask = cmp.Or(t.Ask, 200*time.Millisecond)
	t.Again = cmp.Or(t.Again, 25*time.Millisecond)
	t.RollCall = cmp.Or(t.RollCall, 25*time.Millisecond)
	t.Hello = cmp.Or(t.Hello, time.Second)
	return t
}

const (
	// questions that a peer must have left unanswered before it is accused.
	questions = 4
	// perPeer is what a hello costs everybody: so long for each peer is the shortest time between two of one node.
	perPeer = 10 * time.Millisecond
	// peersMax bounds what is remembered.
	peersMax = 4096
	// foreignMax is how many links with another key are told apart.
	foreignMax = 16
	// freshFor is how long an accusation is said to be fresh. Who is accused has not answered for longer than that.
	freshFor = 90 * time.Millisecond
)

// segment is what one link hears of the others on its segment. It does no I/O and reads no clock.
type segment struct {
	self    Peer
	mac     cluster.MAC
	epoch   uint64
	timings Timings
	codec   *codec
	rng     *rand.Rand
	send    func(frame []byte)
	traffic func() uint64 // frames of any kind that have come in on the link
	state   func() []byte // what this node says of itself
	missed  func()        // this node has found a peer silent
	isNode  func(name string) bool

	seq     uint64
	peers   map[Peer]*peer
	watched []*peer
	regroup bool // the ring is to be formed anew
	changed bool // what findings returns has changed
	helloAt time.Time
	repeats int // hellos out of turn that are still to be said

	foreign map[Peer]time.Time // whose frames are under another key: when the last came in

	calledAt  time.Time // when the roll was called; zero: nobody is missed, or not all
	trafficAt uint64    // when it looked as if somebody were missing
	blamedAt  time.Time // when this node was accused; zero: it was not, or is heard
	cut       bool      // this node's own link does not carry frames both ways
}

// peer is what is known of one other link.
type peer struct {
	who    Peer
	place  uint64 // in the ring
	mac    cluster.MAC
	epoch  uint64 // of the run that is believed; 0: none yet
	seq    uint64
	heard  time.Time
	silent bool
	since  time.Time // silent since
	state  []byte    // what it last said of its node

	challenge    uint64 // the number that a run which is not believed yet must repeat
	challengedAt time.Time

	asked       int       // questions since it was heard, or since it is watched
	missedSince time.Time // the first of them
	askAt       time.Time // the next one, where it is watched
}

func (s *segment) there(p *peer) bool { return p.epoch != 0 && !p.silent }

// hear takes in a frame.
func (s *segment) hear(frame []byte, now time.Time) {
	m, at, err := s.codec.decode(frame)
	if errors.Is(err, errKey) {
		s.otherKey(m.from, now)
	}
	if err != nil || m.from.Node == s.self.Node {
		return
	}
	if m.kind == ping || m.kind == call {
		s.say(&message{kind: pong, nonce: m.nonce}, at)
	}
	if m.kind == call {
		return
	}
	p := s.peer(m.from)
	if p == nil || !s.believe(p, &m, at, now) {
		return
	}
	if m.kind == bye {
		delete(s.peers, p.who)
		s.regroup, s.changed = true, true
		return
	}
	s.changed = s.changed || p.mac != at
	p.seq, p.mac, p.heard, p.asked = m.seq, at, now, 0
	// Of two that watch each other one asks a little earlier, which the other hears.
	p.askAt = now.Add(time.Duration(float64(s.timings.Ask) * (0.8 + 0.2*s.rng.Float64())))
	s.calledAt = time.Time{}
	if m.kind == pong {
		s.proven(now)
	}
	if p.silent {
		p.silent, s.regroup, s.changed = false, true, true
	}
	if m.kind != hello {
		return
	}
	for _, a := range m.accused {
		s.accused(a, now)
	}
	if len(m.state) > 0 && !bytes.Equal(m.state, p.state) {
		p.state, s.changed = m.state, true
	}
}

// otherKey notes whose frames are under another key.
func (s *segment) otherKey(from Peer, now time.Time) {
	_, known := s.foreign[from]
	switch {
	case known:
	case len(s.foreign) >= foreignMax:
		return
	case s.foreign == nil:
		s.foreign = map[Peer]time.Time{}
	}
	s.foreign[from], s.changed = now, s.changed || !known
}

// forget lets those go that have sent nothing under another key for a while, and silent ones of nodes that there are no more.
func (s *segment) forget(now time.Time) {
	for who, p := range s.peers {
		if p.silent && !s.isNode(who.Node) {
			delete(s.peers, who)
			s.changed = true
		}
	}
	for from, last := range s.foreign {
		if now.Sub(last) >= 5*s.helloEvery() {
			delete(s.foreign, from)
			s.changed = true
		}
	}
}

// peer finds a peer, or makes one where there is room.
func (s *segment) peer(who Peer) *peer {
	p := s.peers[who]
	if p == nil && len(s.peers) < peersMax {
		p = &peer{who: who, place: who.place()}
		s.peers[who] = p
	}
	return p
}

// believe reports whether a frame is new and from the run that is believed. Another run is asked to prove that it is not a
// recording.
func (s *segment) believe(p *peer, m *message, at cluster.MAC, now time.Time) bool {
	if m.epoch == p.epoch && p.epoch != 0 {
		return m.seq > p.seq
	}
	if m.kind == pong && p.challenge != 0 && m.nonce == p.challenge {
		p.epoch, p.challenge, p.state = m.epoch, 0, nil
		s.regroup, s.changed = true, true
		return true
	}
	if now.Sub(p.challengedAt) >= s.timings.Again {
		p.challenge, p.challengedAt = s.rng.Uint64()|1, now
		s.say(&message{kind: ping, nonce: p.challenge}, at)
	}
	return false
}

// tick does what is due.
func (s *segment) tick(now time.Time) {
	if s.regroup {
		s.form(now)
	}
	if s.cut && s.blamedAt.IsZero() && s.traffic() != s.trafficAt {
		s.cut, s.changed = false, true // frames come in: it is the others who are not there
	}
	if s.cut {
		s.seek(now)
		return
	}
	var lost []*peer
	early := s.early(now)
	for _, p := range s.watched {
		switch {
		case now.Before(p.askAt) && !(early && p.asked == 0 && p.askAt.Sub(now) < s.timings.Again):
		case p.asked >= questions:
			lost = append(lost, p)
			p.askAt = now.Add(s.timings.Again)
		default:
			s.ask(p, now)
		}
	}
	if slices.ContainsFunc(s.watched, func(p *peer) bool { return p.asked == 2 }) {
		for _, p := range s.watched { // whether another answers says whose link it is that fails
			if p.asked == 0 {
				s.ask(p, now)
			}
		}
	}
	if len(lost) > 0 {
		s.judge(lost, now)
	}
	if !now.Before(s.helloAt) {
		s.greet(now)
	}
}

// early reports whether somebody is to be asked for the first time now: then the other is, too, if it is to be soon, as every
// time that this node wakes up costs.
func (s *segment) early(now time.Time) bool {
	return slices.ContainsFunc(s.watched, func(p *peer) bool { return p.asked == 0 && !now.Before(p.askAt) })
}

func (s *segment) ask(p *peer, now time.Time) {
	s.say(&message{kind: ping}, p.mac)
	if p.asked == 0 {
		p.missedSince = now
	}
	p.asked++
	p.askAt = now.Add(s.timings.Again)
	if p.asked == 2 { // it may be serious
		s.trafficAt = s.traffic()
	}
}

// shout says hello now, and twice more soon.
func (s *segment) shout(now time.Time) {
	if s.repeats == 0 {
		s.repeats, s.helloAt = 3, now
	}
}

// seek looks for somebody who answers, which is all that a node does whose link is cut. It does not say hello: were it heard,
// it would seem to be there.
func (s *segment) seek(now time.Time) {
	if now.Before(s.helloAt) {
		return
	}
	s.say(&message{kind: call}, everybody())
	s.helloAt = now.Add(s.timings.Hello / 4)
}

// greet says hello to all.
func (s *segment) greet(now time.Time) {
	s.forget(now)
	m := message{kind: hello, state: s.state()}
	fresh := func(p *peer) bool { return now.Sub(p.since) < freshFor }
	var silent []*peer
	for _, p := range s.peers {
		if p.silent && p.epoch != 0 {
			silent = append(silent, p)
		}
	}
	// What is news comes first, should there be no room for all.
	slices.SortFunc(silent, func(a, b *peer) int {
		switch {
		case fresh(a) == fresh(b):
			return clockwise(a, b)
		case fresh(a):
			return -1
		}
		return 1
	})
	for _, p := range silent {
		m.accused = append(m.accused, accusation{who: p.who, epoch: p.epoch, fresh: fresh(p)})
	}
	s.say(&m, everybody())
	every := s.helloEvery()
	if s.repeats > 0 {
		s.repeats--
		every = s.timings.Again
	}
	s.helloAt = now.Add(time.Duration(float64(every) * (0.75 + 0.5*s.rng.Float64())))
}

func (s *segment) helloEvery() time.Duration {
	return max(s.timings.Hello, time.Duration(len(s.peers))*perPeer)
}

// say sends a message in this node's name.
func (s *segment) say(m *message, to cluster.MAC) {
	s.seq++
	m.from, m.epoch, m.seq = s.self, s.epoch, s.seq
	s.send(s.codec.encode(m, s.mac, to))
}

// form finds this node's neighbours in the ring of all that are there, and watches them.
func (s *segment) form(now time.Time) {
	s.regroup = false
	var ring []*peer
	for _, p := range s.peers {
		if s.there(p) {
			ring = append(ring, p)
		}
	}
	slices.SortFunc(ring, clockwise)
	was := s.watched
	s.watched = nil
	if len(ring) == 0 {
		return
	}
	after, _ := slices.BinarySearchFunc(ring, &peer{who: s.self, place: s.self.place()}, clockwise)
	for _, p := range []*peer{ring[(after+len(ring)-1)%len(ring)], ring[after%len(ring)]} {
		if slices.Contains(s.watched, p) {
			continue
		}
		if !slices.Contains(was, p) {
			p.asked, p.askAt = 0, now
		}
		s.watched = append(s.watched, p)
	}
}

// clockwise orders links by where they stand in the ring.
func clockwise(a, b *peer) int {
	if a.place != b.place {
		return cmp.Compare(a.place, b.place)
	}
	return comparePeers(a.who, b.who)
}

func comparePeers(a, b Peer) int {
	if a.Node != b.Node {
		return cmp.Compare(a.Node, b.Node)
	}
	return cmp.Compare(a.Link, b.Link)
}

func (p Peer) place() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.Node + "/" + p.Link))
	return h.Sum64()
}

// next is when tick has something to do.
func (s *segment) next() time.Time {
	if s.regroup {
		return time.Time{}
	}
	next := s.helloAt
	if s.cut {
		return next
	}
	for _, p := range s.watched {
		if p.askAt.Before(next) {
			next = p.askAt
		}
	}
	return next
}

// everybody is the broadcast address: no switch withholds it.
func everybody() cluster.MAC { return cluster.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// findings says what is heard and missed on the link.
func (s *segment) findings() Findings {
	f := Findings{Heard: make([]Heard, 0, len(s.peers))}
	if s.cut {
		f.Cut = []string{s.self.Link}
	}
	for from := range s.foreign {
		f.OtherKey = append(f.OtherKey, from)
	}
	for _, p := range s.peers {
		switch {
		case p.silent:
			f.Silent = append(f.Silent, p.who)
		case p.epoch != 0:
			f.Heard = append(f.Heard, Heard{Peer: p.who, MAC: p.mac, State: p.state})
		}
	}
	return f
}
