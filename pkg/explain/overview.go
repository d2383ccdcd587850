package explain

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Overview is a cluster on one screen.
type Overview struct {
	Controller string         `json:"controller"` // who leads, or that nobody does
	Services   Counts         `json:"services"`
	Pools      []PoolLine     `json:"pools"`
	Speakers   []SpeakerLine  `json:"speakers"`
	Sessions   []SessionLine  `json:"sessions,omitempty"`
	Troubles   []ServiceState `json:"troubles,omitempty"` // Services that something is wrong with, the worst first
	Problems   []string       `json:"problems,omitempty"` // of objects
}

// Counts count Services of Bellwether's class.
type Counts struct {
	Total   int `json:"total"`
	OK      int `json:"ok"`
	Warning int `json:"warning"`
	Broken  int `json:"broken"`
}

// PoolLine is the fill of a pool.
type PoolLine struct {
	Name string        `json:"name"`
	IPv4 v1beta1.Usage `json:"ipv4"`
	IPv6 v1beta1.Usage `json:"ipv6"`
	Says string        `json:"says,omitempty"` // what is wrong with it
}

// SpeakerLine is how a speaker stands.
type SpeakerLine struct {
	Node     string `json:"node"`
	Ready    bool   `json:"ready"`
	Layer2   int    `json:"layer2"`   // addresses that it answers for
	Sessions int    `json:"sessions"` // that it has, of BGP
	Up       int    `json:"up"`       // of those
	Version  string `json:"version,omitempty"`
	Says     string `json:"says,omitempty"` // what is wrong with it
}

// SessionLine is a BGP session that routes are not exchanged in, or whose BFD session is down.
type SessionLine struct {
	Node string `json:"node"`
	v1beta1.SpeakerBGPSession
}

// ServiceState is a Service in a line.
type ServiceState struct {
	Service   cluster.Key `json:"service"`
	Addresses []string    `json:"addresses,omitempty"`
	Pools     []string    `json:"pools,omitempty"`
	// Announced says who announces: the node that answers over ARP and NDP, and how many nodes over BGP.
	Announced string `json:"announced,omitempty"`
	State     State  `json:"state"`
	Why       string `json:"why,omitempty"`
}

// ServiceStates are all Services of type LoadBalancer, by namespace and name.
func (w *World) ServiceStates() []ServiceState {
	all := make([]ServiceState, 0, len(w.Services))
	for i, e := range w.ExplainAll() {
		s := ServiceState{Service: e.Service, Addresses: e.Addresses, State: e.State(), Announced: announcedBy(e.Nodes),
			Pools: slices.Compact(slices.Clone(w.Services[i].HeldFrom))}
		if e.Cause != nil {
			s.Why = e.Cause.Says
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b ServiceState) int { return a.Service.Compare(b.Service) })
	return all
}

func announcedBy(nodes []Node) string {
	var names []string
	routed := map[string]bool{}
	for _, n := range nodes {
		if n.Answers && !slices.Contains(names, n.Name) {
			names = append(names, n.Name)
		}
		if len(n.Told) > 0 {
			routed[n.Name] = true
		}
	}
	if len(routed) > 0 {
		names = append(names, "BGP from "+count(len(routed), "node"))
	}
	return strings.Join(names, ", ")
}

// Overview sums the world up.
func (w *World) Overview() Overview {
	o := Overview{Controller: "not known: the lease may not be read"}
	switch c := w.Controller; {
	case c.Running:
		o.Controller = c.Holder + " leads"
	case c.Known:
		o.Controller = "nobody leads: no controller runs"
	}
	for _, s := range w.ServiceStates() {
		if mine := w.service(s.Service); !mine.Ours {
			continue
		}
		o.Services.Total++
		switch s.State {
		case OK:
			o.Services.OK++
			continue
		case Warning:
			o.Services.Warning++
		case Broken:
			o.Services.Broken++
		}
		o.Troubles = append(o.Troubles, s)
	}
	slices.SortStableFunc(o.Troubles, func(a, b ServiceState) int { return strings.Compare(string(a.State), string(b.State)) })
	for i := range w.Objects.Pools {
		o.Pools = append(o.Pools, poolLine(&w.Objects.Pools[i]))
	}
	slices.SortFunc(o.Pools, func(a, b PoolLine) int { return strings.Compare(a.Name, b.Name) })
	o.speakers(w)
	for _, p := range w.Problems {
		o.Problems = append(o.Problems, fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.Message))
	}
	return o
}

func poolLine(p *v1beta1.IPAddressPool) PoolLine {
	line := PoolLine{Name: p.Name, IPv4: p.Status.IPv4, IPv6: p.Status.IPv6}
	var says []string
	for _, c := range p.Status.Conditions {
		good := metav1.ConditionTrue
		if c.Type == "Exhausted" || c.Type == "Overlaps" {
			good = metav1.ConditionFalse
		}
		if c.Status != good {
			says = append(says, c.Message)
		}
	}
	line.Says = strings.Join(says, "; ")
	return line
}

func (o *Overview) speakers(w *World) {
	for _, n := range w.Nodes {
		line := SpeakerLine{Node: n.Name, Says: "no speaker has been heard there"}
		if s := w.speaker(n.Name); s != nil && !w.runs(n.Name) {
			line.Says = "no speaker runs there"
		} else if s != nil {
			line = SpeakerLine{Node: n.Name, Layer2: int(s.Status.Layer2.Addresses), Sessions: len(s.Status.BGP.Sessions), Up: int(s.Status.BGP.Established),
				Version: s.Status.Version}
			var says []string
			for _, c := range s.Status.Conditions {
				if c.Type == v1beta1.ConditionReady {
					line.Ready = c.Status == metav1.ConditionTrue
				}
				if c.Status == metav1.ConditionFalse || c.Type == v1beta1.ConditionReady && !line.Ready {
					says = append(says, c.Message)
				}
			}
			line.Says = strings.Join(says, "; ")
			for _, session := range s.Status.BGP.Sessions {
				if session.State != v1beta1.SessionEstablished || session.BFD != "" && session.BFD != "Up" {
					o.Sessions = append(o.Sessions, SessionLine{n.Name, session})
				}
			}
		}
		o.Speakers = append(o.Speakers, line)
	}
	slices.SortFunc(o.Speakers, func(a, b SpeakerLine) int { return strings.Compare(a.Node, b.Node) })
}
