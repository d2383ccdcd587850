// Package explain says why the addresses of a Service can be reached, or why they cannot. It reads what stands in the API server alone,
// and decides with the functions that the controller and the speakers decide with.
package explain

import (
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// World is a cluster at one instant, as the API server shows it. It is not changed.
type World struct {
	Objects  config.Objects
	Config   config.Config    // parsed from them
	Problems []config.Problem // of them
	Nodes    []cluster.Node   // NotReady worked out
	Services []Service
	Speakers []v1beta1.Speaker
	// Namespace is the one that Bellwether runs in.
	Namespace  string
	Controller Controller
	// Running has the nodes that a speaker runs on as a Pod; nil where that is not known, or speakers are no Pods. What a speaker that
	// does not run has said last still stands in its Speaker object.
	Running map[string]bool
}

// Controller is what the controller's lease says.
type Controller struct {
	Known   bool   // false where the lease could not be read
	Running bool   // somebody renews it
	Holder  string // the Pod that leads, or led last
}

// Service is a Service and what stands in it.
type Service struct {
	cluster.Service // Serving are the nodes with endpoints that serve, whatever the policy

	Type  string // spec.type
	Class string // spec.loadBalancerClass, empty for none
	// Ours is true for a Service of type LoadBalancer and of our class.
	Ours bool
	// Marked is true when a controller of ours has written to it.
	Marked     bool
	Ingress    []netip.Addr // in status.loadBalancer.ingress, whoever wrote them
	Hostname   bool         // an entry there has none
	Conditions []metav1.Condition
	// Endpoints counts those that serve, Waiting those that are there and do not.
	Endpoints, Waiting int
	// SourceRanges are spec.loadBalancerSourceRanges: who is let in, where there are any.
	SourceRanges []string
}

// View is the world as the speaker on a node sees it, when all is told.
func (w *World) View(self string) announce.View {
	v := announce.View{Self: self, Nodes: w.Nodes, Config: w.Config, Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{}}}
	for i := range w.Speakers {
		if m, alive := w.member(&w.Speakers[i]); alive {
			v.Alive.Alive[w.Speakers[i].Name] = m
		}
	}
	for _, s := range w.Services {
		if !s.Ours || len(s.Held) == 0 {
			continue
		}
		service := s.Service
		if service.TrafficPolicy == cluster.TrafficCluster {
			service.Serving = nil
		}
		v.Services = append(v.Services, service)
	}
	return v
}

// member is what a speaker says of its node; alive is false for one that does not run, that the others do not hear any more, or that never
// said anything.
func (w *World) member(s *v1beta1.Speaker) (m cluster.Member, alive bool) {
	ready := find(s.Status.Conditions, v1beta1.ConditionReady)
	if ready == nil || ready.Status == metav1.ConditionUnknown || !w.runs(s.Name) {
		return m, false
	}
	m.Ready = ready.Status == metav1.ConditionTrue
	m.Leaving = ready.Reason == v1beta1.ReasonLeaving
	for _, l := range s.Status.Links {
		link := cluster.Link{Name: l.Name, Up: l.Up, Silent: l.Silent}
		for _, text := range l.Prefixes {
			if p, err := netip.ParsePrefix(text); err == nil {
				link.Prefixes = append(link.Prefixes, p)
			}
		}
		m.Links = append(m.Links, link)
	}
	return m, true
}

// foreign reports whether a Service has what another controller gave it: the mark of ours is missing, and not all of it is from pools.
func (w *World) foreign(s *Service) bool {
	return len(s.Held) == 0 && !s.Marked &&
		(s.Hostname || slices.ContainsFunc(s.Ingress, func(a netip.Addr) bool { return w.Config.PoolIndex(a) < 0 }))
}

// runs reports whether a speaker runs on a node, as far as that is known.
func (w *World) runs(node string) bool { return w.Running == nil || w.Running[node] }

func find(conditions []metav1.Condition, conditionType string) *metav1.Condition {
	i := slices.IndexFunc(conditions, func(c metav1.Condition) bool { return c.Type == conditionType })
	if i < 0 {
		return nil
	}
	return &conditions[i]
}

func (w *World) service(key cluster.Key) *Service {
	i := slices.IndexFunc(w.Services, func(s Service) bool { return s.Key == key })
	if i < 0 {
		return nil
	}
	return &w.Services[i]
}

func (w *World) speaker(node string) *v1beta1.Speaker {
	i := slices.IndexFunc(w.Speakers, func(s v1beta1.Speaker) bool { return s.Name == node })
	if i < 0 {
		return nil
	}
	return &w.Speakers[i]
}

// decided is what all nodes decide in a world, and what they say that they do.
type decided struct {
	why    []map[cluster.Key][]announce.Verdict // by node, in the order of World.Nodes
	claims map[string][]string                  // by address: the nodes that say they answer for it over ARP or NDP, sorted
}

// decide has every node decide about some Services.
func (w *World) decide(about func(cluster.Service) bool) decided {
	d := decided{claims: map[string][]string{}}
	view := w.View("")
	view.Services = slices.DeleteFunc(view.Services, func(s cluster.Service) bool { return !about(s) })
	for _, n := range view.Nodes {
		view.Self = n.Name
		d.why = append(d.why, announce.Decide(view).Why)
	}
	for i := range w.Speakers {
		if !w.runs(w.Speakers[i].Name) {
			continue
		}
		for _, o := range w.Speakers[i].Status.Layer2.Owned {
			d.claims[o.Address] = append(d.claims[o.Address], w.Speakers[i].Name)
		}
	}
	for _, nodes := range d.claims {
		slices.Sort(nodes)
	}
	return d
}

func texts(addrs []netip.Addr) string {
	all := make([]string, len(addrs))
	for i, a := range addrs {
		all[i] = a.String()
	}
	return strings.Join(all, " and ")
}
