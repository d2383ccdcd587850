package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// State says how a link of the chain holds.
type State string

// The states of a Step, the worst first.
const (
	Broken  State = "Broken"  // nobody reaches the Service because of it
	Warning State = "Warning" // some may not, or it will not last
	OK      State = "OK"
)

// Step is one link of the chain from a client to a Pod.
type Step struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Says  string `json:"says"`
	// Fix is a command, or what to change, where something is wrong.
	Fix string `json:"fix,omitempty"`
}

// Node is how one node stands to an address.
type Node struct {
	Name string `json:"name"`
	Addr string `json:"address"`
	// Layer2 is Announced for the owner, NotOwner for a candidate that lost the election, or what rules the node out; empty where no
	// advertisement is of layer 2.
	Layer2 announce.Reason `json:"layer2,omitempty"`
	// Answers is true when the node's speaker says that it answers for the address.
	Answers bool `json:"answers,omitempty"`
	// BGP is Announced where the node has the route for its sessions, or why not; empty where no advertisement is of BGP.
	BGP announce.Reason `json:"bgp,omitempty"`
	// Peers are the BGPPeers that it is announced to, Told those of them whose sessions are established.
	Peers []string `json:"peers,omitempty"`
	Told  []string `json:"told,omitempty"`
}

// Explanation is the whole chain of one Service.
type Explanation struct {
	Service   cluster.Key `json:"service"`
	Addresses []string    `json:"addresses,omitempty"`
	// Cause is the first link that is broken, or else the first that a warning is about; nil where nothing is wrong.
	Cause *Step  `json:"cause,omitempty"`
	Steps []Step `json:"steps"`
	Nodes []Node `json:"nodes,omitempty"`
}

// State is that of the worst link.
func (e *Explanation) State() State {
	if e.Cause == nil {
		return OK
	}
	return e.Cause.State
}

// explainer walks the chain of one Service.
type explainer struct {
	w   *World
	s   *Service // nil where there is none
	d   decided
	out *Explanation
}

// Explain walks the chain of one Service.
func (w *World) Explain(key cluster.Key) Explanation {
	s := w.service(key)
	if s == nil {
		return w.explain(key, nil, decided{})
	}
	return w.explain(key, s, w.decide(func(other cluster.Service) bool {
		return slices.ContainsFunc(other.Held, func(a netip.Addr) bool { return slices.Contains(s.Held, a) })
	}))
}

// ExplainAll walks the chains of all Services of type LoadBalancer, in their order.
func (w *World) ExplainAll() []Explanation {
	d := w.decide(func(cluster.Service) bool { return true })
	all := make([]Explanation, 0, len(w.Services))
	for i := range w.Services {
		all = append(all, w.explain(w.Services[i].Key, &w.Services[i], d))
	}
	return all
}

func (w *World) explain(key cluster.Key, s *Service, d decided) Explanation {
	out := Explanation{Service: key}
	e := &explainer{w: w, s: s, d: d, out: &out}
	e.walk()
	out.judge()
	return out
}

// judge finds the cause.
func (e *Explanation) judge() {
	for _, state := range []State{Broken, Warning} {
		if i := slices.IndexFunc(e.Steps, func(s Step) bool { return s.State == state }); i >= 0 {
			e.Cause = &e.Steps[i]
			return
		}
	}
}

// walk goes on along the chain until a link is missing that all others hang on.
func (e *explainer) walk() {
	if !e.service() {
		return
	}
	for _, a := range e.s.Ingress {
		e.out.Addresses = append(e.out.Addresses, a.String())
	}
	e.controller()
	if !e.address() {
		return
	}
	e.conflict()
	if e.advertisement() {
		e.nodes()
	}
	e.kubeProxy()
	e.endpoints()
	e.members()
}

func (e *explainer) add(name string, state State, fix, format string, args ...any) {
	e.out.Steps = append(e.out.Steps, Step{Name: name, State: state, Says: fmt.Sprintf(format, args...), Fix: fix})
}

func (e *explainer) kubectl(verb, rest string) string {
	return fmt.Sprintf("kubectl %s -n %s %s", verb, e.out.Service.Namespace, rest)
}

func (e *explainer) service() bool {
	const step = "Service"
	key, s := e.out.Service, e.s
	switch {
	case s == nil:
		e.add(step, Broken, fmt.Sprintf("kubectl get services -A | grep %s", key.Name), "there is no Service %s", key)
	case s.Type != "LoadBalancer":
		e.add(step, Broken, e.kubectl("patch service", key.Name+` -p '{"spec":{"type":"LoadBalancer"}}'`),
			"its type is %s, and only Services of type LoadBalancer get an external address", s.Type)
	case !s.Ours && s.Class != "":
		e.add(step, Broken, "a Service keeps its class as long as it lives: delete it, and create it with the class of Bellwether's controller, or without one",
			"its loadBalancerClass is %s, which another controller serves", s.Class)
	case !s.Ours:
		e.add(step, Broken, "", "it is being deleted")
	case e.w.foreign(s):
		e.add(step, Broken, "have one controller serve it: remove the other one, or give the Service that one's loadBalancerClass",
			"another controller gave it %s: no pool has that, and Bellwether leaves the Service alone", given(s))
	default:
		e.add(step, OK, "", "type LoadBalancer, and of Bellwether's class")
		return true
	}
	return false
}

// given is what another controller has put into a Service's status.
func given(s *Service) string {
	if s.Hostname {
		return "a host name"
	}
	return texts(s.Ingress)
}

func (e *explainer) controller() {
	c := e.w.Controller
	switch {
	case !c.Known:
	case c.Running:
		e.add("Controller", OK, "", "%s leads", c.Holder)
	default:
		state := Warning
		if find(e.s.Conditions, v1beta1.ConditionAllocated) == nil {
			state = Broken
		}
		e.add("Controller", state, fmt.Sprintf("kubectl get pods -n %s -l app.kubernetes.io/component=controller", e.w.Namespace),
			"no controller runs: nothing gets an address, and no condition is renewed")
	}
}

// address reports whether there is one.
func (e *explainer) address() bool {
	const step = "Address"
	c := find(e.s.Conditions, v1beta1.ConditionAllocated)
	switch {
	case c == nil && len(e.s.Ingress) == 0:
		e.add(step, Broken, fmt.Sprintf("kubectl logs -n %s -l app.kubernetes.io/component=controller", e.w.Namespace), "the controller has not looked at the Service yet")
	case c != nil && c.Status != metav1.ConditionTrue:
		e.add(step, Broken, e.allocationFix(c), "%s: %s", c.Reason, c.Message)
	case c != nil && c.Reason != string(allocator.Allocated):
		e.add(step, Warning, e.allocationFix(c), "%s: %s", c.Reason, c.Message)
	default:
		e.add(step, OK, "", "%s from %s", texts(e.s.Ingress), pools(e.s.HeldFrom))
	}
	return len(e.s.Ingress) > 0
}

func pools(names []string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) == 0 {
		return "no pool"
	}
	return "pool " + strings.Join(names, " and pool ")
}

func (e *explainer) allocationFix(c *metav1.Condition) string {
	switch allocator.Reason(c.Reason) {
	case allocator.NoPool, allocator.PoolNotFound:
		return "kubectl get ipaddresspools.bellwether.dev"
	case allocator.Exhausted, allocator.QuotaExceeded:
		return "bellwether services, to see who holds what; or widen the pool: kubectl edit ipaddresspools.bellwether.dev"
	case allocator.NoEligiblePool, allocator.PoolNotAllowed, allocator.AddressNotInPool, allocator.OutOfPool, allocator.AddressReserved:
		return "kubectl describe ipaddresspools.bellwether.dev"
	case allocator.ShareConflict, allocator.FamilyMismatch, allocator.InvalidRequest, allocator.AddressInUse:
		return e.kubectl("edit service", e.out.Service.Name)
	case allocator.Allocated:
	}
	return ""
}

func (e *explainer) conflict() {
	c := find(e.s.Conditions, v1beta1.ConditionAddressConflict)
	if c == nil || c.Status != metav1.ConditionTrue {
		return
	}
	e.add("Conflict", Broken, "take the address from that machine, or keep it from the pool (excludedAddresses) and recreate the Service", "%s", c.Message)
}

// advertisement reports whether there is one.
func (e *explainer) advertisement() bool {
	const step = "Advertisement"
	var missing []string
	pool := ""
	for i, a := range e.s.Held {
		name := ""
		if i < len(e.s.HeldFrom) {
			name = e.s.HeldFrom[i]
		}
		p, exists := e.w.Config.Pool(name)
		if !exists {
			p, exists = e.w.Config.PoolOf(a)
		}
		if !exists || !e.w.Config.Advertised(p, e.s.Labels) {
			missing, pool = append(missing, a.String()), p.Name
		}
	}
	if len(missing) == 0 {
		e.add(step, OK, "", "an advertisement selects the pool and this Service")
		return true
	}
	says := []string{"no advertisement selects " + strings.Join(missing, " and ")}
	for _, p := range e.w.Problems {
		if strings.HasSuffix(p.Kind, "Advertisement") {
			says = append(says, fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.Message))
		}
	}
	fix := "create an IPAddressPool that covers it, with advertise: [L2]"
	if pool != "" {
		fix = fmt.Sprintf(`kubectl patch ipaddresspools.bellwether.dev %s --type merge -p '{"spec":{"advertise":["L2"]}}', or correct the selectors of an advertisement`, pool)
	}
	e.add(step, Broken, fix, "%s", strings.Join(says, "; "))
	return len(missing) < len(e.s.Held)
}

// kubeProxy is asked about where the address leads to.
func (e *explainer) kubeProxy() {
	const step = "kube-proxy"
	healthy := 0
	for _, n := range e.announcing() {
		s := e.w.speaker(n)
		if s == nil {
			continue
		}
		c := find(s.Status.Conditions, v1beta1.ConditionKubeProxyHealthy)
		switch {
		case c == nil || c.Status == metav1.ConditionUnknown:
		case c.Status == metav1.ConditionTrue:
			healthy++
		default:
			e.add(step, Broken, fmt.Sprintf("kubectl get pods -n kube-system -o wide --field-selector spec.nodeName=%s", n),
				"%s, which traffic comes to: %s", n, c.Message)
			return
		}
	}
	if healthy > 0 {
		e.add(step, OK, "", "healthy where traffic comes to")
	}
}

// announcing are the nodes that traffic comes to.
func (e *explainer) announcing() []string {
	var nodes []string
	for _, n := range e.out.Nodes {
		if n.Answers || len(n.Told) > 0 {
			nodes = append(nodes, n.Name)
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

func (e *explainer) endpoints() {
	const step = "Endpoints"
	selector := e.kubectl("get pods", "-l "+e.s.Selector)
	switch {
	case e.s.Endpoints == 0 && e.s.Selector == "" && e.s.Waiting == 0:
		e.add(step, Broken, "create EndpointSlices for it, or give it a selector", "it has no selector, and nobody made endpoints for it")
	case e.s.Endpoints == 0 && e.s.Waiting > 0:
		e.add(step, Broken, selector, "%s, and none of them is ready", count(e.s.Waiting, "endpoint"))
	case e.s.Endpoints == 0:
		e.add(step, Broken, selector, "no Pod that runs matches its selector %s", e.s.Selector)
	default:
		e.add(step, OK, "", "%s", count(e.s.Endpoints, "serving endpoint"))
	}
	if len(e.s.SourceRanges) > 0 {
		e.add("Clients", Warning, e.kubectl("edit service", e.out.Service.Name), "only clients in %s are let in (loadBalancerSourceRanges)", strings.Join(e.s.SourceRanges, ", "))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// members passes on what the speakers say about each other.
func (e *explainer) members() {
	said := map[string][]string{}
	var order []string
	for i := range e.w.Speakers {
		s := &e.w.Speakers[i]
		c := find(s.Status.Conditions, v1beta1.ConditionMembersAgree)
		if c == nil || c.Status != metav1.ConditionFalse {
			continue
		}
		if said[c.Message] == nil {
			order = append(order, c.Message)
		}
		said[c.Message] = append(said[c.Message], s.Name)
	}
	for _, message := range order {
		e.add("Speakers", Warning, "bellwether doctor", "%s: %s", strings.Join(said[message], ", "), message)
	}
}
