// Package chart has the tests of the Helm chart that need no cluster.
package chart

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// everything turns on all that is off by default.
func everything() []string {
	return []string{"--set", "networkPolicy.enabled=true,monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true"}
}

func repo(t *testing.T) string {
	t.Helper()
	repo, err := product.Repo()
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	bins, err := components.Ensure(t.Context(), os.Stderr, components.Helm())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), bins["helm"], args...).CombinedOutput()
	return string(out), err
}

func template(t *testing.T, args ...string) (string, error) {
	t.Helper()
	all := []string{"template", "bellwether", filepath.Join(repo(t), "charts", "bellwether"), "--namespace", product.Namespace, "--kube-version", "1.34.0"}
	return helm(t, append(all, args...)...)
}

func TestTheChartHasNoFlaws(t *testing.T) {
	if out, err := helm(t, append([]string{"lint", "--strict", filepath.Join(repo(t), "charts", "bellwether")}, everything()...)...); err != nil {
		t.Errorf("helm lint: %v: %s", err, out)
	}
}

// objects are manifests by kind and name.
type objects map[string]map[string]any

func parse(t *testing.T, manifests string) objects {
	t.Helper()
	all := objects{}
	for document := range strings.SplitSeq(manifests, "\n---") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(document+"\n"), &o); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		if o == nil {
			continue
		}
		meta, _ := o["metadata"].(map[string]any)
		name, _ := meta["name"].(string)
		kind, _ := o["kind"].(string)
		all[kind+" "+name] = o
	}
	return all
}

// kustomize builds one of the folders of config.
func kustomize(t *testing.T, folder string) objects {
	t.Helper()
	bins, err := components.Ensure(t.Context(), os.Stderr, components.Kubernetes())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), bins["kubectl"], "kustomize", filepath.Join(repo(t), "config", folder)).Output()
	if err != nil {
		t.Fatalf("kubectl kustomize %s: %v", folder, err)
	}
	return parse(t, string(out))
}

// TestTheChartAndKustomizeSayTheSame of everything that both have. Only the chart has a NetworkPolicy; only kustomize makes the namespace.
func TestTheChartAndKustomizeSayTheSame(t *testing.T) {
	out, err := template(t, append([]string{"--include-crds"}, everything()...)...)
	if err != nil {
		t.Fatal(out)
	}
	chart, want := parse(t, out), asInTheChart(kustomize(t, "default"))
	maps.Copy(want, kustomize(t, "monitoring"))
	delete(chart, "NetworkPolicy bellwether-controller")
	if diff := cmp.Diff(want, chart); diff != "" {
		t.Errorf("kustomize (-) and the chart (+) differ:\n%s", diff)
	}
}

// TestVariants holds the same for what is installed in other ways than by default.
func TestVariants(t *testing.T) {
	for folder, value := range map[string]string{"metallb": "metallbObjects.namespace=metallb-system", "statuspage": "statusPage.enabled=true", "securemetrics": "secureMetrics.enabled=true"} {
		out, err := template(t, "--include-crds", "--set", value)
		if err != nil {
			t.Fatal(out)
		}
		if diff := cmp.Diff(asInTheChart(kustomize(t, folder)), parse(t, out)); diff != "" {
			t.Errorf("kustomize (-) and the chart (+) differ with %s:\n%s", value, diff)
		}
	}
}

// asInTheChart leaves out of what kustomize builds what the chart does not have: the namespace, and labels of what helm installs as it is.
func asInTheChart(all objects) objects {
	delete(all, "Namespace "+product.Namespace)
	for name, o := range all {
		if strings.HasPrefix(name, "CustomResourceDefinition ") {
			meta, _ := o["metadata"].(map[string]any)
			delete(meta, "labels")
		}
	}
	return all
}

func TestValuesThatAreWrongAreRefused(t *testing.T) {
	for _, c := range []struct{ set, says string }{
		{"controller.replicas=0", "/controller/replicas"},
		{"controler.replicas=2", "controler"},
		{"imagePullPolicy=Sometimes", "/imagePullPolicy"},
		{"speaker.kubeProxyHealthzPort=70000", "/speaker/kubeProxyHealthzPort"},
		{"speaker.extraArgs[0]=debug", "/speaker/extraArgs/0"},
		{"ipAddressPools[0].spec.addresses[0]=192.0.2.0/24", "name"},
	} {
		if out, err := template(t, "--set", c.set); err == nil || !strings.Contains(out, c.says) {
			t.Errorf("%s is taken, or refused without %q: %s", c.set, c.says, out)
		}
	}
}

func TestValuesBecomeObjects(t *testing.T) {
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte(`
loadBalancerClass: example.com/bellwether
speaker: {kubeProxyHealthzPort: 0, extraArgs: [--log-level=debug]}
ipAddressPools: [{name: public, labels: {zone: a}, spec: {addresses: [192.0.2.0/24], advertise: [L2]}}]
bgpPeers: [{name: router, spec: {myASN: 64512, peerASN: 65001, peerAddress: 192.0.2.1}}]
`), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := template(t, "-f", values)
	if err != nil {
		t.Fatal(out)
	}
	all := parse(t, out)
	for _, name := range []string{"IPAddressPool public", "BGPPeer router"} {
		if all[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	for _, text := range []string{"--load-balancer-class=example.com/bellwether", "--kube-proxy-healthz-port=0", "--log-level=debug", "zone: a"} {
		if !strings.Contains(out, text) {
			t.Errorf("%q is nowhere", text)
		}
	}
}
