package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/routers"
)

// The ends of a cable between a node and the router, beside the segment.
const nodeEnd, routerEnd = "cable0", "cable1"

// sh runs commands at a place of the lab.
func (s *scene) sh(where string, commands ...string) {
	s.Helper()
	for _, c := range commands {
		if out, err := s.Lab.CommandContext(s.ctx, where, strings.Fields(c)...).CombinedOutput(); err != nil {
			s.Fatalf("%s on %s: %v: %s", c, where, err, out)
		}
	}
}

// cable joins a node and the router.
func (s *scene) cable(node string) {
	s.Helper()
	s.sh(node, fmt.Sprintf("ip link add %s type veth peer name %s netns %s", nodeEnd, routerEnd, filepath.Base(s.Lab.NetNS(lab.Router))), "ip link set "+nodeEnd+" up")
	s.Cleanup(func() {
		_ = s.Lab.CommandContext(context.WithoutCancel(s.ctx), node, "ip", "link", "delete", nodeEnd).Run()
	})
	s.sh(lab.Router, "ip link set "+routerEnd+" up")
}

// frrOn has FRR at the router with a neighbor at the other end of the cable.
func (s *ledgered) frrOn(neighbor, lines string) *routers.FRR {
	s.Helper()
	config := fmt.Sprintf("router bgp 65001\n bgp router-id 198.18.0.1\n no bgp ebgp-requires-policy\n %s remote-as 64512\n NEIGHBOR timers connect 1\n NEIGHBOR bfd\n NEIGHBOR bfd profile fast\n%s"+
		" address-family ipv4 unicast\n  NEIGHBOR activate\n exit-address-family\n address-family ipv6 unicast\n  NEIGHBOR activate\n exit-address-family\n", neighbor, lines)
	words := strings.Fields(neighbor)
	config = strings.ReplaceAll(config, "NEIGHBOR", strings.Join(words[:2], " "))
	frr, err := routers.StartFRR(s.ctx, s.Lab, lab.Router, config, "bfd\n profile fast\n  receive-interval 50\n  transmit-interval 50\n  detect-multiplier 3\n exit\n")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if s.Failed() {
			out, _ := frr.Do(context.WithoutCancel(s.ctx), "show bgp neighbors", "show bgp ipv4 unicast", "show bgp ipv6 unicast", "show bfd peers")
			s.Log(out)
			s.Log(s.speaker(s.Lab.Nodes()[0].Name).LogTail(20))
		}
		s.act(frr.Stop())
	})
	s.have(`{apiVersion: bellwether.dev/v1beta1, kind: BFDProfile, metadata: {name: fast}, spec: {receiveInterval: 50, transmitInterval: 50, detectMultiplier: 3}}`)
	return frr
}

// only has the BGPPeer of the first node.
func (s *ledgered) only(fields string) {
	s.Helper()
	s.have(fmt.Sprintf(`{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: only}, spec: {myASN: 64512, peerASN: 65001, dualStackAddressFamily: true, bfdProfile: fast,
nodeSelectors: [{matchLabels: {kubernetes.io/hostname: %s}}], %s}}`, s.Lab.Nodes()[0].Name, fields))
}

// kernelRoutes waits until the router's kernel has a route to each address over the cable, and returns how it says so.
func (s *scene) kernelRoutes(addrs []netip.Addr, device string) (said []string) {
	s.Helper()
	for _, a := range addrs {
		s.eventually(patience, "the router forwards to "+a.String(), func() bool {
			out, err := s.Lab.CommandContext(s.ctx, lab.Router, "ip", "route", "get", a.String()).Output()
			if err != nil || !strings.Contains(string(out), "dev "+device) {
				return false
			}
			said = append(said, string(out))
			return true
		})
	}
	return said
}

// TestASessionWithoutAddresses: the ends of a cable find each other by their router advertisements, and IPv4 is forwarded over IPv6
// next hops.
func TestASessionWithoutAddresses(t *testing.T) {
	s := onSegment(t)
	node := s.Lab.Nodes()[0].Name
	s.cable(node)
	s.only("interface: " + nodeEnd)
	s.poolOf("routed", "advertise: [BGP], "+routedAddresses)
	addrs := addressesOf(s.becomes(s.create("web", ofPolicy(corev1.IPFamilyPolicyRequireDualStack)), 2, "Allocated"))
	s.eventually(patience, "the Speaker says that no router is heard", func() bool {
		return strings.HasPrefix(s.sessionOf("lastError"), "no router is heard on the link "+nodeEnd)
	})
	frr := s.frrOn("neighbor "+routerEnd+" interface", "")
	for _, said := range s.kernelRoutes(addrs, routerEnd) {
		if !strings.Contains(said, "via inet6 fe80::") && !strings.Contains(said, "via fe80::") {
			t.Errorf("the next hop is not the node's link-local address: %s", said)
		}
	}
	s.eventually(patience, "the Speaker says so", func() bool {
		return s.sessionOf("state") == "Established" && s.sessionOf("advertised") == "2" && s.sessionOf("bfd") == "Up" && s.sessionOf("lastError") == ""
	})
	out, err := frr.Do(s.ctx, "show bfd peers json")
	if err != nil || !strings.Contains(out, `"status":"up"`) || !strings.Contains(out, `"remote-transmit-interval":50`) {
		t.Errorf("FRR says of BFD: %v\n%s", err, out)
	}

	// The router is replaced by another one.
	replaced := time.Now()
	s.sh(lab.Router, "ip link set "+routerEnd+" address 02:00:00:00:99:01 addrgenmode none", "ip -6 address flush dev "+routerEnd, "ip -6 address add fe80::99/64 dev "+routerEnd+" nodad")
	s.eventually(3*time.Minute, "the session is with the new one", func() bool {
		return s.sessionOf("state") == "Established" && s.sessionOf("lastError") == "" && strings.Contains(s.ssOf(node), "fe80::99")
	})
	s.kernelRoutes(addrs, routerEnd)
	t.Logf("%v after the router was replaced its successor has the routes", time.Since(replaced).Round(time.Second))
	s.sh(node, "ip link set "+nodeEnd+" down")
	s.eventually(patience, "the Speaker says why there is none", func() bool {
		return s.sessionOf("state") != "Established" && strings.Contains(s.sessionOf("lastError"), nodeEnd)
	})
}

// ssOf lists a node's established connections to the BGP port.
func (s *scene) ssOf(node string) string {
	out, _ := s.Lab.CommandContext(s.ctx, node, "ss", "-Htn", "state", "established", "dport", "=", ":179").Output()
	return string(out)
}

// TestASessionBoundToADevice, as that of a VRF is: nothing else leads to the router.
func TestASessionBoundToADevice(t *testing.T) {
	s := onSegment(t)
	node := s.Lab.Nodes()[0].Name
	s.cable(node)
	s.sh(node, "ip address add 192.0.2.2/30 dev "+nodeEnd, "ip route del 192.0.2.0/30 dev "+nodeEnd)
	s.sh(lab.Router, "ip address add 192.0.2.1/30 dev "+routerEnd)
	s.frrOn("neighbor 192.0.2.2", "")
	s.only("peerAddress: 192.0.2.1, vrf: " + nodeEnd)
	s.poolOf("routed", "advertise: [BGP], addresses: [198.18.128.0/24]")
	addrs := addressesOf(s.becomes(s.create("web"), 1, "Allocated"))
	s.kernelRoutes(addrs, routerEnd)
	s.eventually(patience, "BFD is up over the device too", func() bool { return s.sessionOf("bfd") == "Up" && s.sessionOf("lastError") == "" })
}

// TestASessionFromAnotherAddress: the router knows the node by one of its other addresses.
func TestASessionFromAnotherAddress(t *testing.T) {
	s := onSegment(t)
	node := s.Lab.Nodes()[0].Name
	s.cable(node)
	s.sh(node, "ip address add 192.0.2.2/29 dev "+nodeEnd, "ip address add 192.0.2.3/29 dev "+nodeEnd)
	s.sh(lab.Router, "ip address add 192.0.2.1/29 dev "+routerEnd)
	frr := s.frrOn("neighbor 192.0.2.3", "")
	s.only("peerAddress: 192.0.2.1, sourceAddress: 192.0.2.3")
	s.poolOf("routed", "advertise: [BGP], addresses: [198.18.128.0/24]")
	addrs := addressesOf(s.becomes(s.create("web"), 1, "Allocated"))
	if said := s.kernelRoutes(addrs, routerEnd); !strings.Contains(said[0], "via 192.0.2.3") {
		t.Errorf("the router forwards to another address: %s", said)
	}
	s.eventually(patience, "BFD is up from there too", func() bool { return s.sessionOf("bfd") == "Up" && s.sessionOf("lastError") == "" })
	s.must("patch", "bfdprofile", "fast", "--type=merge", "-p", `{"spec":{"echoMode":true}}`)
	s.eventually(patience, "FRR is asked for a control packet a second, as echo packets come back", func() bool {
		out, err := frr.Do(s.ctx, "show bfd peers json")
		return err == nil && strings.Contains(out, `"status":"up"`) && strings.Contains(out, `"remote-receive-interval":1000`)
	})
	s.eventually(patience, "the session is up beside", func() bool {
		return s.sessionOf("state") == "Established" && s.sessionOf("bfd") == "Up" && s.sessionOf("lastError") == ""
	})
}
