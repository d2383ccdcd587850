package l2

import (
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Membership may be wrong about a node; the segment cannot lie. An address that this node should take over from a node which
// is believed dead is asked for first, and so is one that is new to the segment where its pool says so. As long as anybody
// answers that must be heeded it is left alone and asked for again; when nobody does, it is announced like any other.

// inquire begins a round of questions.
func (a *Announcer) inquire(v *voice, now time.Time) {
	v.phase, v.asked, v.due = inquiring, 0, now
	v.doubtAt = time.Time{}
	v.ear.mode.Store(asking)
	v.line.asking = append(v.line.asking, v)
}

// giveWay ends a live voice that another speaker has announced, or that somebody claimed while this node was not there to hear it,
// and asks for its address.
func (a *Announcer) giveWay(v *voice, now time.Time) {
	late := v.ear.late.Swap(false)
	a.log.Debug("another speaker has announced an address: asking before it is announced here again", "address", v.addr,
		"link", v.line.link.Name, "late", late)
	v.line.later.drop(v)
	v.doubted, v.rival = true, cluster.MAC{}
	a.inquire(v, now)
	if late {
		a.overtaken++
	}
	a.stale = true
}

// ask puts the questions that are due on a line, and lets the addresses that nobody answers for be announced.
func (a *Announcer) ask(l *line, now time.Time) {
	left := l.asking[:0]
	for i, v := range l.asking {
		asks, gap := a.timings.Asks, a.timings.AskGap
		switch {
		case v.first:
			asks, gap = a.timings.Probes, a.timings.ProbeGap
		case !v.doubted && v.rival != cluster.MAC{} && !a.who.stranger(v.rival): // a speaker that lives, and may be late
			gap = a.timings.AskAgain
		}
		switch {
		case v.phase != inquiring:
			continue // dropped
		case now.Before(v.due):
		case v.asked > 0 && v.held(): // the claim itself may have been lost on its way here
			v.asked, v.due = 0, now.Add(a.jitter(a.timings.AskAgain))
		case v.asked == asks:
			if v.first {
				v.rival = cluster.MAC{}
			}
			a.enqueue(v)
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
		default:
			v.due = now.Add(gap)
		}
		left = append(left, v)
	}
	clear(l.asking[len(left):])
	l.asking = left
}

// held reports whether somebody that must be heeded has claimed a voice's address since its round of questions began.
func (v *voice) held() bool {
	return v.ear.claimed.Load() >= v.round || v.first && v.ear.strange.Load() >= v.round
}

// seekOwners asks once for each address that a line has begun to yield. Its new owner announces it when that is a gain; where a
// segment was parted, it has had it all along and says nothing, but answers.
func (a *Announcer) seekOwners(l *line, now time.Time) {
	for len(l.ceding) > 0 {
		v := l.ceding[0]
		seek := v.phase == yielding && v.asked == 0
		if seek && !l.repeats.take(now, 1) {
			return
		}
		l.ceding[0] = nil
		l.ceding = l.ceding[1:]
		if seek {
			a.probe(v, now)
		}
	}
}

// probe asks the segment for a voice's address. It reports false if the socket failed, which has ended the voice.
func (a *Announcer) probe(v *voice, now time.Time) bool {
	f := cluster.FamilyOf(v.addr)
	if v.asked == 0 {
		v.round = int64(now.Sub(a.born)) + 1
	}
	v.ear.sought.Store(int64(time.Since(a.born))) // before it may be answered
	frame, err := probe(v.addr, v.line.link.MAC)
	if err != nil { // cannot be, as adopt lets only addresses in that can be asked for
		a.log.Error("cannot ask", "address", v.addr, "error", err)
	} else if _, err := v.line.slot(f).port.Send(frame); err != nil && severityOf(err) != passing {
		a.fail(v.line, f, err, now)
		return false
	} else if err == nil {
		a.counters.of(f).Asks.Add(1)
		v.asked++
	}
	return true
}
