package scenarios

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// TestNobodyHasARightThatIsNotUsed: each program is refused nothing of what it asks the API server for, and has no right that it does not
// use while all that it does is done once. The API server's own audit log says what was asked for.
func TestNobodyHasARightThatIsNotUsed(t *testing.T) {
	options := lab.Options{Name: "rights", Nodes: 2, IPv4Only: true, Light: true, Audit: true, Log: os.Stderr}
	t.Cleanup(func() {
		if err := lab.Down(context.Background(), options.Name); err != nil {
			t.Error(err)
		}
	})
	p, err := bringUp(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{T: t, Product: p, ctx: t.Context()}
	s.doesEverythingOnce()
	speaker, err := p.Lab.Process("node-2", "speaker")
	s.act(err)
	s.act(speaker.Kill()) // the other one clears its object

	// What shows only when something breaks in the right instant.
	faults := []string{"bellwether-controller get services"} // what became of a write that got no answer
	rights := s.rights()
	s.eventually(patience, "every right is used", func() bool {
		used, refused := s.asked()
		if len(refused) > 0 {
			t.Fatalf("refused: %v", refused)
		}
		var idle []string
		for _, right := range rights {
			if !slices.Contains(used, right) && !slices.Contains(faults, right) {
				idle = append(idle, right)
			}
		}
		t.Logf("of %d rights not used yet: %v", len(rights), idle)
		return len(idle) == 0
	})
	for _, beyond := range [][]string{
		{"bellwether-speaker", "patch", "services", "--subresource=status"}, {"bellwether-speaker", "update", "nodes"}, {"bellwether-speaker", "get", "secrets", "-n", "default"},
		{"bellwether-controller", "list", "secrets"}, {"bellwether-controller", "update", "services"}, {"bellwether-controller", "delete", "ipaddresspools"},
		{"bellwether-controller", "create", "pods"}, {"bellwether-speaker", "create", "pods"},
	} {
		args := append([]string{"auth", "can-i", "--as=system:serviceaccount:" + product.Namespace + ":" + beyond[0]}, beyond[1:]...)
		if out, err := s.Kubectl(s.ctx, args...); err == nil || !strings.Contains(out+err.Error(), "no") {
			t.Errorf("%v: %q", beyond, out)
		}
	}
}

// doesEverythingOnce has the programs read and write all that they ever do.
func (s *scene) doesEverythingOnce() {
	s.Helper()
	s.have(`{apiVersion: v1, kind: Secret, metadata: {name: router, namespace: ` + product.Namespace + `}, type: kubernetes.io/basic-auth, stringData: {password: swordfish}}
---
{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: all}, spec: {addresses: [198.18.0.200-198.18.0.209]}}
---
{apiVersion: bellwether.dev/v1beta1, kind: L2Advertisement, metadata: {name: all}, spec: {}}
---
{apiVersion: bellwether.dev/v1beta1, kind: BGPAdvertisement, metadata: {name: all}, spec: {communities: [blue]}}
---
{apiVersion: bellwether.dev/v1beta1, kind: Community, metadata: {name: names}, spec: {communities: [{name: blue, value: "64512:9"}]}}
---
{apiVersion: bellwether.dev/v1beta1, kind: BFDProfile, metadata: {name: fast}, spec: {}}
---
{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: router}, spec: {myASN: 64512, peerASN: 65001, peerAddress: 198.18.0.1, bfdProfile: fast, passwordSecret: {name: router}}}
`)
	const web = `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: default, annotations: {bellwether.dev/load-balancer-ips: "ADDRESS"}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}`
	s.have(`{apiVersion: v1, kind: Service, metadata: {name: local, namespace: default}, spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: none}, ports: [{port: 80}]}}`)
	s.have(strings.Replace(web, "ADDRESS", "198.18.0.205", 1))
	for _, a := range []string{"198.18.0.205", "198.18.0.206", "198.18.0.205", "198.18.0.206"} { // what is said again is an event that is patched
		if _, err := s.Apply(s.ctx, strings.Replace(web, "ADDRESS", a, 1)); err != nil {
			s.Fatal(err)
		}
		s.eventually(patience, "the Service is announced with "+a, func() bool {
			return s.must("get", "service", "web", "-o", `jsonpath={.status.loadBalancer.ingress[*].ip} {.status.conditions[?(@.type=="bellwether.dev/Announced")].status}`) == a+" "+string(corev1.ConditionTrue)
		})
	}
}

// rights are what the roles of config/rbac allow: program, verb, resource.
func (s *scene) rights() []string {
	s.Helper()
	var all []string
	for _, program := range []string{"controller", "speaker"} {
		text, err := os.ReadFile(filepath.Join(s.Repo, "config", "rbac", program+".yaml"))
		s.act(err)
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			var role rbacv1.Role // a ClusterRole has the same fields
			s.act(yaml.Unmarshal(document, &role))
			for _, rule := range role.Rules {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						all = append(all, "bellwether-"+program+" "+verb+" "+resource)
					}
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// asked is what the programs have asked the API server for, in the same form, and what of it was refused.
func (s *scene) asked() (used, refused []string) {
	s.Helper()
	log, err := os.Open(s.Lab.AuditLog())
	s.act(err)
	defer func() { _ = log.Close() }()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Verb string
			User struct{ Username string }
			Ref  struct{ Resource, Subresource string } `json:"objectRef"`

			Annotations map[string]string
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue // it is being written
		}
		program, ours := strings.CutPrefix(line.User.Username, "system:serviceaccount:"+product.Namespace+":")
		if !ours || line.Ref.Resource == "" {
			continue
		}
		what := program + " " + line.Verb + " " + line.Ref.Resource
		if line.Ref.Subresource != "" {
			what += "/" + line.Ref.Subresource
		}
		if line.Annotations["authorization.k8s.io/decision"] != "allow" {
			refused = append(refused, what)
			continue
		}
		used = append(used, what)
	}
	s.act(lines.Err())
	slices.Sort(used)
	return slices.Compact(used), refused
}
