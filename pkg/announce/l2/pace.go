package l2

import (
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// tick is the shortest sleep while announcements wait for their turn: what is due goes out in small batches.
const tick = 10 * time.Millisecond

// ahead puts an announcement that cannot wait, a defence, before all repeats that wait for their turn.
const ahead = time.Minute

// endYields ends the yields that have lasted too long, and what readers have ended when they could not say so.
func (a *Announcer) endYields(now time.Time) {
	if a.missed.Swap(false) {
		for _, l := range a.lines {
			for _, v := range l.voices {
				switch mode := v.ear.mode.Load(); {
				case v.phase == yielding && mode == mute:
					a.drop(v)
				case v.phase == live && mode == asking:
					a.giveWay(v, now)
				}
			}
		}
	}
	for len(a.yields) > 0 {
		d := a.yields[0]
		current := d.v.phase == yielding && d.v.due.Equal(d.due)
		if current && now.Before(d.due) {
			break
		}
		a.yields = a.yields[1:]
		if current {
			a.log.Debug("gave up an address that nobody was heard taking over", "address", d.v.addr, "link", d.v.line.link.Name)
			a.drop(d.v)
		}
	}
}

// speak makes the announcements that are due on a line, as far as the rates allow; first ones go first.
func (a *Announcer) speak(l *line, now time.Time) {
	for len(l.first) > 0 {
		v := l.first[0]
		if v.phase == queued && !l.firsts.take(now, announcementFrames(v.addr)) {
			break
		}
		l.first[0] = nil
		l.first = l.first[1:]
		if v.phase == queued && a.announce(v, now) {
			v.ear.announced(now) // if not before
			v.phase, v.since, a.stale = live, now, true
			if v.rival != (cluster.MAC{}) && v.doubtAt.IsZero() {
				a.doubtFrom(v, now.Add(a.jitter(a.timings.DoubtAgain)))
			}
		}
	}
	for len(l.later) > 0 {
		v := l.later[0]
		if v.ear.mode.Load() == asking { // another has announced it, as is about to be told
			l.later.drop(v)
			continue
		}
		if now.Before(v.due) || !l.repeats.take(now, announcementFrames(v.addr)) {
			break
		}
		a.announce(v, now)
	}
}

// announce says that a voice's address is here and schedules the next time. It reports false if the socket failed, which
// has ended the voice.
func (a *Announcer) announce(v *voice, now time.Time) bool {
	f := cluster.FamilyOf(v.addr)
	counters := a.counters.of(f)
	frames, err := announcement(v.addr, v.line.link.MAC)
	if err != nil { // cannot be, as adopt lets only addresses in that can be announced
		a.log.Error("cannot announce", "address", v.addr, "error", err)
	}
	if v.phase == queued {
		if v.ear.speakers.Load() {
			v.ear.claimed.Store(0) // whoever that was ceases at this
		}
		v.ear.mode.Store(announcing)
	}
	for _, frame := range frames {
		left, err := v.line.slot(f).port.Send(frame)
		switch {
		case err == nil:
			v.ear.last.Store(int64(time.Since(a.born) - sane(time.Since(left))))
			v.ear.announced(left) // whoever yields the address has stopped now
			counters.Gratuitous.Add(1)
		case severityOf(err) == passing:
			counters.Dropped.Add(1) // the next of the burst makes up for it
		default:
			a.fail(v.line, f, err, now)
			return false
		}
	}
	if v.said < len(a.timings.Burst) {
		v.line.later.at(v, now.Add(a.jitter(a.timings.Burst[v.said])))
	} else {
		v.line.later.at(v, v.line.onBeat(now.Add(a.jitter(a.timings.Refresh)), a.timings.Refresh/beats))
	}
	v.said++
	return true
}

// jitter returns a duration within a quarter of d, so that no two nodes and no two addresses stay in step.
func (a *Announcer) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + 0.5*a.rng.Float64()))
}

// beats is how many times in the refresh time a line refreshes what is due: some addresses together wake every station of the segment
// once, and not once for each.
const beats = 60

// onBeat returns the last beat before a time.
func (l *line) onBeat(t time.Time, between time.Duration) time.Time {
	return l.beat.Add(t.Sub(l.beat).Truncate(between))
}

// wake returns how long there is nothing to do.
func (a *Announcer) wake(now time.Time) time.Duration {
	next := now.Add(time.Hour)
	sooner := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if a.stale {
		sooner(a.flushed.Add(tick))
	}
	if len(a.yields) > 0 {
		sooner(a.yields[0].due)
	}
	for _, l := range a.lines {
		if !l.exactAt.IsZero() {
			sooner(l.exactAt)
		}
		for _, v := range l.asking {
			if now.Before(v.due) {
				sooner(v.due)
			} else { // it waits for its rate
				sooner(now.Add(max(tick, l.firsts.wait(1))))
			}
		}
		for _, v := range l.doubting {
			if now.Before(v.doubtAt) {
				sooner(v.doubtAt)
			} else { // it waits for its rate, or for its first announcement
				sooner(now.Add(max(tick, l.repeats.wait(1))))
			}
		}
		if len(l.ceding) > 0 {
			sooner(now.Add(max(tick, l.repeats.wait(1))))
		}
		if len(l.first) > 0 {
			sooner(now.Add(max(tick, l.firsts.wait(2))))
		}
		if len(l.later) > 0 {
			due := l.later[0].due
			if !now.Before(due) { // it waits for its rate
				due = now.Add(max(tick, l.repeats.wait(2)))
			}
			sooner(due)
		}
		for _, f := range families() {
			if s := l.slot(f); s.err != nil && s.retryAt.After(a.flushed.Add(tick)) {
				sooner(s.retryAt)
			} else if s.err != nil {
				sooner(a.flushed.Add(tick)) // sockets are opened when the world is told, and not more often
			}
		}
	}
	return next.Sub(now)
}
