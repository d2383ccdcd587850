package scenarios

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// judged is a Service as the API server would have it: of IPv4 alone, and allocated where it has addresses.
func judged(name, reason, addrs string, edits ...func(*corev1.Service)) *corev1.Service {
	single := corev1.IPFamilyPolicySingleStack
	s := wanting("plain", name)
	s.UID = types.UID(name)
	s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol}, &single
	s.Status.Conditions = []metav1.Condition{{Type: "bellwether.dev/Allocated", Reason: reason}}
	for ip := range strings.FieldsSeq(addrs) {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	for _, edit := range edits {
		edit(s)
	}
	return s
}

func TestTheOracleKnowsRightFromWrong(t *testing.T) {
	rules := []rule{
		{name: "open", addresses: []string{"192.0.2.254-192.0.3.0"}, excluded: []string{"192.0.2.254"}, avoid: true},
		{name: "gold", addresses: []string{"198.51.100.1-198.51.100.1"}, label: "gold"},
		{name: "asked", addresses: []string{"203.0.113.1-203.0.113.1", "2001:db8::1-2001:db8::1"}, request: true},
	}
	from := func(pool string) func(*corev1.Service) { return annotated("bellwether.dev/allocated-from", pool) }
	want := func(addrs string) func(*corev1.Service) { return annotated("bellwether.dev/load-balancer-ips", addrs) }
	ask := func(pool string) func(*corev1.Service) { return annotated("bellwether.dev/address-pool", pool) }
	gold := func(s *corev1.Service) { s.Namespace = "rich" }
	both := func(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, &policy
		}
	}
	for _, c := range []struct {
		name   string
		world  []*corev1.Service
		faults []string // a part of each fault
	}{
		{"the two addresses that old equipment misreads are not for one that does not ask", []*corev1.Service{judged("a", "NoEligiblePool", "")}, nil},
		{"one of them is for one that asks", []*corev1.Service{judged("a", "Allocated", "192.0.3.0", want("192.0.3.0"), from("open"))}, nil},
		{"one of them is given unasked", []*corev1.Service{judged("a", "Allocated", "192.0.3.0", from("open"))}, []string{"avoids it", "allocated from"}},
		{"an address is excluded", []*corev1.Service{judged("a", "Allocated", "192.0.2.254", from("open"))}, []string{"no pool has it", "allocated from"}},
		{"a pool is for others", []*corev1.Service{judged("a", "Allocated", "198.51.100.1", from("gold"))}, []string{"does not admit", "allocated from"}},
		{"a pool is for this one", []*corev1.Service{judged("a", "Allocated", "198.51.100.1", gold, from("gold"))}, nil},
		{"the annotation names another pool", []*corev1.Service{judged("a", "Allocated", "198.51.100.1", gold, from("open"))}, []string{"allocated from"}},
		{"one waits though an address is free", []*corev1.Service{judged("a", "Exhausted", "", gold)}, []string{"is free", "is free", "want one of []"}},
		{"one waits for what another has", []*corev1.Service{judged("a", "Exhausted", "", gold), judged("b", "Allocated", "198.51.100.1", gold, from("gold"))}, nil},
		{"two have one address", []*corev1.Service{
			judged("a", "Allocated", "198.51.100.1", gold, from("gold")), judged("b", "Allocated", "198.51.100.1", gold, from("gold"))}, []string{"and so has", "and so has"}},
		{"a pool is there only on request", []*corev1.Service{judged("a", "Allocated", "203.0.113.1", from("asked"))}, []string{"only what is asked for", "allocated from"}},
		{"the pool was asked for", []*corev1.Service{judged("a", "Allocated", "203.0.113.1", from("asked"), ask("asked"))}, nil},
		{"another address was asked for", []*corev1.Service{judged("a", "Allocated", "198.51.100.1", gold, from("gold"), want("203.0.113.1"))}, []string{"another was asked", "allocated from"}},
		{"the address that was asked for is nowhere", []*corev1.Service{judged("a", "AddressNotInPool", "", want("192.0.2.7"))}, nil},
		{"the reason is not the right one", []*corev1.Service{judged("a", "Exhausted", "", want("192.0.2.7"))}, []string{"want one of [AddressNotInPool]"}},
		{"the pool that was asked for is not there", []*corev1.Service{judged("a", "PoolNotFound", "", ask("none"))}, nil},
		{"a family that the Service is not of", []*corev1.Service{judged("a", "FamilyMismatch", "", want("2001:db8::1"))}, nil},
		{"one that needs both families has one", []*corev1.Service{
			judged("a", "Exhausted", "203.0.113.1", both(corev1.IPFamilyPolicyRequireDualStack), ask("asked"), from("asked"))},
			[]string{"needs both", "all that it needs is free", "want one of []"}},
		{"one that needs both families has both", []*corev1.Service{
			judged("a", "Allocated", "203.0.113.1 2001:db8::1", both(corev1.IPFamilyPolicyRequireDualStack), ask("asked"), from("asked"))}, nil},
		{"IPv6 comes first", []*corev1.Service{
			judged("a", "Allocated", "2001:db8::1 203.0.113.1", both(corev1.IPFamilyPolicyRequireDualStack), ask("asked"), from("asked"))}, []string{"then one IPv6"}},
		{"one that would like both has one, though the other is free", []*corev1.Service{
			judged("a", "Exhausted", "203.0.113.1", both(corev1.IPFamilyPolicyPreferDualStack), ask("asked"), from("asked"))}, []string{"is free", "is free", "want one of []"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOracle(rules, map[string]string{"rich": "gold"}, c.world)
			var faults []string
			for _, s := range c.world {
				faults = append(faults, o.judge(s)...)
			}
			ok := len(faults) == len(c.faults)
			for i := range min(len(faults), len(c.faults)) {
				ok = ok && strings.Contains(faults[i], c.faults[i])
			}
			if !ok {
				t.Errorf("the oracle says %q, want parts %q", faults, c.faults)
			}
		})
	}
}
