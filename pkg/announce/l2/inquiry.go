package l2

import (
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Membership may be wrong about a node; the segment cannot lie. An address that this node should take over from a node which
// is believed dead is asked for first. As long as anybody answers it is left alone and asked for again; when nobody does, it
// is announced like any other.

// inquire begins a round of questions.
func (a *Announcer) inquire(v *voice, now time.Time) {
	v.phase, v.asked, v.due = inquiring, 0, now
	v.ear.mode.Store(asking)
}

// overtake ends a live voice that somebody else claimed while this node was not there to hear it, and asks for its address.
func (a *Announcer) overtake(v *voice, now time.Time) {
	a.log.Debug("an address was claimed while this speaker did not run: asking before it is announced again", "address", v.addr, "link", v.line.link.Name)
	v.line.later.drop(v)
	v.doubted = true
	a.inquire(v, now)
	v.line.asking = append(v.line.asking, v)
	a.late++
	a.stale = true
}

// ask puts the questions that are due on a line, and lets the addresses that nobody answers for be announced.
func (a *Announcer) ask(l *line, now time.Time) {
	left := l.asking[:0]
	for i, v := range l.asking {
		switch {
		case v.phase != inquiring:
			continue // dropped
		case now.Before(v.due):
		case v.asked > 0 && v.ear.claimed.Load() >= v.round: // the claim itself may have been lost on its way here
			v.asked, v.due = 0, now.Add(a.jitter(a.timings.AskAgain))
		case v.asked == a.timings.Asks:
			v.phase, v.doubted, v.said, a.stale = queued, false, 0, true
			l.first = append(l.first, v)
			continue
		case !l.firsts.take(now, 1):
			left = append(left, l.asking[i:]...)
			l.asking = left
			return
		case !a.probe(v, now):
			l.asking = nil // with the socket, all its voices have gone; those of the other family ask again
			for _, other := range l.voices {
				if other.phase == inquiring {
					l.asking = append(l.asking, other)
				}
			}
			return
		}
		left = append(left, v)
	}
	clear(l.asking[len(left):])
	l.asking = left
}

// probe asks the segment for a voice's address. It reports false if the socket failed, which has ended the voice.
func (a *Announcer) probe(v *voice, now time.Time) bool {
	f := cluster.FamilyOf(v.addr)
	if v.asked == 0 {
		v.round = int64(now.Sub(a.born)) + 1
	}
	frame, err := probe(v.addr, v.line.link.MAC)
	if err != nil { // cannot be, as adopt lets only addresses in that can be asked for
		a.log.Error("cannot ask", "address", v.addr, "error", err)
	} else if err := v.line.slot(f).port.Send(frame); err != nil && severityOf(err) != passing {
		a.fail(v.line, f, err, now)
		return false
	} else if err == nil {
		a.counters.of(f).Asks.Add(1)
		v.asked++
	}
	v.due = now.Add(a.timings.AskGap)
	return true
}
