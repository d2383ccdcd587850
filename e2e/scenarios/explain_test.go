package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// explanation is what the tests read of `bellwether explain -o json`.
type explanation struct {
	Cause *struct{ Name, State, Says, Fix string } `json:"cause"`
}

func (e explanation) String() string {
	if e.Cause == nil {
		return "nothing is wrong"
	}
	return fmt.Sprintf("%s %s: %s (%s)", e.Cause.Name, e.Cause.State, e.Cause.Says, e.Cause.Fix)
}

func (s *scene) explain(service string) (e explanation) {
	s.Helper()
	out, code, err := s.CLI(s.ctx, "", "explain", "service/"+service, "-n", "default", "-o", "json")
	if err != nil {
		s.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		s.Fatalf("bellwether explain printed what is not JSON: %v: %s", err, out)
	}
	if broken := e.Cause != nil && e.Cause.State == "Broken"; broken != (code != 0) {
		s.Errorf("bellwether explain ended with %d and says %s", code, e)
	}
	return e
}

// blames waits until the first thing that is said to be wrong is this.
func (s *scene) blames(service, state, link, says string) {
	s.Helper()
	var last explanation
	s.Cleanup(func() {
		if s.Failed() {
			s.Logf("said last of %s: %s", service, last)
		}
	})
	s.eventually(patience, fmt.Sprintf("%s is said to be %s: %s", link, state, says), func() bool {
		last = s.explain(service)
		return last.Cause != nil && last.Cause.Name == link && last.Cause.State == state && strings.Contains(last.Cause.Says, says)
	})
	if state == "Broken" && last.Cause.Fix == "" {
		s.Errorf("nothing is said to mend it: %s", last)
	}
}

func (s *scene) nothingIsWrong(service string) {
	s.Helper()
	var last explanation
	s.Cleanup(func() {
		if s.Failed() {
			s.Logf("said last of %s: %s", service, last)
		}
	})
	s.eventually(patience, "nothing is said to be wrong with "+service, func() bool {
		last = s.explain(service)
		return last.Cause == nil
	})
}

// served is a segment on which one Service can be reached.
type served struct {
	*ledgered
	addr     netip.Addr
	backends []*lab.Backend
}

func onServed(t *testing.T) *served {
	s := &served{ledgered: onSegment(t)}
	s.calm()
	for i, n := range s.Lab.Nodes()[:2] {
		b, err := s.Lab.AddBackend(s.ctx, lab.BackendSpec{Name: fmt.Sprint("shown-", i), Node: n.Name, Labels: map[string]string{"app": "shown"}})
		s.act(err)
		s.backends = append(s.backends, b)
		t.Cleanup(func() { s.act(s.Lab.RemoveBackend(context.WithoutCancel(s.ctx), b)) })
	}
	s.poolOf("lan", `addresses: ["198.18.0.200-198.18.0.220"], advertise: [L2]`)
	s.addr = netip.MustParseAddr(s.becomes(s.create("web", selecting("shown")), 1, "Allocated").Status.LoadBalancer.Ingress[0].IP)
	s.reachable(s.addr)
	s.nothingIsWrong("web")
	return s
}

func selecting(app string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Selector = map[string]string{"app": app}
		s.Spec.Ports[0].TargetPort.IntVal = 8080
	}
}

// patch changes an object, and returns how to change it back.
func (s *scene) patch(object, to, back string) (mend func()) {
	s.Helper()
	s.must("patch", object, "--type=merge", "-p", to)
	return func() { s.must("patch", object, "--type=merge", "-p", back) }
}

// TestExplainNamesTheTrueCauseFirst breaks what leads to a Service in one way after the other. Each is mended before the next.
func TestExplainNamesTheTrueCauseFirst(t *testing.T) {
	s := onServed(t)
	const unadvertised, advertised = `{"spec":{"advertise":null}}`, `{"spec":{"advertise":["L2"]}}`
	for _, c := range []struct {
		name              string
		harm              func() (mend func())
		state, link, says string
	}{
		{"no advertisement", func() func() { return s.patch("pool/lan", unadvertised, advertised) }, "Broken", "Advertisement", "no advertisement selects"},
		{"an interface that no node has", func() func() { return s.onlyAdvertisement("interfaces: [bond*]", unadvertised, advertised) }, "Broken", "Layer 2", "no interface that is up is named by interfaces of an advertisement"},
		{"a node selector that selects none", func() func() {
			return s.onlyAdvertisement("nodeSelectors: [{matchLabels: {rack: nine}}]", unadvertised, advertised)
		}, "Broken", "Layer 2", "no nodeSelectors of an advertisement select the node"},
		{"every node has the exclude label", func() func() {
			s.must("label", "nodes", "--all", "node.kubernetes.io/exclude-from-external-load-balancers=")
			return func() {
				s.must("label", "nodes", "--all", "node.kubernetes.io/exclude-from-external-load-balancers-")
			}
		}, "Warning", "Layer 2", "NodeExcluded"},
		{"another machine has the address", func() func() { return s.squatLoudly(s.addr) }, "Broken", "Conflict", "another machine on the network has " + s.addr.String()},
		{"gossip is blocked", func() func() { return s.deafen(s.Lab.Nodes()[0].Name, noGossip) }, "Warning", "Speakers", "not by gossip"},
		{"no Pod is ready", func() func() { s.ready(false); return func() { s.ready(true) } }, "Broken", "Endpoints", "none of them is ready"},
		{"the selector matches nothing", func() func() {
			s.edit(s.shown(), func(w *corev1.Service) { w.Spec.Selector["app"] = "shwon" })
			return func() { s.edit(s.shown(), func(w *corev1.Service) { w.Spec.Selector["app"] = "shown" }) }
		}, "Broken", "Endpoints", "no Pod that runs matches its selector app=shwon"},
		{"kube-proxy does not run where the traffic comes to", func() func() {
			owner, err := s.Owner(s.ctx, s.addr)
			s.act(err)
			proxy, err := s.Lab.Process(owner, "kube-proxy")
			s.act(err)
			s.act(proxy.Kill())
			return func() { s.act(s.Lab.Restart(proxy)) }
		}, "Broken", "kube-proxy", "is not healthy"},
		{"another type", func() func() {
			s.edit(s.shown(), func(w *corev1.Service) {
				w.Spec.Type, w.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil
			})
			return func() {
				s.edit(s.shown(), func(w *corev1.Service) { w.Spec.Type = corev1.ServiceTypeLoadBalancer })
			}
		}, "Broken", "Service", "its type is ClusterIP"},
		{"only other clients are let in", func() func() {
			s.edit(s.shown(), func(w *corev1.Service) { w.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24"} })
			return func() { s.edit(s.shown(), func(w *corev1.Service) { w.Spec.LoadBalancerSourceRanges = nil }) }
		}, "Warning", "Clients", "only clients in 203.0.113.0/24 are let in"},
		{"no controller runs", func() func() {
			for _, name := range controllers() {
				s.act(s.controller(name).Pause())
			}
			return func() {
				for _, name := range controllers() {
					s.act(s.controller(name).Resume())
				}
			}
		}, "Warning", "Controller", "no controller runs"},
	} {
		t.Log(c.name)
		began := time.Now()
		mend := c.harm()
		s.blames("web", c.state, c.link, c.says)
		mend()
		s.nothingIsWrong("web")
		if t.Failed() {
			t.Fatalf("%s: %s", c.name, s.explain("web"))
		}
		t.Logf("   took %v", time.Since(began).Round(time.Second))
	}
}

// squatLoudly has the router take an address, and say so as machines do when they come up.
func (s *scene) squatLoudly(a netip.Addr) (leave func()) {
	s.Helper()
	leave = s.squat(a)
	if out, err := s.Lab.CommandContext(s.ctx, lab.Router, "arping", "-A", "-c", "2", "-I", "eth0", a.String()).CombinedOutput(); err != nil {
		s.Fatalf("arping: %v: %s", err, out)
	}
	return leave
}

func (s *served) shown() *corev1.Service { return wanting("default", "web") }

func (s *served) ready(is bool) {
	s.Helper()
	for _, b := range s.backends {
		s.act(s.Lab.SetBackendReady(s.ctx, b, is))
	}
}

// onlyAdvertisement has one L2Advertisement in the place of the pool's own.
func (s *scene) onlyAdvertisement(spec, unadvertised, advertised string) (mend func()) {
	s.Helper()
	if _, err := s.Apply(s.ctx, fmt.Sprintf("{apiVersion: bellwether.dev/v1beta1, kind: L2Advertisement, metadata: {name: only}, spec: {%s}}", spec)); err != nil {
		s.Fatal(err)
	}
	gone := sync.OnceFunc(func() {
		if _, err := s.Kubectl(context.WithoutCancel(s.ctx), "delete", "l2advertisement", "only"); err != nil {
			s.Error("clean up:", err)
		}
	})
	s.Cleanup(gone)
	back := s.patch("pool/lan", unadvertised, advertised)
	return func() {
		back()
		gone()
	}
}

// TestExplainOfServicesWithoutAnAddress names what keeps each from one.
func TestExplainOfServicesWithoutAnAddress(t *testing.T) {
	s := onSegment(t)
	s.calm()
	pool := func(name string) func(*corev1.Service) { return annotated("bellwether.dev/address-pool", name) }
	s.create("early")
	s.blames("early", "Broken", "Address", "there is no IPAddressPool")
	s.poolOf("one", `addresses: ["198.18.0.200"], advertise: [L2], autoAssign: false`)
	s.poolOf("fair", `addresses: ["198.18.0.201-198.18.0.209"], advertise: [L2], maxPerNamespace: 1, autoAssign: false`)
	s.becomes(s.create("first", pool("one")), 1, "Allocated")
	s.becomes(s.create("first-fair", pool("fair")), 1, "Allocated")
	s.create("late", pool("one"))
	s.create("greedy", pool("fair"))
	s.create("typo", pool("fiar"))
	s.create("classed", ofClass("example.com/other"))
	s.create("malformed", annotated("bellwether.dev/load-balancer-ips", "198.18.0.300"))
	s.create("local", pool("fair"), annotated("bellwether.dev/allow-shared-ip", "k"), func(w *corev1.Service) {
		w.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	for _, name := range controllers() {
		s.act(s.controller(name).Pause())
	}
	s.give(s.create("foreign"), corev1.LoadBalancerIngress{IP: "203.0.113.7"})
	s.create("unseen")
	s.blames("unseen", "Broken", "Controller", "no controller runs")
	for _, name := range controllers() {
		s.act(s.controller(name).Resume())
	}
	for _, c := range []struct{ service, link, says string }{
		{"early", "Address", "NoEligiblePool"},
		{"late", "Address", "Exhausted: no IPv4 address is free in pool one"},
		{"greedy", "Address", "QuotaExceeded: namespace default"},
		{"typo", "Address", "PoolNotFound: there is no IPAddressPool fiar"},
		{"classed", "Service", "its loadBalancerClass is example.com/other"},
		{"malformed", "Address", `InvalidRequest`},
		{"foreign", "Service", "another controller gave it 203.0.113.7"},
		{"none", "Service", "there is no Service default/none"},
	} {
		s.blames(c.service, "Broken", c.link, c.says)
	}
	s.must("patch", "pool", "fair", "--type=merge", "-p", `{"spec":{"maxPerNamespace":5}}`)
	s.blames("local", "Broken", "Layer 2", "externalTrafficPolicy is Local, and no node that may announce")
}

// TestExplainOfRoutes names what keeps routers from being told.
func TestExplainOfRoutes(t *testing.T) {
	for _, c := range []struct {
		kind
		says string
	}{
		{kind{name: "the router expects another AS number", asn: 65001, remote: "64777", peer: "myASN: 64512, peerASN: 65001"}, "see whether it expects another AS number of this node"},
		{kind{name: "another password", asn: 65001, remote: "64512", neighbor: "neighbor NODE password herring", peer: "myASN: 64512, peerASN: 65001, passwordSecret: {name: router-password}"},
			"look at its address, its port and its password"},
		{kind{name: "no Secret", asn: 65001, remote: "64512", peer: "myASN: 64512, peerASN: 65001, passwordSecret: {name: none}"}, "there is no Secret none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := onSegment(t)
			s.password("swordfish")
			s.one(c.kind)
			s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
			s.becomes(s.create("web"), 1, "Allocated")
			s.blames("web", "Broken", "BGP", c.says)
		})
	}
	t.Run("no BGPPeer", func(t *testing.T) {
		s := onSegment(t)
		s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
		s.becomes(s.create("web"), 1, "Allocated")
		s.blames("web", "Broken", "BGP", "there is no BGPPeer")
	})
	t.Run("BFD does not see the router", func(t *testing.T) {
		s := onSegment(t)
		node := s.Lab.Nodes()[0]
		s.frrOn(fmt.Sprintf("neighbor %s", node.Addrs[0]), "")
		s.only(fmt.Sprintf("peerAddress: %s", s.Lab.Addrs(lab.Router)[0]))
		s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
		s.becomes(s.create("web"), 1, "Allocated")
		s.eventually(patience, "the session is up, and BFD", func() bool { return s.sessionOf("state") == "Established" && s.sessionOf("bfd") == "Up" })
		s.deafen(node.Name, "table inet nobfd {\n\tchain in { type filter hook input priority -300; udp dport 3784 drop; }\n}\n")
		s.blames("web", "Broken", "BGP", "BFD does not see the router")
	})
}

// TestExplainAsksTheSegment from another node than the owner, by way of the API server; and it knows when no speaker runs any more, whatever
// their objects say.
func TestExplainAsksTheSegment(t *testing.T) {
	s := onFullLab(t)
	s.pool("lan", "198.18.0.200-198.18.0.210", "fd00:198:18::200-fd00:198:18::210")
	s.web()
	s.have(manifest("web", dualStack))
	addrs := s.addresses("web", 2)
	for _, a := range addrs {
		s.owner(a, "")
	}
	s.nothingIsWrong("web")
	out, code, err := s.CLI(s.ctx, "", "explain", "service/web", "-n", "default")
	if n := strings.Count(out, "Segment "); err != nil || code != 0 || n != 2 {
		t.Errorf("explain ended with %d, %v, and asked %d segments: %s", code, err, n, out)
	}
	a := addrs[0]
	owner, err := s.Owner(s.ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	out, _, err = s.CLI(s.ctx, "", "doctor", a.String())
	speakers := len(strings.Fields(s.must("get", "speakers", "-o", "name")))
	said := func(word string) (times int) {
		for field := range strings.FieldsSeq(out) {
			if field == word {
				times++
			}
		}
		return times
	}
	if err != nil || said("eth0") != speakers || said(owner) != speakers {
		t.Errorf("doctor %s: %v: %s", a, err, out)
	}
	if out, code, err = s.CLI(s.ctx, "", "doctor"); err != nil || code != 0 {
		t.Errorf("doctor ended with %d, %v in a healthy cluster: %s", code, err, out)
	}
	squatted := s.squatLoudly(a)
	s.blames("web", "Broken", "Conflict", "another machine on the network has "+a.String())
	squatted()
	s.nothingIsWrong("web")
	const daemonSet = "daemonset.apps/bellwether-speaker"
	s.must("patch", daemonSet, "-n", "bellwether-system", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"nowhere":"yes"}}}}}`)
	t.Cleanup(func() {
		if err := s.InstallChart(context.WithoutCancel(s.ctx)); err != nil {
			t.Error(err)
		}
	})
	s.blames("web", "Broken", "Layer 2", "no speaker runs there, or is heard")
	s.must("patch", daemonSet, "-n", "bellwether-system", "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/nodeSelector/nowhere"}]`)
	s.nothingIsWrong("web")
}
