package explain

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// Surroundings are what stands beside Bellwether in a cluster.
type Surroundings struct {
	// KubeProxyMode is the mode in kube-proxy's configuration; empty where there is none that can be read.
	KubeProxyMode string
	// StrictARP is ipvs.strictARP of it.
	StrictARP bool
	// Others are other controllers of Services of type LoadBalancer, and where they run.
	Others []string
}

// Doctor looks for what keeps addresses from being reached, or will, in the whole cluster.
func (w *World) Doctor(s Surroundings) []Step {
	e := &explainer{w: w, out: &Explanation{}}
	e.leads()
	e.speakers()
	e.surroundings(s)
	e.excludedNodes()
	e.interfaces()
	e.objects()
	e.members()
	for i := range w.Services {
		if s := &w.Services[i]; s.Ours && w.foreign(s) {
			e.add("Services", Warning, "give it the other controller's loadBalancerClass", "%s has %s from another controller, and no class that says so", s.Key, given(s))
		}
	}
	return e.out.Steps
}

func (e *explainer) leads() {
	switch c := e.w.Controller; {
	case !c.Known:
	case c.Running:
		e.add("Controller", OK, "", "%s leads", c.Holder)
	default:
		e.add("Controller", Broken, fmt.Sprintf("kubectl get pods -n %s -l app.kubernetes.io/component=controller", e.w.Namespace), "no controller runs")
	}
}

func (e *explainer) speakers() {
	const step = "Speakers"
	ready, versions := 0, map[string]bool{}
	for _, n := range e.w.Nodes {
		s := e.w.speaker(n.Name)
		pods := fmt.Sprintf("kubectl get pods -n %s -l app.kubernetes.io/component=speaker --field-selector spec.nodeName=%s", e.w.Namespace, n.Name)
		if s == nil {
			e.add(step, Broken, pods, "no speaker has ever run on %s", n.Name)
			continue
		}
		if !e.w.runs(n.Name) {
			e.add(step, Broken, pods, "no speaker runs on %s", n.Name)
			continue
		}
		versions[s.Status.Version] = true
		good := true
		for _, c := range s.Status.Conditions {
			if c.Type == v1beta1.ConditionMembersAgree || c.Status == metav1.ConditionTrue || c.Type == v1beta1.ConditionKubeProxyHealthy && c.Status == metav1.ConditionUnknown {
				continue
			}
			good = false
			e.add(step, Broken, pods, "%s: %s", n.Name, c.Message)
		}
		if good {
			ready++
		}
	}
	if ready == len(e.w.Nodes) && ready > 0 {
		e.add(step, OK, "", "ready on %s", count(ready, "node"))
	}
	if len(versions) > 1 {
		e.add(step, Warning, fmt.Sprintf("kubectl rollout status -n %s daemonset/bellwether-speaker", e.w.Namespace), "they are of %d versions", len(versions))
	}
}

func (e *explainer) surroundings(s Surroundings) {
	switch {
	case s.KubeProxyMode == "ipvs" && !s.StrictARP:
		e.add("kube-proxy", Broken, `set ipvs.strictARP: true in the ConfigMap kube-proxy of kube-system, and restart kube-proxy: kubectl rollout restart -n kube-system daemonset/kube-proxy`,
			"it is in mode ipvs without strictARP: every node answers ARP for every address of every Service")
	case s.KubeProxyMode != "":
		e.add("kube-proxy", OK, "", "in mode %s", s.KubeProxyMode)
	}
	for _, other := range s.Others {
		e.add("Controllers", Warning, "remove it, or give the Services that it is to serve its loadBalancerClass",
			"%s serves Services of type LoadBalancer too", other)
	}
}

func (e *explainer) excludedNodes() {
	var names []string
	for _, n := range e.w.Nodes {
		if n.Excluded {
			names = append(names, n.Name)
		}
	}
	switch {
	case len(names) == 0:
	case len(names) == len(e.w.Nodes):
		e.add("Nodes", Warning, "kubectl label nodes --all node.kubernetes.io/exclude-from-external-load-balancers-", "all nodes carry the label that excludes them from load balancers: it is ignored, as nobody would be left")
	default:
		e.add("Nodes", OK, "", "the exclude label keeps addresses off %s", strings.Join(names, ", "))
	}
}

// interfaces looks for pools that no node has a fitting link for.
func (e *explainer) interfaces() {
	var subnets []netip.Prefix
	names := map[string]bool{}
	for i := range e.w.Speakers {
		m, alive := e.w.member(&e.w.Speakers[i])
		if !alive {
			continue
		}
		for _, l := range m.Links {
			names[l.Name] = true
			for _, p := range l.Prefixes {
				if !p.Addr().IsLinkLocalUnicast() {
					subnets = append(subnets, p.Masked())
				}
			}
		}
	}
	for _, p := range e.w.Config.Pools {
		if !announcedOnLayer2(e.w.Config, p) || p.Covers == nil || len(subnets) == 0 {
			continue
		}
		for _, r := range p.Covers.Ranges() {
			if !slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Contains(r.From()) && s.Contains(r.To()) }) {
				e.add("Pools", Warning, fmt.Sprintf("kubectl edit ipaddresspools.bellwether.dev %s, unless a router sends these addresses to that link", p.Name),
					"%s has %s, which lies in no subnet of any node: it is announced on all links, and only a router with a route to it there reaches it", p.Name, r)
				break
			}
		}
	}
	for _, a := range e.w.Config.L2 {
		if len(a.Interfaces) > 0 && len(names) > 0 && !slices.ContainsFunc(a.Interfaces, func(glob string) bool { return matchesAny(glob, names) }) {
			e.add("Interfaces", Warning, "kubectl edit l2advertisements.bellwether.dev "+a.Name, "L2Advertisement %s names %s, and no node has such an interface", a.Name, strings.Join(a.Interfaces, ", "))
		}
	}
}

func matchesAny(glob string, names map[string]bool) bool {
	for name := range names {
		if is, err := path.Match(glob, name); err == nil && is {
			return true
		}
	}
	return false
}

func announcedOnLayer2(c config.Config, p config.Pool) bool {
	return p.AdvertiseL2 || slices.ContainsFunc(c.L2, func(a config.L2Advertisement) bool { return a.SelectsPool(p) })
}

// plural is a kind's resource.
func plural(kind string) string {
	if kind == config.KindCommunity {
		return "communities"
	}
	return strings.ToLower(kind) + "s"
}

func (e *explainer) objects() {
	for _, p := range e.w.Problems {
		state := Warning
		if p.Rejects() {
			state = Broken
		}
		e.add("Objects", state, fmt.Sprintf("kubectl edit %s.bellwether.dev %s", plural(p.Kind), p.Name), "%s %s: %s", p.Kind, p.Name, p.Message)
	}
	if len(e.w.Config.Pools) == 0 {
		e.add("Pools", Warning, "kubectl explain ipaddresspools.bellwether.dev.spec", "there is no IPAddressPool, so nothing gets an address")
	}
	for _, p := range e.w.Config.Pools {
		if !e.w.Config.Announces(p) {
			e.add("Pools", Warning, fmt.Sprintf(`kubectl patch ipaddresspools.bellwether.dev %s --type merge -p '{"spec":{"advertise":["L2"]}}'`, p.Name), "no advertisement selects pool %s: what it gives is announced by nobody", p.Name)
		}
	}
}
