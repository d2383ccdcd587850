package scenarios

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/routers"
)

// routed is a scene on the light lab of several nodes with FRR (AS 65001, in the place of the segment's router) and BIRD (AS 64512, the
// speakers' own, in the place of the client).
type routed struct {
	*ledgered
	frr  *routers.FRR
	bird *routers.BIRD
}

// nodeAddrs are the nodes' own addresses of one family.
func nodeAddrs(l *lab.Lab, v6 bool) []netip.Addr {
	var all []netip.Addr
	for _, n := range l.Nodes() {
		for _, a := range n.Addrs {
			if a.Is6() == v6 {
				all = append(all, a)
			}
		}
	}
	return all
}

func onRouters(t *testing.T) *routed {
	t.Helper()
	s := &routed{ledgered: onSegment(t)}
	var bgpd, neighbors strings.Builder
	fmt.Fprint(&bgpd, "router bgp 65001\n bgp router-id 198.18.0.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp graceful-restart\n")
	for _, a := range nodeAddrs(s.Lab, false) {
		fmt.Fprintf(&bgpd, " neighbor %[1]s remote-as 64512\n neighbor %[1]s bfd\n neighbor %[1]s bfd profile fast\n neighbor %[1]s capability extended-nexthop\n neighbor %[1]s timers connect 1\n", a)
		fmt.Fprintf(&neighbors, "  neighbor %s activate\n", a)
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		fmt.Fprintf(&bgpd, " address-family %s unicast\n%s exit-address-family\n", family, &neighbors)
	}
	bfdd := "bfd\n profile fast\n  receive-interval 50\n  transmit-interval 50\n  detect-multiplier 3\n exit\n"
	bird := &strings.Builder{}
	fmt.Fprintf(bird, "router id 198.18.0.3;\nprotocol device { }\nprotocol direct { ipv4; ipv6; }\n")
	for i, a := range nodeAddrs(s.Lab, false) {
		fmt.Fprintf(bird, `protocol bgp node%d { local as 64512; neighbor %s as 64512; passive on; graceful restart on;
ipv4 { import all; export none; }; ipv6 { import all; export none; }; }
`, i+1, a)
	}
	ctx := s.ctx
	var err error
	if s.frr, err = routers.StartFRR(ctx, s.Lab, lab.Router, bgpd.String(), bfdd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.act(s.frr.Stop()) })
	if s.bird, err = routers.StartBIRD(ctx, s.Lab, lab.Client, bird.String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.act(s.bird.Stop()) })
	return s
}

// listener is a router whose RIB is read.
type listener interface {
	RIB(ctx context.Context) (routers.RIB, error)
}

func (s *routed) rib(r listener) routers.RIB {
	s.Helper()
	rib, err := r.RIB(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	return rib
}

// peersWith has BGPPeers frr and bird.
func (s *routed) peersWith(frr, bird string) {
	s.Helper()
	client := s.Lab.Addrs(lab.Client)[0]
	s.have(fmt.Sprintf(`{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: frr}, spec: {myASN: 64512, peerASN: 65001, peerAddress: %s, dualStackAddressFamily: true, holdTime: 9s, %s}}
---
{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: bird}, spec: {myASN: 64512, peerASN: 64512, peerAddress: %s, dualStackAddressFamily: true, holdTime: 9s, %s}}
`, s.Lab.Addrs(lab.Router)[0], frr, client, bird))
}

const routedAddresses = `addresses: [198.18.128.0/24, "fd00:198:18:8000::/120"]`

// sees waits until a router has these routes from every one of the nodes, and no others.
func (s *routed) sees(r listener, nodes []netip.Addr, want map[netip.Prefix]routers.Route) {
	s.Helper()
	var differs string
	s.Cleanup(func() {
		if s.Failed() && differs != "" {
			s.Log(differs)
		}
	})
	s.eventually(patience, "the router has exactly the routes that are meant for it", func() bool {
		differs = ""
		rib := s.rib(r)
		for i, node := range nodes {
			expected := map[netip.Prefix]routers.Route{}
			for prefix, route := range want {
				route.Peer, route.NextHop = node, node
				if prefix.Addr().Is6() {
					route.NextHop = nodeAddrs(s.Lab, true)[i]
				}
				expected[prefix] = route
			}
			if got := rib.Of(node); !maps.EqualFunc(got, expected, same) {
				differs = fmt.Sprintf("from %s: %v, want %v", node, got, expected)
				return false
			}
		}
		return true
	})
}

func same(a, b routers.Route) bool {
	return a.Peer == b.Peer && a.NextHop == b.NextHop && a.ASPath == b.ASPath && a.MED == b.MED && a.LocalPref == b.LocalPref && slices.Equal(a.Communities, b.Communities)
}

func TestRoutersGetTheRoutesThatAreMeantForThem(t *testing.T) {
	s := onRouters(t)
	s.peersWith("keepaliveTime: 3s", "keepaliveTime: 3s")
	s.poolOf("routed", routedAddresses)
	s.have(`{apiVersion: bellwether.dev/v1beta1, kind: BGPAdvertisement, metadata: {name: outside}, spec: {ipAddressPools: [routed], peers: [frr], med: 50, asPathPrepend: 1, communities: ["64512:7", no-export]}}
---
{apiVersion: bellwether.dev/v1beta1, kind: BGPAdvertisement, metadata: {name: inside}, spec: {ipAddressPools: [routed], peers: [bird], localPref: 300, aggregationLength: 24, communities: ["large:64512:1:2", blue]}}
---
{apiVersion: bellwether.dev/v1beta1, kind: Community, metadata: {name: names}, spec: {communities: [{name: blue, value: "64512:9"}]}}
`)
	service := s.becomes(s.create("web", ofPolicy(corev1.IPFamilyPolicyRequireDualStack)), 2, "Allocated")
	var v4, v6 netip.Addr
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if a := netip.MustParseAddr(ingress.IP); a.Is4() {
			v4 = a
		} else {
			v6 = a
		}
	}
	nodes := nodeAddrs(s.Lab, false)
	outside := routers.Route{ASPath: "64512 64512", MED: 50, LocalPref: -1}
	s.sees(s.frr, nodes, map[netip.Prefix]routers.Route{netip.PrefixFrom(v4, 32): outside, netip.PrefixFrom(v6, 128): outside})
	inside := routers.Route{MED: -1, LocalPref: 300, Communities: []string{"64512:1:2", "64512:9"}}
	s.sees(s.bird, nodes, map[netip.Prefix]routers.Route{netip.MustParsePrefix("198.18.128.0/24"): inside, netip.PrefixFrom(v6, 128): inside})
	communities, err := s.frr.Communities(s.ctx, netip.PrefixFrom(v4, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		if got := communities[node]; !slices.Equal(got, []string{"64512:7", "no-export"}) {
			t.Errorf("FRR has communities %v from %s", got, node)
		}
	}
	s.eventually(patience, "the Speakers count what the routers have", func() bool {
		out := s.must("get", "speakers", "-o", "jsonpath={range .items[*]}{range .status.bgp.sessions[*]}{.peer}={.state}:{.advertised} {end}{end}")
		return out == strings.TrimSpace(strings.Repeat("bird=Established:2 frr=Established:2 ", len(nodes)))
	})

	s.eventually(patience, "the Service says that it is announced", func() bool {
		return s.must("get", "service", "web", "-n", service.Namespace, "-o", `jsonpath={.status.conditions[?(@.type=="bellwether.dev/Announced")].status}`) == "True"
	})

	s.must("delete", "service", "web", "-n", service.Namespace)
	s.sees(s.frr, nodes, nil)
	s.sees(s.bird, nodes, nil)
	for _, node := range nodes {
		if session, err := s.frr.Session(s.ctx, node); err != nil || session.Drops > 0 {
			t.Errorf("FRR's session with %s: %+v, %v", node, session, err)
		}
	}
}

func TestANodeThatIsDrainedLeavesTheRouters(t *testing.T) {
	s := onRouters(t)
	s.peersWith("keepaliveTime: 3s", "keepaliveTime: 3s")
	s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
	service := s.becomes(s.create("web"), 1, "Allocated")
	prefix := netip.PrefixFrom(netip.MustParseAddr(service.Status.LoadBalancer.Ingress[0].IP), 32)
	nodes := nodeAddrs(s.Lab, false)
	route := map[netip.Prefix]routers.Route{prefix: {ASPath: "64512", MED: -1, LocalPref: -1}}
	s.sees(s.frr, nodes, route)

	first := s.Lab.Nodes()[0].Name
	s.must("annotate", "node", first, "bellwether.dev/drain=true")
	t.Cleanup(func() {
		_, _ = s.Kubectl(context.WithoutCancel(s.ctx), "annotate", "node", first, "bellwether.dev/drain-")
	})
	s.eventually(patience, "the router is asked to prefer the others", func() bool {
		communities, err := s.frr.Communities(s.ctx, prefix)
		return err == nil && slices.Contains(communities[nodes[0]], "graceful-shutdown")
	})
	s.sees(s.frr, nodes[:1], nil)
	s.sees(s.frr, nodes[1:], route)
	s.eventually(patience, "the session is closed in order", func() bool {
		session, err := s.frr.Session(s.ctx, nodes[0])
		return err == nil && !session.Established && session.Shutdown == "Bellwether: this node is drained"
	})
	s.must("annotate", "node", first, "bellwether.dev/drain-")
	s.sees(s.frr, nodes, route)
}

func TestBFDTakesTheRoutesOfALostNodeAway(t *testing.T) {
	s := onRouters(t)
	s.have(`{apiVersion: bellwether.dev/v1beta1, kind: BFDProfile, metadata: {name: fast}, spec: {receiveInterval: 50, transmitInterval: 50, detectMultiplier: 3}}`)
	s.peersWith("bfdProfile: fast", "keepaliveTime: 3s")
	s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
	service := s.becomes(s.create("web"), 1, "Allocated")
	prefix := netip.PrefixFrom(netip.MustParseAddr(service.Status.LoadBalancer.Ingress[0].IP), 32)
	nodes := nodeAddrs(s.Lab, false)
	route := map[netip.Prefix]routers.Route{prefix: {ASPath: "64512", MED: -1, LocalPref: -1}}
	s.sees(s.frr, nodes, route)
	s.eventually(patience, "BFD is up", func() bool {
		for _, node := range nodes {
			if session, err := s.frr.Session(s.ctx, node); err != nil || session.BFD != "up" {
				return false
			}
		}
		return true
	})
	first := s.Lab.Nodes()[0].Name
	off := time.Now()
	s.act(s.Lab.PowerOff(s.ctx, first))
	s.eventually(patience, "the routes of the lost node are gone", func() bool { return len(s.rib(s.frr).Of(nodes[0])) == 0 })
	t.Logf("its routes were gone %v after the power, asked every 50 ms and more", time.Since(off).Round(time.Millisecond))
	s.act(s.Lab.PowerOn(s.ctx, first))
	s.sees(s.frr, nodes, route)
}

// TestRoutesSurviveARestartOfTheSpeaker: the routers keep them, marked as stale, until the speaker has told them again.
func TestRoutesSurviveARestartOfTheSpeaker(t *testing.T) {
	s := onRouters(t)
	s.peersWith("gracefulRestart: {enabled: true}", "gracefulRestart: {enabled: true}")
	s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
	service := s.becomes(s.create("web"), 1, "Allocated")
	prefix := netip.PrefixFrom(netip.MustParseAddr(service.Status.LoadBalancer.Ingress[0].IP), 32)
	nodes := nodeAddrs(s.Lab, false)
	route := map[netip.Prefix]routers.Route{prefix: {ASPath: "64512", MED: -1, LocalPref: -1}}
	s.sees(s.frr, nodes, route)
	s.sees(s.bird, nodes, map[netip.Prefix]routers.Route{prefix: {MED: -1, LocalPref: 100}})

	for _, how := range []struct {
		name string
		end  func(p *lab.Process) error
	}{{"killed", (*lab.Process).Kill}, {"told to stop", func(p *lab.Process) error { return p.Stop(20 * time.Second) }}} {
		t.Run(how.name, func(t *testing.T) {
			speaker := s.speaker(s.Lab.Nodes()[0].Name)
			s.act(how.end(speaker))
			stale, restarted := false, false
			for begun := time.Now(); time.Since(begun) < 15*time.Second; time.Sleep(100 * time.Millisecond) {
				for _, r := range []listener{s.frr, s.bird} {
					kept, has := s.rib(r).Of(nodes[0])[prefix]
					if !has {
						t.Fatalf("%T lost the route %v after the speaker ended", r, time.Since(begun).Round(time.Millisecond))
					}
					stale = stale || kept.Stale
				}
				if !restarted && stale {
					s.act(s.Lab.Restart(speaker))
					restarted = true
				}
			}
			if !stale {
				t.Error("no route was ever marked as stale: the routers did not notice the restart")
			}
			for _, r := range []listener{s.frr, s.bird} {
				if kept := s.rib(r).Of(nodes[0])[prefix]; kept.Stale {
					t.Errorf("%T still has the route marked as stale after the restart", r)
				}
			}
		})
	}
}

// TestLocalServicesAreAnnouncedWhereTheyServe: with externalTrafficPolicy Local only the nodes that have endpoints are in the routers.
func TestLocalServicesAreAnnouncedWhereTheyServe(t *testing.T) {
	s := onRouters(t)
	s.peersWith("keepaliveTime: 3s", "keepaliveTime: 3s")
	s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
	service := s.becomes(s.create("web", func(service *corev1.Service) {
		service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		service.Spec.Selector = map[string]string{"app": "local"}
	}), 1, "Allocated")
	if service.Spec.HealthCheckNodePort == 0 {
		t.Fatal("the Service has no healthCheckNodePort")
	}
	prefix := netip.PrefixFrom(netip.MustParseAddr(service.Status.LoadBalancer.Ingress[0].IP), 32)
	route := map[netip.Prefix]routers.Route{prefix: {ASPath: "64512", MED: -1, LocalPref: -1}}
	nodes := nodeAddrs(s.Lab, false)
	backend := func(i int) *lab.Backend {
		b, err := s.Lab.AddBackend(s.ctx, lab.BackendSpec{Name: fmt.Sprint("local-", i), Node: s.Lab.Nodes()[i].Name, Labels: map[string]string{"app": "local"}})
		s.act(err)
		t.Cleanup(func() { s.act(s.Lab.RemoveBackend(context.WithoutCancel(s.ctx), b)) })
		return b
	}
	announced := func(want string) {
		t.Helper()
		s.eventually(patience, "the Service says whether it is announced: "+want, func() bool {
			return s.must("get", "service", "web", "-n", service.Namespace, "-o", `jsonpath={.status.conditions[?(@.type=="bellwether.dev/Announced")].status}`) == want
		})
	}
	announced("False")
	second := backend(1)
	s.sees(s.frr, nodes[1:2], route)
	s.sees(s.frr, []netip.Addr{nodes[0], nodes[2]}, nil)
	announced("True")
	backend(0)
	s.sees(s.frr, nodes[:2], route)
	s.act(s.Lab.SetBackendReady(s.ctx, second, false))
	s.sees(s.frr, nodes[1:], nil)
	s.sees(s.frr, nodes[:1], route)
}
