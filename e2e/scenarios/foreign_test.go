package scenarios

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func ofClass(class string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class }
}

// give writes an entry into a Service's status, as another controller would.
func (s *ledgered) give(service *corev1.Service, entry corev1.LoadBalancerIngress) *corev1.Service {
	s.Helper()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": []any{entry}}}})
	if err != nil {
		s.Fatal(err)
	}
	now, err := s.client.CoreV1().Services(service.Namespace).Patch(s.ctx, service.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		s.Fatal(err)
	}
	return now
}

func TestServicesOfOtherControllersAreLeftAloneWithAndWithoutPools(t *testing.T) {
	s := onLightLab(t, nil)
	// A Service without a class is ours while it has no address, so ours must not see it before the other controller serves it.
	for _, name := range controllers() {
		s.act(s.controller(name).Pause())
	}
	theirs := []*corev1.Service{
		s.create("classed", ofClass("example.com/other")),
		s.give(s.create("classed-served", ofClass("example.com/other")), corev1.LoadBalancerIngress{IP: "203.0.113.7"}),
		s.give(s.create("served"), corev1.LoadBalancerIngress{IP: "203.0.113.8"}),
		s.give(s.create("named"), corev1.LoadBalancerIngress{Hostname: "lb.example.com"}),
	}
	for _, name := range controllers() {
		s.act(s.controller(name).Resume())
	}
	ours := s.becomes(s.create("ours"), 0, "NoPool")
	s.untouched("without pools", theirs)
	s.poolOf("lan", `addresses: ["198.18.64.1-198.18.64.100"]`)
	s.becomes(ours, 1, "Allocated")
	s.untouched("with a pool", theirs)
	s.act(s.remove(s.ctx, ours.Namespace, ours.Name))
	if _, err := s.Kubectl(s.ctx, "delete", "pool", "lan", "--timeout=60s"); err != nil {
		t.Fatal(err)
	}
	s.untouched("without pools again", theirs)
	s.stayed()
}

// untouched checks that the controller writes to none of the Services, however often it looks at them.
func (s *ledgered) untouched(when string, theirs []*corev1.Service) {
	s.Helper()
	for i := range 5 {
		poke := s.create(fmt.Sprintf("poke-%d", i))
		time.Sleep(200 * time.Millisecond)
		s.act(s.remove(s.ctx, poke.Namespace, poke.Name))
	}
	s.quiet()
	for _, service := range theirs {
		if now := s.read(service); now.ResourceVersion != service.ResourceVersion {
			s.Errorf("%s: Service %s, which another controller serves, was written to: annotations %v, status %+v", when, now.Name, now.Annotations, now.Status)
		}
	}
}

func TestOurClassIsServedAndEveryAddressIsVIP(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("both", `addresses: ["198.18.64.1-198.18.64.10", "fd00:198:18:0:1::1-fd00:198:18:0:1::9"]`)
	for _, service := range []*corev1.Service{
		s.create("classed", ofClass("bellwether.dev/lb")),
		s.create("classed-both", ofClass("bellwether.dev/lb"), ofPolicy(corev1.IPFamilyPolicyRequireDualStack)),
		s.create("both", ofPolicy(corev1.IPFamilyPolicyPreferDualStack)),
	} {
		now := s.becomes(service, len(service.Spec.IPFamilies), "Allocated")
		for _, in := range now.Status.LoadBalancer.Ingress {
			if in.IPMode == nil || *in.IPMode != corev1.LoadBalancerIPModeVIP {
				t.Errorf("%s: %s has ipMode %v, want VIP", now.Name, in.IP, in.IPMode)
			}
		}
		if from := now.Annotations["bellwether.dev/allocated-from"]; from != "both" {
			t.Errorf("%s: allocated from %q, want both", now.Name, from)
		}
	}
}
