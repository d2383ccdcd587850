package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// standing is what one Service has: "address on node" of each address, sorted.
type standing map[string]string

// foretold is what the tests read of `bellwether plan -o json`.
type foretold struct {
	Services []struct {
		Service string
		After   struct {
			Addresses []struct{ Address, Owner string }
		}
	}
}

// editor edits the configuration at random.
type editor struct {
	*ledgered
	random *rand.Rand
	pools  map[string]bool
	advs   map[string]bool
}

// standing reads what every Service has now, and who says that it answers.
func (s *editor) standing() standing {
	s.Helper()
	owners := map[string]string{}
	for line := range strings.Lines(s.must("get", "speakers", "-o", `jsonpath={range .items[*]}{.metadata.name}{range .status.layer2.owned[*]} {.address}{end}{"\n"}{end}`)) {
		said := strings.Fields(line)
		for _, a := range said[1:] {
			owners[a] += said[0]
		}
	}
	services, err := s.client.CoreV1().Services("").List(s.ctx, metav1.ListOptions{})
	s.act(err)
	is := standing{}
	for _, service := range services.Items {
		if service.Spec.Type == corev1.ServiceTypeLoadBalancer {
			var has []string
			for _, in := range service.Status.LoadBalancer.Ingress {
				has = append(has, in.IP+" on "+owners[in.IP])
			}
			slices.Sort(has)
			is[service.Namespace+"/"+service.Name] = strings.Join(has, ", ")
		}
	}
	return is
}

// foretell asks what would be if an edit were made.
func (s *editor) foretell(now standing, manifest string, args ...string) standing {
	s.Helper()
	args = append([]string{"plan", "-o", "json"}, args...)
	if manifest != "" {
		args = append(args, "-f", "-")
	}
	out, _, err := s.CLI(s.ctx, manifest, args...)
	s.act(err)
	var plan foretold
	if err := json.Unmarshal([]byte(out), &plan); err != nil {
		s.Fatalf("bellwether %s printed what is not JSON: %v: %s", strings.Join(args, " "), err, out)
	}
	then := maps.Clone(now)
	for _, c := range plan.Services {
		var has []string
		for _, a := range c.After.Addresses {
			has = append(has, a.Address+" on "+a.Owner)
		}
		slices.Sort(has)
		then[c.Service] = strings.Join(has, ", ")
	}
	return then
}

// pick returns one of some texts.
func (s *editor) pick(of ...string) string { return of[s.random.IntN(len(of))] }

// edit returns a manifest, or what is to be deleted.
func (s *editor) next() (manifest, deleted string) {
	if s.random.IntN(3) > 0 {
		name := s.pick("a", "b", "c")
		if s.pools[name] && s.random.IntN(8) == 0 {
			return "", "ipaddresspool/" + name
		}
		first := map[string]int{"a": 200, "b": 210, "c": 220}[name] + s.random.IntN(3)
		spec := []string{fmt.Sprintf(`addresses: ["198.18.0.%d-198.18.0.%d"]`, first, first+s.random.IntN(7)), "advertise: " + s.pick("[L2]", "[L2]", "[]")}
		spec = append(spec, s.pick("", "", "autoAssign: false"), s.pick("", "", "", "onChange: Renumber"), s.pick("", "", "maxPerNamespace: 2"),
			s.pick("", "", "serviceAllocation: {namespaces: [default]}", "serviceAllocation: {priority: 1}"))
		spec = slices.DeleteFunc(spec, func(field string) bool { return field == "" })
		return fmt.Sprintf("{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: %s}, spec: {%s}}", name, strings.Join(spec, ", ")), ""
	}
	name := s.pick("left", "right")
	if s.advs[name] && s.random.IntN(3) == 0 {
		return "", "l2advertisement/" + name
	}
	spec := []string{s.pick("", "ipAddressPools: [a]", "ipAddressPools: [b, c]", "ipAddressPools: [nowhere]"), s.pick("", "", "interfaces: [eth0]", "interfaces: [bond0]"),
		s.pick("", "", "nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node-1}}]"), s.pick("", "preferredNodeSelectors: [{weight: 5, preference: {matchLabels: {kubernetes.io/hostname: node-2}}}]")}
	spec = slices.DeleteFunc(spec, func(field string) bool { return field == "" })
	return fmt.Sprintf("{apiVersion: bellwether.dev/v1beta1, kind: L2Advertisement, metadata: {name: %s}, spec: {%s}}", name, strings.Join(spec, ", ")), ""
}

// TestPlanForetellsWhatHappens makes random edits, each after it has been asked what it would do.
func TestPlanForetellsWhatHappens(t *testing.T) {
	seed, edits := numberFrom(t, "BELLWETHER_SEED", rand.Uint64()), numberFrom(t, "BELLWETHER_PLANS", 20)
	t.Logf("BELLWETHER_SEED=%d BELLWETHER_PLANS=%d", seed, edits)
	s := &editor{ledgered: onSegment(t), random: rand.New(rand.NewPCG(seed, 1)), pools: map[string]bool{}, advs: map[string]bool{}}
	s.calm()
	t.Cleanup(func() {
		if _, err := s.Kubectl(context.WithoutCancel(s.ctx), "delete", "l2advertisements", "--all"); err != nil {
			t.Error("clean up:", err)
		}
	})
	s.namespace("other", nil)
	for i := range 12 {
		var asks []func(*corev1.Service)
		if i%4 == 3 {
			asks = append(asks, annotated("bellwether.dev/address-pool", []string{"a", "b", "c"}[i/4]))
		}
		s.createIn([]string{"default", "other"}[i%2], fmt.Sprintf("planned-%d", i), asks...)
	}
	for i := range int(edits) {
		now := s.standing()
		manifest, deleted := s.next()
		var then standing
		if deleted != "" {
			then = s.foretell(now, "", "--delete", deleted)
			s.must("delete", deleted, "--wait=false")
		} else {
			then = s.foretell(now, manifest)
			if _, err := s.Apply(s.ctx, manifest); err != nil {
				t.Fatal(err)
			}
		}
		s.note(manifest, deleted)
		var is standing
		s.within(i, manifest+deleted, now, then, func() standing { is = s.standing(); return is })
	}
}

// note keeps what there is.
func (s *editor) note(manifest, deleted string) {
	for _, name := range []string{"a", "b", "c", "left", "right"} {
		of := s.pools
		if len(name) > 1 {
			of = s.advs
		}
		if strings.Contains(manifest, "{name: "+name+"}") {
			of[name] = true
		}
		if strings.HasSuffix(deleted, "/"+name) {
			of[name] = false
		}
	}
}

// within waits until everything is as foretold, and stays so.
func (s *editor) within(i int, edit string, before, then standing, read func() standing) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for steady := 0; steady < 3; time.Sleep(200 * time.Millisecond) {
		is := read()
		if maps.Equal(is, then) {
			steady++
			continue
		}
		steady = 0
		if time.Now().Before(deadline) {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(then)) {
			if is[key] != then[key] {
				s.Errorf("%s: had %q, was foretold %q, has %q", key, before[key], then[key], is[key])
			}
		}
		s.Fatalf("edit %d did not do what was foretold: %s", i, edit)
	}
}
