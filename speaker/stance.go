package main

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// settleTime is how long a speaker must have been ready before it says so: long enough to have seen every peer's state, and to be seen to
// be stable. Where all speakers start together, nobody answers until they say so, and every peer's state has been seen: then there is
// nothing to wait for.
const settleTime = time.Second

// gainLag is how much later than the others a speaker believes in its own gains: being ready, a link that came up. By then
// the others know too and yield, so that nobody answers for an address that its owner does not know to be given up.
// Losses count at once.
const gainLag = 300 * time.Millisecond

// stance is how this node stands: what it told the others, and, a little later where that is a gain, what it believes of
// itself.
type stance struct {
	readySince time.Time
	told       cluster.Member
	toldAt     time.Time // zero before anything was told
	own        cluster.Member
	backUntil  time.Time
	together   bool // with all others
}

// stepBack makes the node hand over what it owns and return as one that starts: others have taken over from it, as it did not run
// for a while.
func (s *stance) stepBack(at time.Time) { s.backUntil = at.Add(settleTime) }

// together reports whether the speakers of all nodes have been heard, and none of them was ready when it was heard first, which
// readyAtFirst remembers: nobody answers yet.
func together(nodes []string, self string, heard map[string]cluster.Member, readyAtFirst map[string]bool) bool {
	all := true
	for _, name := range nodes {
		m := heard[name]
		switch {
		case name == self:
			continue
		case len(m.Links) == 0: // it has not said anything yet
			all = false
			continue
		}
		if _, known := readyAtFirst[name]; !known {
			readyAtFirst[name] = m.Ready
		}
		all = all && !readyAtFirst[name]
	}
	return all
}

// take takes in how the node is now. It reports whether the others must be told, and how soon to take it in again.
func (s *stance) take(now cluster.Member, at time.Time) (tell bool, again time.Duration) {
	switch {
	case !now.Ready:
		s.readySince = time.Time{}
	case s.readySince.IsZero():
		s.readySince = at
	}
	if now.Ready && !s.told.Ready {
		if left := settleTime - at.Sub(s.readySince); left > 0 && !s.together {
			now.Ready, again = false, left
		}
	}
	if left := s.backUntil.Sub(at); left > 0 {
		now.Leaving, again = true, max(again, left)
	}
	if s.toldAt.IsZero() || !reflect.DeepEqual(now, s.told) {
		s.told, s.toldAt, tell = now, at, true
	}
	left := gainLag - at.Sub(s.toldAt)
	if left <= 0 || !gains(s.own, s.told) {
		s.own = s.told
		return tell, again
	}
	s.own = withoutGains(s.own, s.told)
	if again == 0 || left < again {
		again = left
	}
	return tell, again
}

// gains reports whether a node that stands like b may own what it could not when it stood like a.
func gains(a, b cluster.Member) bool {
	if b.Ready && !a.Ready || a.Leaving && !b.Leaving {
		return true
	}
	return slices.ContainsFunc(b.Links, func(l cluster.Link) bool { return l.Up && !reflect.DeepEqual(known(a, l), l) })
}

// withoutGains is b as far as a had it.
func withoutGains(a, b cluster.Member) cluster.Member {
	out := cluster.Member{Ready: b.Ready && a.Ready, Leaving: b.Leaving || a.Leaving}
	for _, l := range b.Links {
		out.Links = append(out.Links, known(a, l))
	}
	return out
}

// known is a link as far as m had it, and no better. A link that gets another address stays up with those that it had: the announcer ends
// everything on a link that is down.
func known(m cluster.Member, l cluster.Link) cluster.Link {
	i := slices.IndexFunc(m.Links, func(o cluster.Link) bool { return o.Up && o.Name == l.Name && o.Index == l.Index && o.MAC == l.MAC })
	if i < 0 {
		l.Up = false
		return l
	}
	l.Silent = l.Silent || m.Links[i].Silent
	l.Prefixes = slices.DeleteFunc(slices.Clone(l.Prefixes), func(p netip.Prefix) bool { return !slices.Contains(m.Links[i].Prefixes, p) })
	return l
}
