package scenarios

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/product"
)

// TestTheChartIsUninstalledAndInstalledAgain with a pool among its values. What users made stays, and so do their objects' kinds.
func TestTheChartIsUninstalledAndInstalledAgain(t *testing.T) {
	s := onFullLab(t)
	s.pool("lan", "198.18.0.200-198.18.0.203")
	s.have(manifest("web", ""))
	a := s.addresses("web", 1)[0]
	s.owner(a, "")
	back := func(flags ...string) {
		t.Helper()
		if err := s.InstallChart(context.WithoutCancel(s.ctx), flags...); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := s.Helm(s.ctx, "uninstall", "bellwether", "--namespace", product.Namespace, "--wait"); err != nil {
		t.Error(out)
	}
	s.eventually(30*time.Second, "nobody answers any more", func() bool { // helm does not wait for Pods to end
		stop := s.asking(20*time.Millisecond, a)
		time.Sleep(300 * time.Millisecond)
		return len(stop()) == 0
	})
	if names := s.must("get", "crds", "-o", "name"); strings.Count(names, ".bellwether.dev") != 7 {
		t.Errorf("these kinds are left: %s", names)
	}
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte(`ipAddressPools: [{name: more, spec: {addresses: [198.18.0.204], advertise: [L2]}}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	back("-f", values)
	if now := s.addresses("web", 1)[0]; now != a {
		t.Errorf("the Service had %s and has %s", a, now)
	}
	s.owner(a, "")
	s.have(manifest("other", "loadBalancerIP: 198.18.0.204"))
	s.owner(s.addresses("other", 1)[0], "")
	s.must("delete", "service", "other")
	back("--reset-values") // without the pool
	s.eventually(10*time.Second, "the pool of the values is gone", func() bool {
		return !strings.Contains(s.must("get", "pools", "-o", "name"), "more")
	})
}
