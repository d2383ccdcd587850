package heartbeat

import "time"

// judge accuses those that are lost, unless it is this node's own link that does not work.
func (s *segment) judge(lost []*peer, now time.Time) {
	alone := true
	for _, p := range s.peers {
		if s.there(p) && p.heard.After(lost[0].missedSince) {
			alone = false
		}
	}
	if alone {
		if s.calledAt.IsZero() {
			s.calledAt = now
			s.say(&message{kind: call}, everybody())
			return
		}
		if now.Sub(s.calledAt) < s.timings.RollCall {
			return
		}
		if s.traffic() == s.trafficAt {
			s.cutOff(now)
			return
		}
	}
	for _, p := range lost {
		s.miss(p, now)
		s.missed()
	}
	s.calledAt = time.Time{}
	s.shout(now)
}

// proven notes that the link carries frames both ways.
func (s *segment) proven(now time.Time) {
	s.blamedAt = time.Time{}
	if s.cut {
		s.cut, s.changed = false, true
		s.shout(now)
	}
}

// blamed deals with being accused: this node says that it is there, and asks for an answer. Where it is accused all the same and
// gets none, it hears without being heard.
func (s *segment) blamed(now time.Time) {
	switch {
	case s.cut:
	case s.blamedAt.IsZero():
		s.blamedAt = now
		s.shout(now)
		s.say(&message{kind: call}, everybody())
	case now.Sub(s.blamedAt) >= s.timings.Again:
		s.cutOff(now)
	}
}

func (s *segment) cutOff(now time.Time) {
	s.cut, s.changed = true, true
	s.helloAt, s.repeats = now, 0
}

// accused takes in what a peer says of another, or of this node.
func (s *segment) accused(a accusation, now time.Time) {
	if a.who.Node == s.self.Node {
		if a.who == s.self && a.epoch == s.epoch {
			s.blamed(now)
		}
		return
	}
	if _, known := s.peers[a.who]; !known && !s.isNode(a.who.Node) {
		return
	}
	p := s.peer(a.who)
	if p == nil || p.silent || (p.epoch != 0 && p.epoch != a.epoch) {
		return
	}
	// Who is heard here is not silent, whatever others say; but of most peers only hellos are heard.
	within := freshFor
	if !a.fresh {
		within = 5 * s.helloEvery() / 2
	}
	if now.Sub(p.heard) >= within {
		s.miss(p, now)
	}
}

// miss notes that a peer is not heard any more.
func (s *segment) miss(p *peer, now time.Time) {
	p.silent, p.since, p.asked = true, now, 0
	s.regroup, s.changed = true, true
}
