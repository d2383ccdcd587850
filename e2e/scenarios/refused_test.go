package scenarios

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// policy refuses every write to the status of the Services and pools called stuck.
const policy = `{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: stuck}, spec: {
failurePolicy: Fail,
matchConstraints: {resourceRules: [
{apiGroups: [""], apiVersions: [v1], operations: [UPDATE], resources: [services/status], resourceNames: [stuck]},
{apiGroups: [bellwether.dev], apiVersions: [v1beta1], operations: [UPDATE], resources: [ipaddresspools/status], resourceNames: [stuck]}]},
validations: [{expression: "false", message: "refused by the test"}]}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: stuck}, spec: {policyName: stuck, validationActions: [Deny]}}
`

// refusals counts the writes that the policy has refused, as the API server does.
func (s *ledgered) refusals() float64 {
	s.Helper()
	page, err := s.client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(page))
	lines.Buffer(nil, 1<<20)
	sum, _ := sumOf(lines, "apiserver_validating_admission_policy_check_total", `policy="stuck"`, `enforcement_action="deny"`)
	return sum
}

// refusing has the policy in force until the returned function is called.
func (s *ledgered) refusing() (stop func()) {
	s.Helper()
	if _, err := s.Apply(s.ctx, policy); err != nil {
		s.Fatal(err)
	}
	over := false
	stop = func() {
		if over = true; s.Delete(context.Background(), policy) != nil {
			s.Error("the policy cannot be deleted")
		}
	}
	s.Cleanup(func() {
		if !over {
			stop()
		}
	})
	// One that another controller serves shows when the API server has learned of the policy.
	probe := s.createIn(metav1.NamespaceSystem, "stuck", ofClass("example.com/other"))
	s.eventually(patience, "the policy is in force", func() bool {
		_, err := s.client.CoreV1().Services(probe.Namespace).Patch(s.ctx, probe.Name, types.MergePatchType,
			[]byte(`{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1"}]}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, "status")
		return err != nil && strings.Contains(err.Error(), "refused by the test")
	})
	s.act(s.remove(s.ctx, probe.Namespace, probe.Name))
	return stop
}

func TestAServiceWhoseStatusCannotBeWrittenDelaysNoOther(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("lan", `addresses: ["198.18.64.0/22"]`)
	s.led()
	stop := s.refusing()
	before, began := s.refusals(), time.Now()
	stuck := s.create("stuck")
	s.eventually(patience, "a write is refused", func() bool { return s.refusals() > before })
	for i := range 60 { // each makes the controller look at all Services
		name := fmt.Sprintf("other-%d", i)
		asked := time.Now()
		s.becomes(s.create(name), 1, "Allocated")
		if i%20 == 0 {
			t.Logf("%s had its address after %v", name, time.Since(asked).Round(time.Millisecond))
		}
		time.Sleep(100 * time.Millisecond)
	}
	if now := s.read(stuck); now.ResourceVersion != stuck.ResourceVersion {
		t.Fatalf("the Service was written to, though the policy refuses it: %+v", now.Status)
	}
	refused, during := s.refusals()-before, time.Since(began)
	t.Logf("%v writes were refused in %v", refused, during.Round(time.Millisecond))
	// Waits that double from 100 ms to 15 s: eight of them take twelve seconds.
	if most := 9 + during.Seconds()/10; refused > most {
		t.Errorf("%v writes were tried in %v, want at most %.0f: each waits twice as long as the one before", refused, during, most)
	}
	stop()
	s.becomes(stuck, 1, "Allocated")
	s.quiet()
	s.stayed()
}

func TestAnAddressWhoseReleaseIsRefusedIsGivenToNobody(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("few", `addresses: ["198.18.64.1-198.18.64.9", "fd00:198:18:0:1::1"]`)
	stuck := s.becomes(s.create("stuck", ofPolicy(corev1.IPFamilyPolicyRequireDualStack)), 2, "Allocated")
	s.quiet()
	stop := s.refusing()
	before := s.refusals()
	s.edit(stuck, ofPolicy(corev1.IPFamilyPolicySingleStack))
	s.eventually(patience, "giving the IPv6 address back is refused", func() bool { return s.refusals() > before })
	waits := s.create("waits", ofPolicy(corev1.IPFamilyPolicyRequireDualStack))
	time.Sleep(3 * time.Second)
	if now := s.read(waits).Status.LoadBalancer.Ingress; len(now) > 0 {
		t.Errorf("it has %v, though the IPv6 address stands in another Service", now)
	}
	stop()
	s.becomes(waits, 2, "Allocated")
	s.becomes(stuck, 1, "Allocated")
}

func TestAPoolWhoseStatusCannotBeWrittenDelaysNoOther(t *testing.T) {
	s := onLightLab(t, nil)
	s.led()
	stop := s.refusing()
	before := s.refusals()
	s.poolOf("stuck", `addresses: ["198.18.64.1"]`)
	s.eventually(patience, "a write is refused", func() bool { return s.refusals() > before })
	assigned := func(pool string) string {
		return s.must("get", "ipaddresspool", pool, "-o", "jsonpath={.status.ipv4.assigned}{.metadata.finalizers}")
	}
	const inUse = `1["bellwether.dev/in-use"]`
	for i := range 5 {
		s.poolOf(fmt.Sprintf("other-%d", i), fmt.Sprintf(`addresses: ["198.18.65.%d"]`, i))
	}
	for i := range 6 { // one of them has the address of the pool that is stuck
		s.becomes(s.create(fmt.Sprintf("web-%d", i)), 1, "Allocated")
	}
	for i := range 5 {
		pool := fmt.Sprintf("other-%d", i)
		s.eventually(patience, "pool "+pool+" says that it is in use, and is protected", func() bool { return assigned(pool) == inUse })
	}
	time.Sleep(5 * time.Second) // what the others still have to say makes the controller look at all pools
	stop()
	s.eventually(patience, "the pool that was stuck says that it is in use, though nothing else happens", func() bool { return assigned("stuck") == inUse })
}
