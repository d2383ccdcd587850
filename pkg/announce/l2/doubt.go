package l2

import (
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// An address that is announced may be another machine's: of one that is new to the segment that is asked while it is announced,
// and of one that another station has claimed it is asked until the station is gone. Nobody's address is given up because of it.

// conflict notes that a station of no speaker's has a voice's address.
func (a *Announcer) conflict(v *voice, by cluster.MAC, now time.Time) {
	if v.rival == by {
		return
	}
	v.rival, a.stale = by, true
	a.log.Warn("another station has an address that is announced here: find it by its hardware address, and give it another one", "address", v.addr,
		"link", v.line.link.Name, "station", by)
	if v.phase == live && v.doubtAt.IsZero() {
		a.doubtFrom(v, now.Add(a.jitter(a.timings.DoubtAgain)))
	}
}

// doubtFrom has questions put about a voice from some time on.
func (a *Announcer) doubtFrom(v *voice, from time.Time) {
	v.asked, v.doubtAt = 0, from
	v.line.doubting = append(v.line.doubting, v)
}

// doubt puts the questions that are due about what is announced on a line. They go after everything else that is said.
func (a *Announcer) doubt(l *line, now time.Time) {
	left := l.doubting[:0]
	for i, v := range l.doubting {
		switch {
		case v.doubtAt.IsZero() || v.phase != live && v.phase != queued:
			continue // ended, or asked for in another way
		case v.phase == queued || now.Before(v.doubtAt):
		case v.asked < a.timings.Probes:
			if !l.repeats.take(now, 1) {
				left = append(left, l.doubting[i:]...)
				l.doubting = left
				return
			}
			if !a.probe(v, now) {
				l.doubting = nil // with the socket, all its voices have gone; those of the other family stay
				for _, other := range l.voices {
					if !other.doubtAt.IsZero() {
						l.doubting = append(l.doubting, other)
					}
				}
				return
			}
			v.doubtAt = now.Add(a.timings.ProbeGap)
		case v.ear.strange.Load() >= v.round || v.ear.claimed.Load() >= v.round:
			v.asked, v.doubtAt = 0, now.Add(a.jitter(a.timings.DoubtAgain))
		default:
			a.trust(v)
			continue
		}
		left = append(left, v)
	}
	clear(l.doubting[len(left):])
	l.doubting = left
}

// trust ends the questions about a voice.
func (a *Announcer) trust(v *voice) {
	v.asked, v.doubtAt = 0, time.Time{}
	if v.rival == (cluster.MAC{}) {
		return
	}
	a.log.Info("no other station has an address any more", "address", v.addr, "link", v.line.link.Name, "station", v.rival)
	v.rival, a.stale = cluster.MAC{}, true
}
