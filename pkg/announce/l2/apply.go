package l2

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// apply makes a plan the wanted one. What must stop stops first: opening sockets takes time.
func (a *Announcer) apply(plan announce.L2Plan, now time.Time) error {
	problems := a.adopt(plan)
	a.who = stationsOf(plan)
	a.adoptLinks(plan.Links, now)
	for _, l := range a.lines {
		a.silence(l, now)
		a.publish(l, now)
		l.recheck, l.regroup = true, true // also for groups that could not be joined, or not reported, last time
	}
	if a.again != plan.Again {
		a.again = plan.Again
		a.repeat(now)
	}
	a.stale = true
	a.settle(now, true)
	for _, name := range slices.Sorted(maps.Keys(a.lines)) {
		problems = errors.Join(problems, a.lines[name].trouble())
	}
	return problems
}

// repeat has everything that is live announced anew, as after a gain, when its turn comes.
func (a *Announcer) repeat(now time.Time) {
	for _, l := range a.lines {
		for _, v := range l.voices {
			if v.phase == live {
				v.said = 0
				l.later.at(v, now)
			}
		}
	}
}

// adopt takes the addresses of a plan; those that cannot be announced are in the error.
func (a *Announcer) adopt(plan announce.L2Plan) (problems error) {
	a.wanted = make(map[netip.Addr]announce.L2, len(plan.Addrs))
	var bad []netip.Addr
	for addr, w := range plan.Addrs {
		addr := addr.Unmap()
		if !addr.IsValid() || addr.Zone() != "" || addr.IsMulticast() || addr.IsUnspecified() || addr == broadcast() {
			bad = append(bad, addr)
			continue
		}
		a.wanted[addr] = w
	}
	slices.SortFunc(bad, netip.Addr.Compare)
	for _, addr := range bad {
		problems = errors.Join(problems, fmt.Errorf("%s is not an address that a station can have", addr))
	}
	return problems
}

func stationsOf(plan announce.L2Plan) stations {
	who := stations{peers: make(map[cluster.MAC]struct{}, len(plan.Others)), allKnown: plan.AllKnown}
	for _, link := range plan.Links {
		who.ours = append(who.ours, link.MAC)
	}
	for _, m := range plan.Others {
		who.peers[m] = struct{}{}
	}
	return who
}

func broadcast() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// adoptLinks makes the lines those of the links that are up, and tells each what is wanted on it.
func (a *Announcer) adoptLinks(links []cluster.Link, now time.Time) {
	up := make(map[string]cluster.Link, len(links))
	for _, link := range links {
		if link.Up && station(link.MAC) {
			up[link.Name] = link
		}
	}
	for name, l := range a.lines {
		if link, ok := up[name]; !ok || !l.same(link) {
			a.closeLine(l)
			delete(a.lines, name)
		}
	}
	for name, link := range up {
		if a.lines[name] == nil {
			a.lines[name] = newLine(link, &a.timings, now)
		}
		a.lines[name].wants = nil
	}
	for addr, w := range a.wanted {
		for _, name := range w.Links {
			if l := a.lines[name]; l != nil && !w.Yield {
				l.wants = append(l.wants, addr)
			}
		}
	}
	for _, l := range a.lines {
		slices.SortFunc(l.wants, netip.Addr.Compare)
		l.wants = slices.Compact(l.wants)
	}
}

// silence ends, or begins to yield, what a line says and should not.
func (a *Announcer) silence(l *line, now time.Time) {
	for addr, v := range l.voices {
		w, ok := a.wanted[addr]
		// A yield that names no link is one on all links.
		onHere := ok && (slices.Contains(w.Links, l.link.Name) || (w.Yield && len(w.Links) == 0))
		switch {
		case !onHere:
			a.drop(v)
		case w.Yield && (v.phase == queued || v.phase == inquiring):
			a.drop(v) // never started
		case !w.Yield && !w.Ask && !asksFirst(w) && v.phase == inquiring && !v.doubted:
			// Whoever has it is heard again, and waits for our announcement.
			a.enqueue(v)
			v.ear.mode.Store(mute)
		case w.Yield && v.phase == live:
			a.yield(v, now)
		case !w.Yield && v.phase == yielding:
			if !v.ear.mode.CompareAndSwap(ceding, answering) {
				a.drop(v) // taken in this very moment: a gain like any other
				continue
			}
			// Ours again before anybody took it: it never stopped, but others may have begun to announce.
			v.phase, v.since, v.said = live, now, 0
			v.line.later.at(v, now.Add(-ahead))
		}
	}
}

// yield begins to give a live voice up.
func (a *Announcer) yield(v *voice, now time.Time) {
	v.ear.mode.Store(ceding) // before looking back, so that no claim falls in between
	if at := v.ear.claimed.Load(); at != 0 && now.Sub(a.born)-time.Duration(at) <= a.timings.YieldRecent {
		a.drop(v) // its new owner was quicker than the news of it
		return
	}
	v.line.later.drop(v)
	v.rival = cluster.MAC{}
	v.phase, v.since, v.due = yielding, now, now.Add(a.timings.YieldBound)
	a.yields = append(a.yields, deadline{v: v, due: v.due})
	v.asked = 0
	v.line.ceding = append(v.line.ceding, v)
	a.stale = true
}

// claimed deals with somebody else claiming an address that is answered.
func (a *Announcer) claimed(c claim, now time.Time) {
	v := c.line.voices[c.addr]
	if a.lines[c.line.link.Name] != c.line || v == nil {
		return
	}
	stranger := a.who.stranger(c.by)
	switch v.phase {
	case yielding:
		if v.ear.mode.Load() == ceding { // a stranger's, or over
			return
		}
		a.log.Debug("yielded an address to its new owner", "address", c.addr, "link", c.line.link.Name, "owner", c.by)
		a.drop(v)
	case live:
		if v.ear.mode.Load() == asking {
			a.giveWay(v, now)
			return
		}
		// RFC 5227 2.4 (c): defend, at most once per DEFEND_INTERVAL, and never give up because of it.
		if v.defended.IsZero() || now.Sub(v.defended) >= a.timings.Defend {
			v.defended = now
			v.line.later.at(v, now.Add(-ahead))
		}
		if a.wanted[c.addr].Detect != cluster.DetectOff && !a.who.peer(c.by) {
			a.conflict(v, c.by, now)
		}
	case inquiring:
		if stranger && !v.first {
			if a.wanted[c.addr].Detect != cluster.DetectOff {
				a.conflict(v, c.by, now)
			}
			return // nobody that could hand it over
		}
		if v.rival != c.by {
			v.rival, a.stale = c.by, true
			a.log.Warn("not announcing an address, as another station answers for it", "address", c.addr,
				"link", c.line.link.Name, "station", c.by)
		}
		v.asked, v.due = 0, now.Add(a.jitter(a.timings.AskAgain))
	case queued, gone: // a claim from before it was dropped or re-created
	}
}

// drop ends a voice at once.
func (a *Announcer) drop(v *voice) {
	v.ear.mode.Store(mute)
	v.line.later.drop(v)
	v.phase = gone
	delete(v.line.voices, v.addr)
	v.line.dirty, v.line.recheck = true, true
	v.line.regroup = v.line.regroup || v.addr.Is6()
	a.stale = true
}

// equip opens and closes a line's sockets as its addresses need them, and gives every address that can be announced a
// voice.
func (a *Announcer) equip(l *line, now time.Time) {
	for _, f := range families() {
		s := l.slot(f)
		retry := s.err != nil && !now.Before(s.retryAt)
		if !l.recheck && !retry {
			continue
		}
		if !l.needs(f) {
			a.closeSlot(l, f)
			*s = slot{}
			continue
		}
		if s.port == nil && (s.err == nil || retry) {
			a.openSlot(l, f, now)
		}
		if s.port == nil {
			continue
		}
		for _, addr := range l.wants {
			if cluster.FamilyOf(addr) == f && l.voices[addr] == nil {
				a.begin(l, addr, now)
			}
		}
	}
	l.recheck = false
	l.join()
}

// begin gives an address a voice, which waits for its first announcement, or asks first.
func (a *Announcer) begin(l *line, addr netip.Addr, now time.Time) {
	v := &voice{addr: addr, line: l, ear: &ear{}, phase: queued, index: -1}
	l.voices[addr] = v
	l.dirty, l.regroup = true, l.regroup || addr.Is6()
	switch w := a.wanted[addr]; {
	case w.Ask, asksFirst(w):
		v.first = !w.Ask
		a.inquire(v, now)
		return
	case w.First && w.Detect == cluster.DetectWarn:
		a.doubtFrom(v, now)
	}
	a.enqueue(v)
}

// asksFirst reports whether an address is to be announced only when no station has it.
func asksFirst(w announce.L2) bool { return w.First && w.Detect == cluster.DetectEnforce }

// enqueue has a voice wait for its first announcement.
func (a *Announcer) enqueue(v *voice) {
	if v.rival != (cluster.MAC{}) && !a.who.stranger(v.rival) {
		v.rival = cluster.MAC{} // who had it hands it over, or has gone
	}
	v.phase, v.doubted, v.first, v.said, a.stale = queued, false, false, 0, true
	v.line.first = append(v.line.first, v)
}

// openSlot opens a socket and starts its reader.
func (a *Announcer) openSlot(l *line, f cluster.Family, now time.Time) {
	s := l.slot(f)
	port, err := a.open(l.link, f)
	if err != nil {
		a.backOff(l, f, err, now)
		return
	}
	if s.err != nil {
		a.log.Info("link can be used again", "link", l.link.Name, "family", f.String())
	}
	s.port, s.err, s.opened = port, nil, now
	r := &reader{port: port, line: l, family: f, owned: &l.owned, counters: a.counters.of(f), born: a.born,
		claims: a.claims, missed: &a.missed, deaths: a.deaths, quit: a.quit}
	a.tasks.Go(r.run)
}

// closeSlot stops answering through a socket, then lets go of it. Voices of its family end.
func (a *Announcer) closeSlot(l *line, f cluster.Family) {
	s := l.slot(f)
	if s.port == nil {
		return
	}
	for addr, v := range l.voices {
		if cluster.FamilyOf(addr) == f {
			a.drop(v)
		}
	}
	if l.dirty {
		l.publish(a.who)
	}
	port := s.port
	s.port = nil
	// The kernel waits for a grace period before it lets go of a packet socket: not on the owner's time.
	a.tasks.Go(func() {
		if err := port.Close(); err != nil {
			a.log.Debug("closing a socket", "link", l.link.Name, "family", f.String(), "error", err)
		}
	})
}

func (a *Announcer) closeLine(l *line) {
	for _, f := range families() {
		a.closeSlot(l, f)
	}
	a.stale = true
}

// fail gives a socket up and has it opened again later. Its addresses are announced anew then; those that were being
// yielded are not.
func (a *Announcer) fail(l *line, f cluster.Family, err error, now time.Time) {
	s := l.slot(f)
	if now.Sub(s.opened) > a.timings.ReopenMax {
		s.failures = 0 // it has worked for a while
	}
	a.counters.of(f).Failures.Add(1)
	a.closeSlot(l, f)
	a.backOff(l, f, err, now)
}

// backOff notes why a slot is empty and when to try again.
func (a *Announcer) backOff(l *line, f cluster.Family, err error, now time.Time) {
	s := l.slot(f)
	wait := a.timings.ReopenMax
	if s.failures < 30 {
		wait = min(wait, a.timings.ReopenMin<<s.failures)
	}
	if s.failures == 0 {
		a.log.Warn("link cannot be used, will try again", "link", l.link.Name, "family", f.String(), "error", err)
	}
	s.failures++
	s.err, s.groupErr, s.retryAt = err, nil, now.Add(a.jitter(wait))
	a.stale = true
}
