package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAServiceGetsAddressesThatOneNodeAnswersFor(t *testing.T) {
	s := onFullLab(t)
	s.pool("lan", "198.18.0.200-198.18.0.210", "fd00:198:18::200-fd00:198:18::210")
	s.web()
	s.have(manifest("web", dualStack))
	for _, a := range s.addresses("web", 2) {
		_, mac := s.owner(a, "")
		s.answeredBy(a, mac)
		s.reachable(a)
	}
	s.eventually(5*time.Second, "the Service says that it is announced", func() bool {
		return s.must("get", "service", "web", "-o", `jsonpath={.status.conditions[?(@.type=="bellwether.dev/Announced")].status}`) == "True"
	})
}

func TestADeletedServiceGivesItsAddressToTheOneThatWaits(t *testing.T) {
	s := onFullLab(t)
	s.pool("small", "198.18.0.220-198.18.0.221")
	s.have(manifest("first", "") + manifest("second", ""))
	first, second := s.addresses("first", 1)[0], s.addresses("second", 1)[0]
	if first == second {
		t.Fatalf("both Services have %s", first)
	}
	s.owner(first, "")
	s.have(manifest("third", ""))
	condition := func(field string) string {
		return s.must("get", "service", "third", "-o", `jsonpath={.status.conditions[?(@.type=="bellwether.dev/Allocated")].`+field+`}`)
	}
	s.eventually(5*time.Second, "the third Service says why it waits", func() bool { return condition("reason") == "Exhausted" })
	if message := condition("message"); !strings.Contains(message, "pool small") {
		t.Errorf("it waits because %q, which does not name the pool", message)
	}
	before := s.must("get", "service", "third", "-o", "jsonpath={.metadata.resourceVersion}")
	time.Sleep(3 * time.Second)
	if after := s.must("get", "service", "third", "-o", "jsonpath={.metadata.resourceVersion}"); after != before {
		t.Errorf("a Service that stays pending was written to: resource version %s, then %s", before, after)
	}
	s.must("delete", "service", "first")
	if third := s.addresses("third", 1)[0]; third != first {
		t.Errorf("the third Service has %s, want %s, which the first gave back", third, first)
	}
	s.must("delete", "service", "third")
	s.eventually(5*time.Second, "the pool counts one address in use", func() bool {
		return s.must("get", "pool", "small", "-o", "jsonpath={.status.ipv4.assigned}") == "1"
	})
	s.silent(first)
	if now := s.addresses("second", 1)[0]; now != second {
		t.Errorf("the second Service had %s and has %s", second, now)
	}
}

func TestAPoolInUseGoesWithItsLastService(t *testing.T) {
	s := onFullLab(t)
	s.pool("doomed", "198.18.0.230")
	s.have(manifest("holder", ""))
	a := s.addresses("holder", 1)[0]
	_, mac := s.owner(a, "")
	s.eventually(5*time.Second, "the pool is protected", func() bool {
		return strings.Contains(s.must("get", "pool", "doomed", "-o", "jsonpath={.metadata.finalizers}"), "bellwether.dev/in-use")
	})
	s.must("delete", "pool", "doomed", "--wait=false")
	time.Sleep(2 * time.Second)
	s.answeredBy(a, mac)
	if now := s.addresses("holder", 1)[0]; now != a {
		t.Errorf("deleting the pool changed %s to %s", a, now)
	}
	s.must("delete", "service", "holder")
	s.must("wait", "--for=delete", "pool/doomed", "--timeout=10s")
}

func TestLocalTrafficIsAnnouncedOnlyWhereAnEndpointServes(t *testing.T) {
	s := onFullLab(t)
	s.pool("lan", "198.18.0.200-198.18.0.210")
	s.have(manifest("local", "externalTrafficPolicy: Local"))
	a := s.addresses("local", 1)[0]
	time.Sleep(500 * time.Millisecond)
	s.silent(a)
	for _, n := range s.Lab.Nodes()[1:] {
		node := n.Name
		pod := fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: only-%s, labels: {app: web}}, spec: {nodeName: %s, terminationGracePeriodSeconds: 0,
containers: [{name: web, image: "bellwether-lab/webserver:dev", imagePullPolicy: IfNotPresent}]}}`, node, node)
		if _, err := s.Apply(s.ctx, pod); err != nil {
			t.Fatal(err)
		}
		s.eventually(30*time.Second, node+" owns the address", func() bool {
			owner, err := s.Owner(s.ctx, a)
			return err == nil && owner == node
		})
		mac, err := s.MAC(s.ctx, node)
		if err != nil {
			t.Fatal(err)
		}
		s.answeredBy(a, mac)
		s.reachable(a)
		if err := s.Delete(s.ctx, pod); err != nil {
			t.Fatal(err)
		}
	}
	s.eventually(10*time.Second, "nobody owns the address", func() bool {
		owner, err := s.Owner(s.ctx, a)
		return err == nil && owner == ""
	})
	s.silent(a)
}
