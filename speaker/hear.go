package main

import (
	"maps"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/heartbeat"
)

// hear takes in what the segments say.
func (s *speaker) hear(f heartbeat.Findings) {
	s.findings.Store(&f)
	s.members.Heard(f.States())
	s.poke.Ring()
}

func (s *speaker) found() heartbeat.Findings {
	if f := s.findings.Load(); f != nil {
		return *f
	}
	return heartbeat.Findings{}
}

// otherKeys returns the nodes of this cluster that are heard under another gossip key only, sorted. Frames of nodes that there are not
// are another cluster's.
func otherKeys(view announce.View, found heartbeat.Findings) []string {
	var names []string
	for _, p := range found.OtherKey {
		_, alive := view.Alive.Alive[p.Node]
		if !alive && slices.ContainsFunc(view.Nodes, func(n cluster.Node) bool { return n.Name == p.Node }) {
			names = append(names, p.Node)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// withSilent marks the links that are not heard on their segments.
func withSilent(alive map[string]cluster.Member, silent []heartbeat.Peer) map[string]cluster.Member {
	out := maps.Clone(alive)
	for _, p := range silent {
		m, known := out[p.Node]
		i := slices.IndexFunc(m.Links, func(l cluster.Link) bool { return l.Name == p.Link && !l.Silent })
		if !known || i < 0 {
			continue
		}
		m.Links = slices.Clone(m.Links)
		m.Links[i].Silent = true
		out[p.Node] = m
	}
	return out
}

// withCut marks this node's own links on which nobody is heard any more.
func withCut(links []cluster.Link, cut []string) []cluster.Link {
	if len(cut) == 0 {
		return links
	}
	links = slices.Clone(links)
	for i := range links {
		links[i].Silent = slices.Contains(cut, links[i].Name)
	}
	return links
}
