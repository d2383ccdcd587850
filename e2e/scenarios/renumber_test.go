package scenarios

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/e2e/product"
)

// addressesOf are the addresses in a Service's status, in their order.
func addressesOf(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		out = append(out, netip.MustParseAddr(in.IP))
	}
	return out
}

func (s *ledgered) patchPool(name, patch string) {
	s.Helper()
	s.must("patch", "pool", name, "--type=merge", "-p", patch)
}

func asksFor(address string) func(*corev1.Service) {
	return annotated("bellwether.dev/load-balancer-ips", address)
}

// moves follows a Service from one address to another: both are held and announced for a window, and then only the new one.
func (s *ledgered) moves(service *corev1.Service, begin func()) {
	s.Helper()
	old := addressesOf(s.read(service))[0]
	s.owner(old, "")
	stop := s.asking(10*time.Millisecond, old)
	began := time.Now()
	begin()
	during := addressesOf(s.becomes(service, 2, "Allocated"))
	if during[1] != old {
		s.Fatalf("it had %s and has %v, want the new address and then the old one", old, during)
	}
	fresh := during[0]
	s.owner(fresh, "")
	alongside := s.asking(10*time.Millisecond, fresh)
	answered := time.Now()
	if c := meta.FindStatusCondition(s.read(service).Status.Conditions, "bellwether.dev/Renumbering"); c == nil || !strings.Contains(c.Message, "moves to "+fresh.String()+"; "+old.String()+" is held as well") {
		s.Errorf("the condition Renumbering is %+v", c)
	}
	s.becomes(service, 1, "Allocated")
	held := time.Since(began)
	if held < product.RenumberWindow-time.Second {
		s.Errorf("the old address was held for %v only", held)
	}
	if g := gap(stop(), old, began); g > held/4 {
		s.Errorf("while it was held, nobody answered for the old address %s for %v", old, g)
	}
	if g := gap(alongside(), fresh, answered); g > held/4 {
		s.Errorf("nobody answered for the new address %s for %v", fresh, g)
	}
	now := s.read(service)
	if got := addressesOf(now); !slices.Equal(got, []netip.Addr{fresh}) || meta.FindStatusCondition(now.Status.Conditions, "bellwether.dev/Renumbering") != nil {
		s.Errorf("when the window is over it has %v and conditions %+v", got, now.Status.Conditions)
	}
	s.silent(old)
}

func TestAServiceThatAsksForAnotherAddressHoldsBothForAWhile(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("lan", `addresses: ["198.18.0.200-198.18.0.209"], advertise: [L2]`)
	web := s.create("web")
	s.becomes(web, 1, "Allocated")
	s.moves(web, func() { s.edit(web, asksFor("198.18.0.205")) })
	s.poolOf("other", `addresses: ["198.18.0.210-198.18.0.219"], advertise: [L2]`)
	s.moves(web, func() {
		s.edit(web, func(service *corev1.Service) {
			delete(service.Annotations, "bellwether.dev/load-balancer-ips")
			service.Annotations["bellwether.dev/address-pool"] = "other"
		})
	})
}

func TestAPoolThatRenumbersMovesItsServicesAndOneThatKeepsDoesNot(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("moving", `addresses: ["198.18.0.200-198.18.0.209"], advertise: [L2], onChange: Renumber`)
	mover := s.create("mover", annotated("bellwether.dev/address-pool", "moving"))
	s.becomes(mover, 1, "Allocated")
	s.poolOf("staying", `addresses: ["198.18.0.210-198.18.0.214"], advertise: [L2]`)
	stayer := s.create("stayer", annotated("bellwether.dev/address-pool", "staying"))
	s.becomes(stayer, 1, "Allocated")

	s.patchPool("staying", `{"spec":{"addresses":["198.18.0.220-198.18.0.224"]}}`)
	s.becomes(stayer, 1, "OutOfPool")
	s.patchPool("moving", `{"spec":{"addresses":["2001:db8::9-2001:db8::1"]}}`) // a mistake moves nobody
	s.becomes(mover, 1, "OutOfPool")
	s.quiet()
	s.stayed()
	s.moves(mover, func() { s.patchPool("moving", `{"spec":{"addresses":["198.18.0.230-198.18.0.234"]}}`) })
	if a := addressesOf(s.becomes(stayer, 1, "OutOfPool"))[0]; a.String() != "198.18.0.210" {
		t.Errorf("the one that stays has %s", a)
	}
}

func TestAMoveSurvivesTheDeathOfTheLeader(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("lan", `addresses: ["198.18.0.200-198.18.0.209"], advertise: [L2]`)
	web := s.create("web")
	s.becomes(web, 1, "Allocated")
	s.moves(web, func() {
		s.edit(web, asksFor("198.18.0.205"))
		s.becomes(web, 2, "Allocated")
		s.act(s.controller(s.led()).Kill())
	})
}

func TestAReservedAddressWaitsForItsService(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("lan", `addresses: ["198.18.64.1-198.18.64.3"], reservations: [{address: "198.18.64.1", service: {namespace: default, name: front}}]`)
	if a := addressesOf(s.becomes(s.create("any"), 1, "Allocated"))[0]; a.String() != "198.18.64.2" {
		t.Errorf("another Service has %s", a)
	}
	s.becomes(s.create("thief", asksFor("198.18.64.1")), 0, "AddressReserved")
	front := s.create("front")
	for range 2 {
		if a := addressesOf(s.becomes(front, 1, "Allocated"))[0]; a.String() != "198.18.64.1" {
			t.Errorf("the Service that it is reserved for has %s", a)
		}
		s.act(s.remove(s.ctx, metav1.NamespaceDefault, "front"))
		front = s.create("front")
	}
	s.eventually(patience, "the pool counts what is reserved as neither assigned nor available", func() bool {
		return s.must("get", "pool", "lan", "-o", "jsonpath={.status.ipv4}") == `{"assigned":2,"available":1,"total":3}`
	})
}

func TestANamespaceHasNoMoreThanItsQuota(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("lan", `addresses: ["198.18.64.1-198.18.64.9"], maxPerNamespace: 2`)
	one, two := s.create("one"), s.create("two")
	s.becomes(one, 1, "Allocated")
	s.becomes(two, 1, "Allocated")
	three := s.becomes(s.create("three"), 0, "QuotaExceeded")
	s.namespace("tenant", nil)
	s.becomes(s.createIn("tenant", "web"), 1, "Allocated")
	s.act(s.remove(s.ctx, one.Namespace, one.Name))
	s.becomes(three, 1, "Allocated")
	s.patchPool("lan", `{"spec":{"maxPerNamespace":1}}`)
	s.quiet()
	s.stayed()
}

func TestTheAddressOfADeletedServiceIsRetainedAcrossLeaders(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("lan", `addresses: ["198.18.64.1-198.18.64.2"], retainFor: 20s`)
	web := s.create("web")
	a := addressesOf(s.becomes(web, 1, "Allocated"))[0]
	s.act(s.remove(s.ctx, web.Namespace, web.Name))
	if b := addressesOf(s.becomes(s.create("quick"), 1, "Allocated"))[0]; b == a {
		t.Errorf("%s was given to another at once", a)
	}
	waiting := s.becomes(s.create("waiting"), 0, "Exhausted")
	s.eventually(patience, "the pool says what it retains, and for whom", func() bool {
		return s.must("get", "pool", "lan", "-o", "jsonpath={.status.retained[*].address} {.status.retained[*].service.name}") == a.String()+" web"
	})
	s.act(s.controller(s.led()).Kill())
	s.led()
	web = s.create("web")
	if again := addressesOf(s.becomes(web, 1, "Allocated"))[0]; again != a {
		t.Errorf("it had %s and has %s after it was made anew", a, again)
	}
	s.act(s.remove(s.ctx, web.Namespace, web.Name))
	s.becomes(waiting, 1, "Allocated") // when nobody came back
}

func TestSharersSplitAndTheOneThatChangedSaysWhyAndComesBack(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("lan", `addresses: ["198.18.64.1-198.18.64.9"]`)
	key := annotated("bellwether.dev/allow-shared-ip", "together")
	port := func(n int32) func(*corev1.Service) {
		return func(service *corev1.Service) { service.Spec.Ports[0].Port = n }
	}
	policy := func(p corev1.ServiceExternalTrafficPolicy) func(*corev1.Service) {
		return func(service *corev1.Service) { service.Spec.ExternalTrafficPolicy = p }
	}
	elder := s.create("elder", key, port(80), asksFor("198.18.64.5"))
	s.becomes(elder, 1, "Allocated")
	younger := s.create("younger", key, port(443))
	if a := addressesOf(s.becomes(younger, 1, "Allocated")); a[0].String() != "198.18.64.5" {
		t.Fatalf("it shares %v", a)
	}
	s.eventually(patience, "the stream tells that it shares", func() bool { return len(s.story(younger).Addrs()) == 1 })
	stayer := s.story(younger)

	s.edit(elder, policy(corev1.ServiceExternalTrafficPolicyLocal))
	split := s.becomes(elder, 0, "ShareConflict")
	if m := messageOf(split); !strings.Contains(m, "198.18.64.5 is held by Service default/younger") || !strings.Contains(m, "their externalTrafficPolicy") {
		t.Errorf("it says %q", m)
	}
	s.edit(elder, policy(corev1.ServiceExternalTrafficPolicyCluster))
	if a := addressesOf(s.becomes(elder, 1, "Allocated")); a[0].String() != "198.18.64.5" {
		t.Errorf("it is back and has %v", a)
	}
	if lost := s.story(younger).Lost(); len(lost) > 0 || len(s.story(younger).Changes) != len(stayer.Changes) {
		t.Errorf("the one that did not change lost %v", lost)
	}

	// without an address that it asks for it gets another, and an event says why
	s.edit(younger, policy(corev1.ServiceExternalTrafficPolicyLocal))
	s.eventually(patience, "the one that changed has an address of its own", func() bool {
		a := addressesOf(s.read(younger))
		return len(a) == 1 && a[0].String() != "198.18.64.5"
	})
	s.eventually(patience, "an event says why", func() bool {
		events, err := s.client.CoreV1().Events(metav1.NamespaceDefault).List(s.ctx, metav1.ListOptions{FieldSelector: "reason=IPReleased,involvedObject.uid=" + string(younger.UID)})
		return err == nil && slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
			return strings.Contains(e.Message, "Service default/elder holds it") && strings.Contains(e.Message, "their externalTrafficPolicy")
		})
	})
	if a := addressesOf(s.becomes(elder, 1, "Allocated")); a[0].String() != "198.18.64.5" {
		t.Errorf("the one that did not change has %v", a)
	}
	s.quiet()
}
