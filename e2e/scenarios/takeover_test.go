package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

const (
	metalLB       = "metallb-system"
	metalLBsKinds = "ipaddresspools.metallb.io,l2advertisements.metallb.io"
)

// TestTakeoverFromMetalLB follows the runbook of docs/metallb.md on a cluster that runs MetalLB: its programs and manifests, objects of its
// kinds, Services that clients use. No address changes; how long each went unanswered is printed.
func TestTakeoverFromMetalLB(t *testing.T) {
	s := onFullLab(t)
	t.Cleanup(func() { // last of all: the lab is what it was
		s.act(s.InstallChart(context.WithoutCancel(s.ctx), "--reset-values"))
	})
	if out, err := s.Helm(s.ctx, "uninstall", "bellwether", "--namespace", product.Namespace, "--wait"); err != nil {
		t.Fatal(out)
	}
	s.runMetalLB()
	s.have(`{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: first, namespace: metallb-system}, spec: {addresses: [198.18.0.200-198.18.0.209, "fd00:198:18::200-fd00:198:18::209"]}}
---
{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: asked, namespace: metallb-system}, spec: {addresses: [198.18.0.220/32], autoAssign: false}}
---
{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: all, namespace: metallb-system}}
`)
	s.web()
	s.have(manifest("one", dualStack) + manifest("two", "externalTrafficPolicy: Local") + manifest("three", `loadBalancerIP: "198.18.0.220"`))
	given := s.allAddresses()
	var all []netip.Addr
	for _, addrs := range given {
		all = append(all, addrs...)
	}
	for _, a := range all {
		s.reachable(a)
	}

	if out, code, err := s.CLI(s.ctx, "", "migrate", "metallb"); err != nil || code != 0 { // nothing is refused, and no address would change
		t.Fatalf("migrate ended with %d, %v: %s", code, err, out)
	}
	s.must("scale", "-n", metalLB, "deployment/controller", "--replicas=0")
	chart := []string{"upgrade", "--install", "bellwether", filepath.Join(s.Repo, "charts", "bellwether"), "--namespace", product.Namespace,
		"--create-namespace", "--reset-values", "--set", "metallbObjects.namespace=" + metalLB}
	if out, err := s.Helm(s.ctx, append(chart, "--set", "speaker.nodeSelector.speakers=later")...); err != nil {
		t.Fatal(out)
	}
	s.must("rollout", "status", "-n", product.Namespace, "deployment/bellwether-controller", "--timeout=120s")
	stop, began := s.asking(20*time.Millisecond, all...), time.Now()
	s.must("delete", "-n", metalLB, "daemonset/speaker")
	if out, err := s.Helm(s.ctx, chart...); err != nil {
		t.Fatal(out)
	}
	for _, a := range all {
		s.owner(a, "")
		s.reachable(a)
	}
	record := stop()
	for _, a := range all {
		gap := record.Of(a).LongestGap(began, time.Now())
		t.Logf("%s went unanswered for %v", a, gap.Length().Round(time.Millisecond))
	}
	s.still(given)

	ours, code, err := s.CLI(s.ctx, "", "migrate", "metallb")
	if err != nil || code != 0 {
		t.Fatalf("migrate ended with %d, %v: %s", code, err, ours)
	}
	s.have(ours)
	s.act(s.InstallChart(s.ctx, "--reset-values"))
	s.must("delete", "-n", metalLB, metalLBsKinds, "--all")
	for _, a := range all {
		_, mac := s.owner(a, "")
		s.answeredBy(a, mac)
		s.reachable(a)
	}
	s.still(given)
	s.must("delete", "services", "one", "two", "three") // before their pools, which wait for them
}

// runMetalLB installs MetalLB by its own manifests until the test ends, but for its webhooks: the API server is on no node.
func (s *scene) runMetalLB() {
	s.Helper()
	s.act(s.LoadPrograms(s.ctx, components.MetalLB(), map[string]string{"controller": "metallb/controller", "speaker": "metallb/speaker"}))
	source, err := components.Source()
	s.act(err)
	where := exec.CommandContext(s.ctx, "go", "list", "-m", "-f", "{{.Dir}}", components.MetalLB().Module)
	where.Dir = filepath.Join(source, components.MetalLB().Name)
	dir, err := where.Output()
	s.act(err)
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config", "manifests", "metallb-native.yaml"))
	s.act(err)
	manifests := regexp.MustCompile(`image: \S+/(metallb/\w+):\S+`).ReplaceAllString(string(text), "image: $1:dev")
	manifests = strings.Replace(manifests, "- --log-level=info", "- --log-level=info\n        - --webhook-mode=disabled", 1)
	kept := slices.DeleteFunc(strings.Split(manifests, "\n---\n"), func(m string) bool { return strings.Contains(m, "kind: ValidatingWebhookConfiguration") })
	s.have(strings.Join(kept, "\n---\n"))
	s.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
	for _, workload := range []string{"deployment/controller", "daemonset/speaker"} {
		s.must("rollout", "status", "-n", metalLB, workload, "--timeout=120s")
	}
}

// allAddresses are what the Services of the takeover have.
func (s *scene) allAddresses() map[string][]netip.Addr {
	s.Helper()
	return map[string][]netip.Addr{"one": s.addresses("one", 2), "two": s.addresses("two", 1), "three": s.addresses("three", 1)}
}

// still checks that the Services have what they were given.
func (s *scene) still(given map[string][]netip.Addr) {
	s.Helper()
	if now := s.allAddresses(); fmt.Sprint(now) != fmt.Sprint(given) {
		s.Errorf("the Services had %v and have %v", given, now)
	}
}
