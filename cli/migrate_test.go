package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/bellwether-lb/bellwether/pkg/config/metallb"
)

func TestMigrateMetalLB(t *testing.T) {
	for _, c := range []struct {
		name, in, out, said string
		refused             bool
	}{
		{name: "a list, as kubectl prints it, and a document with comments alone",
			in: `# nothing
---
apiVersion: v1
kind: List
items:
- {apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: web, namespace: metallb-system, uid: x}, spec: {addresses: [192.0.2.0/28]}, status: {assignedIPv4: 1}}
- {apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: web, namespace: metallb-system}, spec: {ipAddressPools: [web]}}
`,
			out: `apiVersion: bellwether.dev/v1beta1
kind: IPAddressPool
metadata:
  name: web
spec:
  addresses:
  - 192.0.2.0/28
---
apiVersion: bellwether.dev/v1beta1
kind: L2Advertisement
metadata:
  name: web
spec:
  ipAddressPools:
  - web
`},
		{name: "what is missing is said, and refuses nothing", in: "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: a}, spec: {ipAddressPools: [none]}}",
			out:  "apiVersion: bellwether.dev/v1beta1\nkind: L2Advertisement\nmetadata:\n  name: a\nspec:\n  ipAddressPools:\n  - none\n",
			said: "L2Advertisement a: ipAddressPools names \"none\", but there is no IPAddressPool of that name: create it or correct the name\n"},
		{name: "what cannot be is refused", in: "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [192.0.2.300]}}", refused: true,
			out: "apiVersion: bellwether.dev/v1beta1\nkind: IPAddressPool\nmetadata:\n  name: a\nspec:\n  addresses:\n  - 192.0.2.300\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, said bytes.Buffer
			objects, err := readObjects(strings.NewReader(c.in))
			if err != nil {
				t.Fatal(err)
			}
			err = migrateMetalLB(metallb.Convert(objects, yaml.YAMLToJSON), &out, &said, "bellwether-system")
			if errors.Is(err, errSaid) != c.refused || err != nil && !c.refused {
				t.Errorf("it ends with %v", err)
			}
			if diff := cmp.Diff(c.out, out.String()); diff != "" {
				t.Error(diff)
			}
			if c.refused {
				if !strings.Contains(said.String(), "IPAddressPool a: ") {
					t.Errorf("it says %q", said.String())
				}
			} else if diff := cmp.Diff(c.said, said.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := readObjects(strings.NewReader("a: [\n")); err == nil {
		t.Error("what is no YAML is read")
	}
}
