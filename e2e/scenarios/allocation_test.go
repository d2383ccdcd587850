package scenarios

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestFiveRestartsOfBothControllersWithAFullPoolChangeNothing(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("full", `addresses: ["198.18.64.1-198.18.64.10"]`)
	var holders []*corev1.Service
	for i := range 10 {
		holders = append(holders, s.create(fmt.Sprintf("holder-%d", i)))
	}
	for i, h := range holders {
		holders[i] = s.becomes(h, 1, "Allocated")
	}
	pending := s.becomes(s.create("pending"), 0, "Exhausted")
	s.quiet()
	before := s.holds.Seen()
	for round := range 5 {
		for _, name := range controllers() {
			s.act(s.controller(name).Kill())
		}
		for _, name := range controllers() {
			s.act(s.Lab.Restart(s.controller(name)))
		}
		s.Logf("round %d: %s leads", round+1, s.led())
	}
	s.quiet()
	if after := s.holds.Seen(); after != before {
		t.Errorf("%d changes of Services were written in five restarts, want none", after-before)
	}
	if now := s.read(pending); now.ResourceVersion != pending.ResourceVersion || reasonOf(now) != "Exhausted" {
		t.Errorf("the pending Service went from version %s to %s, reason %q", pending.ResourceVersion, now.ResourceVersion, reasonOf(now))
	}

	s.act(s.remove(s.ctx, metav1.NamespaceDefault, holders[3].Name))
	pending = s.becomes(pending, 1, "Allocated")
	if got, freed := pending.Status.LoadBalancer.Ingress[0].IP, holders[3].Status.LoadBalancer.Ingress[0].IP; got != freed {
		t.Errorf("the Service that waited has %s, want %s, which was given back", got, freed)
	}
	s.quiet()
	s.stayed()
	for i, h := range holders {
		if a := s.story(h); i != 3 && len(a.Changes) != 1 {
			t.Errorf("the addresses of %s changed %d times, want once: %+v", h.Name, len(a.Changes), a.Changes)
		}
	}
}

func TestANamespaceThatGetsLaterWhatThePoolSelects(t *testing.T) {
	s := onLightLab(t, nil)
	const name = "tenant"
	s.namespace(name, nil)
	label := func(value string) {
		t.Helper()
		patch := fmt.Sprintf(`{"metadata":{"labels":{"bellwether":%s}}}`, value)
		if _, err := s.client.CoreV1().Namespaces().Patch(s.ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.poolOf("tenants", `addresses: ["198.18.64.1-198.18.64.10"], serviceAllocation: {namespaceSelectors: [{matchLabels: {bellwether: "yes"}}]}`)
	web := s.becomes(s.createIn(name, "web"), 0, "NoEligiblePool")
	label(`"yes"`)
	a := s.becomes(web, 1, "Allocated").Status.LoadBalancer.Ingress[0].IP
	label(`null`)
	if now := s.becomes(web, 1, "OutOfPool"); !strings.Contains(messageOf(now), "keeps "+a) {
		t.Errorf("the condition says %q, which does not say that %s is kept", messageOf(now), a)
	}
	late := s.becomes(s.createIn(name, "late"), 0, "NoEligiblePool")
	label(`"yes"`)
	s.becomes(web, 1, "Allocated")
	s.becomes(late, 1, "Allocated")
	s.quiet()
	s.stayed()
	if story := s.story(web); len(story.Changes) != 1 || story.Addrs()[0].String() != a {
		t.Errorf("the addresses changed %d times, want once: %+v", len(story.Changes), story.Changes)
	}
}

func TestTheSecondFamilyComesAndGoesAndTheFirstStays(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("both", `addresses: ["198.18.64.1-198.18.64.10", "fd00:198:18:0:1::1-fd00:198:18:0:1::2"]`)
	web := s.becomes(s.create("web", ofPolicy(corev1.IPFamilyPolicySingleStack)), 1, "Allocated")
	first := web.Status.LoadBalancer.Ingress[0].IP
	for range 3 {
		s.edit(web, ofPolicy(corev1.IPFamilyPolicyPreferDualStack))
		if in := s.becomes(web, 2, "Allocated").Status.LoadBalancer.Ingress; in[0].IP != first || !strings.HasPrefix(in[1].IP, "fd00:198:18:0:1::") {
			t.Errorf("it had %s and has %v, want that and an IPv6 address", first, in)
		}
		s.edit(web, ofPolicy(corev1.IPFamilyPolicySingleStack))
		if in := s.becomes(web, 1, "Allocated").Status.LoadBalancer.Ingress; in[0].IP != first {
			t.Errorf("it had %s and has %v", first, in)
		}
	}
	six := func(service *corev1.Service) { service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }
	takers := []*corev1.Service{s.create("six-1", six), s.create("six-2", six)}
	for _, taker := range takers {
		s.becomes(taker, 1, "Allocated")
	}
	both := s.becomes(s.create("both", ofPolicy(corev1.IPFamilyPolicyRequireDualStack)), 0, "Exhausted")
	if !strings.Contains(messageOf(both), "IPv6") {
		t.Errorf("it waits because %q, which does not say IPv6", messageOf(both))
	}
	prefers := s.create("prefers", ofPolicy(corev1.IPFamilyPolicyPreferDualStack))
	only := s.becomes(prefers, 1, "Exhausted").Status.LoadBalancer.Ingress[0].IP
	s.act(s.remove(s.ctx, metav1.NamespaceDefault, takers[0].Name))
	s.becomes(both, 2, "Allocated")
	s.act(s.remove(s.ctx, metav1.NamespaceDefault, takers[1].Name))
	if in := s.becomes(prefers, 2, "Allocated").Status.LoadBalancer.Ingress; in[0].IP != only {
		t.Errorf("it had %s and has %v", only, in)
	}
	s.quiet()
	for _, a := range s.holds.Accounts() {
		for _, lost := range a.Lost() {
			if a.UID != web.UID || lost.Is4() {
				t.Errorf("%s was taken from %s: %+v", lost, a.Key, a.Changes)
			}
		}
		for _, c := range a.Changes {
			if a.UID == both.UID && len(c.After) == 1 {
				t.Errorf("the Service that needs both families had only %v", c.After)
			}
		}
	}
}
