package scenarios

import (
	"strings"
	"testing"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// TestWhatIsReadWithoutKubectlIsWhatKubectlSays: the scenarios believe it.
func TestWhatIsReadWithoutKubectlIsWhatKubectlSays(t *testing.T) {
	s := onSegment(t)
	s.several(1)
	const name = "s0"
	for _, args := range [][]string{
		{"get", "service", name, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"},
		{"get", "svc", name, "-o", `jsonpath={.status.conditions[?(@.type=="bellwether.dev/Allocated")]['status','reason']}`},
		{"get", "svc", name, "-o", "jsonpath={.spec}"},
		{"get", "service", name, "-o", "jsonpath={.spec.nothing}"},
		{"get", "pools", "-o", "jsonpath={.items[*].status.ipv4}"},
		{"get", "speakers.bellwether.dev", "-o", `jsonpath={range .items[*]}{.metadata.name}{" "}{.status.layer2.owned[*].address}{"\n"}{end}`},
		{"-n", product.Namespace, "get", "lease", "bellwether-controller", "-o", "jsonpath={.spec.leaseDurationSeconds}"},
		{"get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"},
		{"get", "service", "nowhere", "-o", "jsonpath={.spec}"},
		{"get", "nothings", "-o", "jsonpath={.items}"},
	} {
		got, err := s.Kubectl(s.ctx, args...)
		out, failed := s.Lab.CommandContext(s.ctx, lab.Control, append([]string{s.Lab.Binary("kubectl"), "--kubeconfig", s.Lab.Kubeconfig()}, args...)...).Output()
		if got != string(out) || (err == nil) != (failed == nil) {
			t.Errorf("%s: read %q (%v), kubectl says %q (%v)", strings.Join(args, " "), got, err, out, failed)
		}
	}
}
