package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// metalLBKinds has CustomResourceDefinitions of MetalLB's groups and kinds: what is in them is not the API server's affair here.
func (s *ledgered) metalLBKinds() {
	s.Helper()
	var all strings.Builder
	for kind, versions := range map[string][]string{"IPAddressPool": {"v1beta1"}, "L2Advertisement": {"v1beta1"}, "BGPAdvertisement": {"v1beta1"},
		"BGPPeer": {"v1beta1", "v1beta2"}, "BFDProfile": {"v1beta1"}, "Community": {"v1beta1"}} {
		plural := strings.ToLower(kind) + "s"
		if kind == "Community" {
			plural = "communities"
		}
		var served []string
		for i, v := range versions {
			served = append(served, fmt.Sprintf("{name: %s, served: true, storage: %t, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}", v, i == len(versions)-1))
		}
		fmt.Fprintf(&all, `---
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: %s.metallb.io},
spec: {group: metallb.io, scope: Namespaced, names: {kind: %s, plural: %s, singular: %s}, versions: [%s]}}
`, plural, kind, plural, strings.ToLower(kind), strings.Join(served, ", "))
	}
	s.have(all.String())
	s.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
}

// onMetalLBsObjects has the controllers and the speakers run with --metallb-objects, until the end of the test.
func (s *ledgered) onMetalLBsObjects() {
	s.Helper()
	s.namespace("metallb-system", nil)
	if _, err := s.Kubectl(s.ctx, "apply", "-f", filepath.Join(s.Repo, "config", "metallb", "rbac.yaml")); err != nil {
		s.Fatal(err)
	}
	places := map[string][]string{lab.Control: controllers()}
	for _, n := range s.Lab.Nodes() {
		places[n.Name] = []string{"speaker"}
	}
	s.with("--metallb-objects=metallb-system", places)
}

// with has programs run with one more flag, until the end of the test.
func (s *ledgered) with(flag string, places map[string][]string) {
	s.Helper()
	again := func(args func([]string) []string) error {
		for where, names := range places {
			for _, name := range names {
				p, err := s.Lab.Process(where, name)
				if err != nil {
					return err
				}
				spec := p.Spec
				spec.Args = args(spec.Args)
				if err := p.Kill(); err != nil {
					return err
				}
				if _, err := s.Lab.Start(where, spec); err != nil {
					return err
				}
			}
		}
		return nil
	}
	s.act(again(func(args []string) []string { return append(append([]string(nil), args...), flag) }))
	s.Cleanup(func() {
		s.act(again(func(args []string) []string { return args[:len(args)-1] }))
		s.ctx = context.WithoutCancel(s.ctx)
		s.calm()
	})
}

// TestServicesOfMetalLBGoOn on its own objects, with the addresses that it gave, from the moment on in which Bellwether's programs start in
// its place.
func TestServicesOfMetalLBGoOn(t *testing.T) {
	s := onSegment(t)
	s.calm()
	s.metalLBKinds()
	for _, name := range controllers() { // until MetalLB has given its addresses
		s.act(s.controller(name).Pause())
	}
	given := map[string]netip.Addr{"web": netip.MustParseAddr("198.18.0.207"), "db": netip.MustParseAddr("198.18.0.201")}
	var services []*corev1.Service
	for name, a := range given {
		services = append(services, s.give(s.create(name, annotated("metallb.io/ip-allocated-from-pool", "first")), corev1.LoadBalancerIngress{IP: a.String()}))
	}
	s.namespace("metallb-system", nil)
	s.have(`{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: first, namespace: metallb-system}, spec: {addresses: [198.18.0.200-198.18.0.209]}}
---
{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: reserve, namespace: metallb-system}, spec: {addresses: [198.18.0.220/32], autoAssign: false}}
---
{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: all, namespace: metallb-system}, spec: {ipAddressPools: [first, reserve]}}
`)
	for _, name := range controllers() {
		s.act(s.controller(name).Resume())
	}
	s.onMetalLBsObjects()
	s.calm()
	for _, service := range services {
		now := s.becomes(service, 1, "Allocated")
		if a := now.Status.LoadBalancer.Ingress[0].IP; a != given[service.Name].String() {
			t.Errorf("%s had %s and has %s", service.Name, given[service.Name], a)
		}
		s.owner(given[service.Name], "")
	}
	late := s.becomes(s.create("late", annotated("metallb.io/address-pool", "reserve")), 1, "Allocated")
	if a := late.Status.LoadBalancer.Ingress[0].IP; a != "198.18.0.220" {
		t.Errorf("the Service that asks for pool reserve by MetalLB's annotation has %s", a)
	}
	out, code, err := s.CLI(s.ctx, "", "explain", "service/late", "-n", "default", "--metallb-objects", "metallb-system")
	if err != nil || !strings.Contains(out, "198.18.0.220 from pool reserve") {
		t.Errorf("explain ended with %d, %v: %s", code, err, out)
	}
	s.must("patch", "ipaddresspools.metallb.io", "first", "-n", "metallb-system", "--type=merge", "-p", `{"spec":{"addresses":["198.18.0.200-198.18.0.209","198.18.0.230-198.18.0.231"]}}`)
	asks := s.becomes(s.create("asks", annotated("metallb.io/loadBalancerIPs", "198.18.0.231")), 1, "Allocated")
	s.owner(netip.MustParseAddr(asks.Status.LoadBalancer.Ingress[0].IP), "")
	for _, service := range []*corev1.Service{late, asks} {
		s.act(s.remove(s.ctx, service.Namespace, service.Name))
	}
}

// TestPeersOfMetalLBWithPasswords have sessions: one with the password in the object, one in a Secret of MetalLB's namespace.
func TestPeersOfMetalLBWithPasswords(t *testing.T) {
	for _, c := range []struct{ name, fields string }{
		{"in the object", "password: swordfish"},
		{"in a Secret", "passwordSecret: {name: of-router}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := onSegment(t)
			s.metalLBKinds()
			s.onMetalLBsObjects()
			_, err := s.client.CoreV1().Secrets("metallb-system").Create(s.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "of-router"},
				Type: corev1.SecretTypeBasicAuth, StringData: map[string]string{"password": "swordfish"}}, metav1.CreateOptions{})
			s.act(err)
			t.Cleanup(func() {
				s.act(s.client.CoreV1().Secrets("metallb-system").Delete(context.WithoutCancel(s.ctx), "of-router", metav1.DeleteOptions{}))
			})
			frr, node := s.one(kind{asn: 65001, remote: "64512", neighbor: "neighbor NODE password swordfish", peer: "myASN: 64512, peerASN: 65001, passwordSecret: {name: nowhere}"})
			s.must("delete", "bgppeers.bellwether.dev", "only")
			s.have(fmt.Sprintf(`{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {name: router, namespace: metallb-system}, spec: {myASN: 64512, peerASN: 65001, peerAddress: %s, %s}}
---
{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: routed, namespace: metallb-system}, spec: {addresses: [198.18.128.0/24]}}
---
{apiVersion: metallb.io/v1beta1, kind: BGPAdvertisement, metadata: {name: all, namespace: metallb-system}, spec: {communities: ["64512:7"]}}
`, s.Lab.Addrs(lab.Router)[0], c.fields))
			service := s.becomes(s.create("web"), 1, "Allocated")
			prefix := netip.PrefixFrom(netip.MustParseAddr(service.Status.LoadBalancer.Ingress[0].IP), 32)
			s.eventually(patience, "the router has the route", func() bool {
				has, err := frr.Communities(s.ctx, prefix)
				return err == nil && slices.Equal(has[node], []string{"64512:7"})
			})
		})
	}
}
