package main

import (
	"slices"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// mourning is how long a speaker must have been silent before its Speaker object is cleared for it.
const mourning = 3 * time.Second

// silence is what this node knows of speakers that it heard once and hears no more.
type silence struct {
	heard map[string]cluster.Member
	since map[string]time.Time // by the node of the speaker
	again time.Time            // when this node's own object is doubted once more; zero: not any more
}

// look takes in who is heard now. It returns whether this node's own Speaker object is in doubt: whoever clears the objects of the silent
// has not been heard for a while, so it may have taken this node for silent too, and it may be about to say so still.
func (s *silence) look(alive map[string]cluster.Member, self string, now time.Time) (doubt bool) {
	if s.since == nil {
		s.since = map[string]time.Time{}
	}
	for name := range s.heard {
		if _, is := alive[name]; !is {
			s.since[name] = now
		}
	}
	for name := range alive {
		delete(s.since, name)
	}
	if clears := first(alive, self); clears != "" && s.heard != nil {
		if _, was := s.heard[clears]; !was {
			s.heard, s.again = alive, now.Add(2*mourning)
			return true
		}
	}
	s.heard = alive
	if !s.again.IsZero() && !now.Before(s.again) {
		s.again = time.Time{}
		return true
	}
	return false
}

// keep forgets speakers of nodes that there are no more.
func (s *silence) keep(nodes []cluster.Node) {
	for name := range s.since {
		if !slices.ContainsFunc(nodes, func(n cluster.Node) bool { return n.Name == name }) {
			delete(s.since, name)
		}
	}
}

// due returns those whose objects are to be cleared, where it falls to this node to do it: to the first by name of those that are left.
// unsure is for while somebody answers who should be silent, or this node may be the one that is cut off: nothing is cleared then.
func (s *silence) due(self string, unsure bool, now time.Time) []string {
	if name := first(s.heard, self); unsure || name != "" && name < self {
		return nil
	}
	var names []string
	for name, since := range s.since {
		if now.Sub(since) >= mourning {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// first is the first by name of those who are heard beside this node.
func first(alive map[string]cluster.Member, self string) string {
	least := ""
	for name := range alive {
		if name != self && (least == "" || name < least) {
			least = name
		}
	}
	return least
}
