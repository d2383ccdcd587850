package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
	"github.com/bellwether-lb/bellwether/e2e/routers"
)

// kind is one way to have a session with a router.
type kind struct {
	name     string
	asn      int    // of the router
	v6       bool   // over IPv6
	remote   string // what the router takes the speaker for
	neighbor string // more lines of FRR's, with NODE for the speaker's address
	bird     string // more of BIRD's settings
	peer     string // fields of the BGPPeer beside its address
	path     string // that the router gets
}

// sessionKinds are the settings of a session that both ends must agree on.
func sessionKinds() []kind {
	return []kind{
		{name: "external", asn: 65001, remote: "64512", peer: "myASN: 64512, peerASN: 65001", path: "64512"},
		{name: "internal", asn: 64512, remote: "64512", peer: "myASN: 64512, peerASN: 64512"},
		{name: "over IPv6", v6: true, asn: 65001, remote: "64512", peer: "myASN: 64512, peerASN: 65001", path: "64512"},
		{name: "AS numbers of four bytes", asn: 4200000001, remote: "4200000002", peer: "myASN: 4200000002, peerASN: 4200000001", path: "4200000002"},
		{name: "an AS of its own for the router", asn: 65001, remote: "64999", peer: "myASN: 64512, localASN: 64999, peerASN: 65001", path: "64999"},
		{name: "any other AS", asn: 65077, remote: "64512", peer: "myASN: 64512, dynamicASN: external", path: "64512"},
		{name: "any router of ours", asn: 64512, remote: "64512", peer: "myASN: 64512, dynamicASN: internal"},
		{name: "TTL security", asn: 65001, remote: "64512", neighbor: "neighbor NODE ttl-security hops 1", bird: "ttl security on;", peer: "myASN: 64512, peerASN: 65001, ttlSecurity: 1", path: "64512"},
		{name: "over several hops", asn: 65001, remote: "64512", neighbor: "neighbor NODE ebgp-multihop 5", bird: "multihop 5;", peer: "myASN: 64512, peerASN: 65001, ebgpMultiHop: true", path: "64512"},
		{name: "a password", asn: 65001, remote: "64512", neighbor: "neighbor NODE password swordfish", bird: `password "swordfish";`,
			peer: "myASN: 64512, peerASN: 65001, passwordSecret: {name: router-password}", path: "64512"},
		{name: "timers and a router ID", asn: 65001, remote: "64512", neighbor: "neighbor NODE timers 2 6", bird: "hold time 6; keepalive time 2;",
			peer: "myASN: 64512, peerASN: 65001, holdTime: 30s, keepaliveTime: 5s, connectTime: 2s, routerID: 203.0.113.9", path: "64512"},
	}
}

// ends are the addresses of the first node and of the router that a session of this kind is between.
func (s *ledgered) ends(k kind) (node, router netip.Addr) {
	for _, a := range s.Lab.Addrs(lab.Router) {
		if a.Is6() == k.v6 {
			router = a
		}
	}
	return nodeAddrs(s.Lab, k.v6)[0], router
}

// peer has the BGPPeer of the first node for a router.
func (s *ledgered) peer(k kind, router netip.Addr) {
	s.Helper()
	s.have(fmt.Sprintf(`{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: only}, spec: {peerAddress: %q, dualStackAddressFamily: true,
nodeSelectors: [{matchLabels: {kubernetes.io/hostname: %s}}], %s}}`, router, s.Lab.Nodes()[0].Name, k.peer))
}

// one starts FRR with a session with the first node, and has the BGPPeer for it.
func (s *ledgered) one(k kind) (frr *routers.FRR, node netip.Addr) {
	s.Helper()
	node, router := s.ends(k)
	config := fmt.Sprintf("router bgp %d\n bgp router-id 198.18.0.1\n no bgp ebgp-requires-policy\n neighbor NODE remote-as %s\n neighbor NODE timers connect 1\n %s\n"+
		" address-family ipv4 unicast\n  neighbor NODE activate\n exit-address-family\n address-family ipv6 unicast\n  neighbor NODE activate\n exit-address-family\n", k.asn, k.remote, k.neighbor)
	frr, err := routers.StartFRR(s.ctx, s.Lab, lab.Router, strings.ReplaceAll(config, "NODE", node.String()), "")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if s.Failed() {
			out, _ := frr.Do(context.WithoutCancel(s.ctx), "show bgp neighbors", "show bgp ipv4 unicast")
			s.Log(out)
			s.Log(s.speaker(s.Lab.Nodes()[0].Name).LogTail(10))
		}
		s.act(frr.Stop())
	})
	s.peer(k, router)
	return frr, node
}

// oneBIRD is the same with BIRD.
func (s *ledgered) oneBIRD(k kind) (bird *routers.BIRD, node netip.Addr) {
	s.Helper()
	node, router := s.ends(k)
	bird, err := routers.StartBIRD(s.ctx, s.Lab, lab.Router, fmt.Sprintf(`router id 198.18.0.1;
protocol device {}
protocol bgp node {
	local %s as %d;
	neighbor %s as %s;
	connect delay time 1;
	connect retry time 1;
	%s
	ipv4 { import all; export none; };
	ipv6 { import all; export none; };
}
`, router, k.asn, node, k.remote, k.bird))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if s.Failed() {
			out, _ := bird.Do(context.WithoutCancel(s.ctx), "show", "protocols", "all", "node")
			s.Log(out)
			s.Log(s.speaker(s.Lab.Nodes()[0].Name).LogTail(10))
		}
		s.act(bird.Stop())
	})
	s.peer(k, router)
	return bird, node
}

func (s *ledgered) password(password string) {
	s.Helper()
	if _, err := s.Apply(s.ctx, fmt.Sprintf(`{apiVersion: v1, kind: Secret, metadata: {name: router-password, namespace: %s}, type: kubernetes.io/basic-auth, stringData: {password: %s}}`,
		product.Namespace, password)); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		_, _ = s.Kubectl(context.WithoutCancel(s.ctx), "delete", "secret", "router-password", "-n", product.Namespace, "--ignore-not-found")
	})
}

// sessionOf is a field of what the first node's Speaker says of its session.
func (s *ledgered) sessionOf(field string) string {
	s.Helper()
	return s.must("get", "speaker", s.Lab.Nodes()[0].Name, "-o", "jsonpath={.status.bgp.sessions[0]."+field+"}")
}

func TestSessionsOfEveryKind(t *testing.T) {
	for _, k := range sessionKinds() {
		t.Run(k.name+", FRR", func(t *testing.T) {
			s := onSegment(t)
			s.password("swordfish")
			frr, node := s.one(k)
			s.carries(k, frr, node)
		})
		t.Run(k.name+", BIRD", func(t *testing.T) {
			s := onSegment(t)
			s.password("swordfish")
			bird, node := s.oneBIRD(k)
			s.carries(k, bird, node)
		})
	}
}

// carries has a dual-stack Service, and sees its routes in the router: each by its own next hop, though the session is of one family.
func (s *ledgered) carries(k kind, router listener, node netip.Addr) {
	s.Helper()
	s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
	service := s.becomes(s.create("web", ofPolicy(corev1.IPFamilyPolicyRequireDualStack)), 2, "Allocated")
	s.eventually(patience, "the router has the routes", func() bool {
		rib, err := router.RIB(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			a := netip.MustParseAddr(ingress.IP)
			route, is := rib.Of(node)[netip.PrefixFrom(a, a.BitLen())]
			if !is || route.ASPath != k.path || route.NextHop != nodeAddrs(s.Lab, a.Is6())[0] {
				return false
			}
		}
		return true
	})
	s.eventually(patience, "the Speaker says so", func() bool { return s.sessionOf("state") == "Established" && s.sessionOf("lastError") == "" })
}

// TestAnASNumberIsChanged on a session that is up: the router has the routes with the new one.
func TestAnASNumberIsChanged(t *testing.T) {
	s := onSegment(t)
	frr, node := s.one(kind{asn: 65001, remote: "external", peer: "myASN: 64512, peerASN: 65001"})
	s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
	service := s.becomes(s.create("web"), 1, "Allocated")
	prefix := netip.PrefixFrom(netip.MustParseAddr(service.Status.LoadBalancer.Ingress[0].IP), 32)
	path := func(want string) {
		t.Helper()
		s.eventually(patience, "the route comes by way of "+want, func() bool {
			rib, err := frr.RIB(s.ctx)
			return err == nil && rib.Of(node)[prefix].ASPath == want
		})
	}
	path("64512")
	s.must("patch", "bgppeer", "only", "--type=merge", "-p", `{"spec":{"myASN":64513}}`)
	path("64513")
	s.must("patch", "bgppeer", "only", "--type=merge", "-p", `{"spec":{"localASN":64999}}`)
	path("64999")
	s.eventually(patience, "the BGPPeer's events tell of it", func() bool {
		reasons := s.must("get", "events", "-n", "default", "--field-selector", "involvedObject.kind=BGPPeer,involvedObject.name=only", "-o", "jsonpath={.items[*].reason}")
		return strings.Contains(reasons, "SessionEstablished") && strings.Contains(reasons, "SessionLost")
	})
}

func TestAPasswordIsRotatedWithoutARestart(t *testing.T) {
	s := onSegment(t)
	s.password("swordfish")
	frr, node := s.one(kind{asn: 65001, remote: "64512", neighbor: "neighbor NODE password swordfish", peer: "myASN: 64512, peerASN: 65001, passwordSecret: {name: router-password}"})
	established := func() bool {
		session, err := frr.Session(s.ctx, node)
		return err == nil && session.Established
	}
	s.eventually(patience, "the session is up", established)
	if _, err := frr.Do(s.ctx, "configure terminal", "router bgp 65001", fmt.Sprintf("neighbor %s password herring", node)); err != nil {
		t.Fatal(err)
	}
	s.eventually(patience, "the session is down", func() bool { return !established() })
	s.password("herring")
	s.eventually(patience, "the session is up again", established)
	for _, p := range []string{"swordfish", "herring"} {
		if out, err := s.Lab.CommandContext(s.ctx, s.Lab.Nodes()[0].Name, "curl", "-s", "http://127.0.0.1:7481/debug/view", "http://127.0.0.1:7481/debug/plan").Output(); err != nil || strings.Contains(string(out), p) {
			t.Errorf("the password is in what is dumped, or that cannot be read: %v", err)
		}
		if strings.Contains(s.speaker(s.Lab.Nodes()[0].Name).LogTail(100000), p) {
			t.Error("the password is in the log")
		}
	}
}

func TestSessionsThatCannotBeSayWhy(t *testing.T) {
	for _, c := range []struct {
		kind
		want string
	}{
		{kind{name: "a router of another AS than ours", asn: 65001, remote: "64512", peer: "myASN: 64512, dynamicASN: internal"}, "as number mismatch expected 64512, received 65001"},
		{kind{name: "a Secret that is not there", asn: 65001, remote: "64512", peer: "myASN: 64512, peerASN: 65001, passwordSecret: {name: none}"}, "there is no Secret none of type kubernetes.io/basic-auth"},
		{kind{name: "a password that the router does not have", asn: 65001, remote: "64512", peer: "myASN: 64512, peerASN: 65001, passwordSecret: {name: router-password}"},
			"the router does not answer: look at its address, its port and its password"},
		{kind{name: "a router that takes us for another", asn: 65001, remote: "64777", peer: "myASN: 64512, peerASN: 65001"}, "the router refused to open it, or said something else: see whether it expects another AS number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := onSegment(t)
			s.password("swordfish")
			frr, node := s.one(c.kind)
			s.eventually(patience, "the Speaker says why", func() bool { return strings.Contains(s.sessionOf("lastError"), c.want) })
			if session, err := frr.Session(s.ctx, node); err != nil || session.Established {
				t.Errorf("FRR's session is %+v, %v", session, err)
			}
		})
	}
}
