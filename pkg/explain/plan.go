package explain

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// Plan is what would be otherwise if the objects were others.
type Plan struct {
	Services []ServiceChange `json:"services,omitempty"`
	Sessions []SessionChange `json:"sessions,omitempty"`
	// Problems are those of the new objects that the present ones do not have.
	Problems []string `json:"problems,omitempty"`
	// Refused are those of Problems that make an object, or a part of it, inert.
	Refused []string `json:"refused,omitempty"`
}

// ServiceChange is a Service of which something would be otherwise.
type ServiceChange struct {
	Service cluster.Key `json:"service"`
	Before  Standing    `json:"before"`
	After   Standing    `json:"after"`
}

// Standing is what a Service has.
type Standing struct {
	Addresses []Announced `json:"addresses,omitempty"`
	// Allocation is Allocated, or why the Service lacks an address, and Message the sentence that its condition says.
	Allocation allocator.Reason `json:"allocation"`
	Message    string           `json:"message,omitempty"`
}

// Announced is an address and where it is announced from.
type Announced struct {
	Addr  netip.Addr `json:"address"`
	Owner string     `json:"owner,omitempty"`  // over ARP and NDP
	Route string     `json:"routes,omitempty"` // over BGP: "node>peer" of each, sorted, with spaces between
}

func (s Standing) String() string {
	if len(s.Addresses) == 0 {
		return "no address"
	}
	var parts []string
	for _, a := range s.Addresses {
		text := a.Addr.String()
		switch {
		case a.Owner != "" && a.Route != "":
			text += " on " + a.Owner + " and over BGP"
		case a.Owner != "":
			text += " on " + a.Owner
		case a.Route != "":
			text += fmt.Sprintf(" over %s of BGP", count(len(strings.Fields(a.Route)), "session"))
		default:
			text += " announced by nobody"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func (s Standing) equal(o Standing) bool {
	return s.Allocation == o.Allocation && slices.Equal(s.Addresses, o.Addresses)
}

// SessionChange is a BGP session of a node that would begin, end or be opened anew.
type SessionChange struct {
	Node string `json:"node"`
	Peer string `json:"peer"`
	What string `json:"what"`
}

// Plan says what would be otherwise if these were the objects. What is moving at this moment is taken to have moved.
func (w *World) Plan(objects config.Objects) Plan {
	after := *w
	after.Objects = w.withFinalizers(objects)
	after.Config, after.Problems = config.Parse(after.Objects)
	retained := w.retained()
	is, was := after.settled(retained), w.settled(retained)
	var p Plan
	for _, key := range slices.SortedFunc(maps.Keys(is.services), cluster.Key.Compare) {
		if before, now := was.services[key], is.services[key]; !before.equal(now) {
			p.Services = append(p.Services, ServiceChange{Service: key, Before: before, After: now})
		}
	}
	for _, n := range w.Nodes {
		p.Sessions = append(p.Sessions, sessionChanges(n.Name, was.sessions[n.Name], is.sessions[n.Name])...)
	}
	for _, problem := range after.Problems {
		if slices.Contains(w.Problems, problem) {
			continue
		}
		text := fmt.Sprintf("%s %s: %s", problem.Kind, problem.Name, problem.Message)
		p.Problems = append(p.Problems, text)
		if problem.Rejects() {
			p.Refused = append(p.Refused, text)
		}
	}
	return p
}

// withFinalizers keeps the pools among objects that are to go and that Services have addresses of: they give nothing more, and go when
// the last of those Services has.
func (w *World) withFinalizers(objects config.Objects) config.Objects {
	for _, p := range w.Objects.Pools {
		stays := slices.ContainsFunc(objects.Pools, func(o v1beta1.IPAddressPool) bool { return o.Name == p.Name })
		if !stays && slices.Contains(p.Finalizers, v1beta1.FinalizerInUse) {
			p.DeletionTimestamp = &metav1.Time{Time: p.CreationTimestamp.Time}
			objects.Pools = append(slices.Clone(objects.Pools), p)
		}
	}
	return objects
}

// outcome is where a world comes to rest.
type outcome struct {
	services map[cluster.Key]Standing
	sessions map[string]announce.BGPPlan // by node
}

// settled is where a world comes to rest under its configuration: allocated, moved, and announced.
func (w *World) settled(retained []allocator.Retention) outcome {
	rest := *w
	rest.Services = slices.Clone(w.Services)
	services, at := w.allocated()
	out := outcome{services: map[cluster.Key]Standing{}, sessions: map[string]announce.BGPPlan{}}
	inUse := w.inUse()
	retained = slices.DeleteFunc(slices.Clone(retained), func(r allocator.Retention) bool {
		pool, covered := w.Config.PoolOf(r.Addr)
		return !covered || pool.RetainFor == 0
	})
	for i := range services {
		rest.Services[at[i]].Service = services[i]
	}
	for range 10 { // a move takes two: to hold both addresses, and to give up the old one
		rest.release(services)
		assigned := allocator.Assign(w.Config, services, retained, inUse)
		changed := false
		for i := range services {
			o := &assigned.Services[i]
			s := &services[i]
			changed = changed || !slices.Equal(s.Held, o.Addrs)
			s.Held, s.HeldFrom, s.SharedAs = o.Addrs, o.Pools, o.SharedAs
			rest.Services[at[i]].Service = *s
			out.services[s.Key] = Standing{Allocation: o.Reason, Message: o.Message()}
		}
		if !changed {
			break
		}
	}
	rest.announced(&out)
	return out
}

// release lets Services give up the old addresses that they hold, as the controller does when the window is over.
func (w *World) release(services []cluster.Service) {
	var now outcome
	for i := range services {
		s := &services[i]
		s.OldMayGo = allocator.OldMayGo(s.Held, func(at int) bool {
			if now.services == nil {
				now = outcome{map[cluster.Key]Standing{}, map[string]announce.BGPPlan{}}
				w.announced(&now)
			}
			return slices.ContainsFunc(now.services[s.Key].Addresses, func(a Announced) bool {
				return a.Addr == s.Held[at] && (a.Owner != "" || a.Route != "")
			})
		})
	}
}

// allocated are the Services that the controller allocates for, as it sees them, and where they are in the world.
func (w *World) allocated() (services []cluster.Service, at []int) {
	for i := range w.Services {
		s := &w.Services[i]
		if !s.Ours || w.foreign(s) {
			continue
		}
		service := s.Service
		if len(service.Held) == 0 {
			service.Held = s.Ingress
		}
		services, at = append(services, service), append(at, i)
	}
	return services, at
}

// announced fills in who announces what.
func (w *World) announced(out *outcome) {
	view := w.View("")
	for _, n := range view.Nodes {
		view.Self = n.Name
		plan := announce.Decide(view)
		out.sessions[n.Name] = plan.BGP
		for key, verdicts := range plan.Why {
			s := out.services[key]
			for i, v := range verdicts {
				if i == len(s.Addresses) {
					s.Addresses = append(s.Addresses, Announced{Addr: v.Addr, Owner: v.Owner})
				}
				if v.BGP != nil && v.BGP.Reason == announce.Announced {
					for _, peer := range v.BGP.Peers {
						s.Addresses[i].Route = strings.TrimSpace(s.Addresses[i].Route + " " + n.Name + ">" + peer)
					}
				}
			}
			out.services[key] = s
		}
	}
}

// retained is what the pools keep for Services that have gone.
func (w *World) retained() (all []allocator.Retention) {
	for _, p := range w.Objects.Pools {
		for _, entry := range p.Status.Retained {
			if a, err := netip.ParseAddr(entry.Address); err == nil {
				all = append(all, allocator.Retention{Addr: a, Service: cluster.Key(entry.Service)})
			}
		}
	}
	return all
}

// inUse are the addresses of the pools that something else than a Service has, as the controller reckons them.
func (w *World) inUse() (all []allocator.InUse) {
	by := map[netip.Addr]allocator.InUse{}
	add := func(a netip.Addr, who string) {
		if _, named := by[a]; !named && w.Config.PoolIndex(a) >= 0 {
			by[a] = allocator.InUse{Addr: a, By: who}
		}
	}
	for _, n := range w.Nodes {
		for _, a := range n.Addrs {
			add(a, "node "+n.Name)
		}
	}
	for i := range w.Speakers {
		node := w.Speakers[i].Name
		for _, l := range w.Speakers[i].Status.Links {
			for _, text := range l.Prefixes {
				if p, err := netip.ParsePrefix(text); err == nil {
					add(p.Addr(), "node "+node)
				}
			}
			for _, text := range l.Gateways {
				if a, err := netip.ParseAddr(text); err == nil {
					add(a, "the default router of node "+node)
				}
			}
		}
	}
	for i := range w.Speakers {
		for _, c := range w.Speakers[i].Status.Layer2.Conflicts {
			a, err := netip.ParseAddr(c.Address)
			if pool, covered := w.Config.PoolOf(a); err == nil && covered && pool.Detection != cluster.DetectOff {
				by[a] = allocator.InUse{Addr: a, By: "another machine, of hardware address " + c.Station,
					Unusable: !c.Announced && pool.Detection == cluster.DetectEnforce}
			}
		}
	}
	return slices.SortedFunc(maps.Values(by), func(a, b allocator.InUse) int { return a.Addr.Compare(b.Addr) })
}

// sessionChanges compares the sessions of a node.
func sessionChanges(node string, before, after announce.BGPPlan) (all []SessionChange) {
	for _, peer := range slices.Sorted(maps.Keys(after)) {
		was, had := before[peer]
		switch is := after[peer]; {
		case !had:
			all = append(all, SessionChange{node, peer, "begins"})
		case !was.Session.StandsWith(is.Session) || was.PasswordSecret != is.PasswordSecret || was.DualStack != is.DualStack:
			all = append(all, SessionChange{node, peer, "is opened anew"})
		}
	}
	for _, peer := range slices.Sorted(maps.Keys(before)) {
		if _, stays := after[peer]; !stays {
			all = append(all, SessionChange{node, peer, "ends"})
		}
	}
	return all
}
