package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// badService is a Service that asks for what it cannot have. It stays pending and says why.
type badService struct {
	what   string
	asks   string // annotations
	spec   string // more of its spec
	reason string
	says   string // part of the sentence that the user gets
}

// badServicePools are what the bad Services meet, besides the pool "good" and the Service "steady".
const badServicePools = `
{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: asked},
spec: {addresses: ["198.51.100.0/29"], excludedAddresses: ["198.51.100.7"], autoAssign: false,
reservations: [{address: "198.51.100.1", service: {namespace: shop, name: front}}]}}
---
{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: closed},
spec: {addresses: ["203.0.113.0/29"], serviceAllocation: {namespaces: [nobody]}}}
---
{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: scarce},
spec: {addresses: ["198.51.100.64-198.51.100.70"], autoAssign: false, maxPerNamespace: 1}}
---
{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: full}, spec: {addresses: ["198.51.100.80"], autoAssign: false}}
---
{apiVersion: v1, kind: Service, metadata: {name: sharer, annotations: {bellwether.dev/address-pool: asked,
bellwether.dev/load-balancer-ips: "198.51.100.3", bellwether.dev/allow-shared-ip: k}},
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: local-sharer, annotations: {
bellwether.dev/load-balancer-ips: "198.51.100.4", bellwether.dev/allow-shared-ip: k}},
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: first, annotations: {bellwether.dev/address-pool: scarce}},
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: only, annotations: {bellwether.dev/address-pool: full}},
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}}
---
`

func badServices() []badService {
	const addresses, alias = "bellwether.dev/load-balancer-ips", "metallb.io/loadBalancerIPs"
	asking := func(name, value string) string { return fmt.Sprintf("%s: %q", name, value) }
	const forms = "write one address, or one IPv4 and one IPv6 address with a comma between"
	invalid := func(what, value, says string) badService {
		return badService{what, asking(addresses, value), "", "InvalidRequest", says}
	}
	sharing := func(what, key, spec, says string) badService {
		return badService{what, asking(addresses, "198.51.100.3") + ", " + asking("bellwether.dev/allow-shared-ip", key), spec, "ShareConflict", says}
	}
	return []badService{
		invalid("a word for an address", "web", addresses+`: "web" is not an IP address: `+forms),
		invalid("an octet too large", "198.18.0.300", forms),
		invalid("a CIDR for an address", "198.18.0.241/32", forms),
		invalid("a range for an address", "198.18.0.241-198.18.0.242", forms),
		invalid("an address with a zone", "fe80::1%eth0", forms),
		invalid("an address with a port", "198.18.0.241:80", forms),
		invalid("a comma too many", "198.18.0.241,", `"" is not an IP address`),
		invalid("a space for a comma", "198.18.0.241 2001:db8::1", forms),
		invalid("two of a family", "198.18.0.241,198.18.0.242", "has two IPv4 addresses: a Service has at most one of each family"),
		invalid("two of the other", "2001:db8::1,2001:db8::2", "has two IPv6 addresses"),
		{"a bad address by MetalLB's name", asking(alias, "x"), "", "InvalidRequest", alias + `: "x" is not an IP address`},
		{"a bad address by MetalLB's old name", asking("metallb.universe.tf/loadBalancerIPs", "x"), "", "InvalidRequest", `metallb.universe.tf/loadBalancerIPs: "x" is not`},
		{"a bad address in the spec", "", "loadBalancerIP: x", "InvalidRequest", `spec.loadBalancerIP: "x" is not an IP address`},
		{"an address that no pool has", asking(addresses, "192.0.2.77"), "", "AddressNotInPool", "no pool has 192.0.2.77; ask for another address, or add it to a pool"},
		{"an address that is excluded", asking(addresses, "198.51.100.7"), "", "AddressNotInPool", "no pool has 198.51.100.7"},
		{"an address of the spec that no pool has", "", `loadBalancerIP: "192.0.2.77"`, "AddressNotInPool", "no pool has 192.0.2.77"},
		{"an address of a family that it does not have", asking(addresses, "2001:db8::1"), "ipFamilies: [IPv4]", "FamilyMismatch", "this Service has no IPv6; add the family to spec.ipFamilies"},
		{"a pool that there is not", asking("bellwether.dev/address-pool", "nope"), "", "PoolNotFound", "there is no IPAddressPool nope; create it, or correct the annotation"},
		{"a pool that there is not, by MetalLB's name", asking("metallb.io/address-pool", "nope"), "", "PoolNotFound", "there is no IPAddressPool nope"},
		{"a pool for others", asking("bellwether.dev/address-pool", "closed"), "", "PoolNotAllowed", "pool closed gives nothing to this Service; look at its serviceAllocation"},
		{"an address of a pool for others", asking(addresses, "203.0.113.1"), "", "PoolNotAllowed", "203.0.113.1 is in pool closed, which gives nothing to this Service"},
		{"an address of another pool than the one asked for", asking(addresses, "198.18.0.241") + ", " + asking("bellwether.dev/address-pool", "asked"), "", "AddressNotInPool",
			"pool asked does not have 198.18.0.241; ask for an address that it has, or for another pool"},
		{"a family that the pool asked for has not", asking("bellwether.dev/address-pool", "asked"), "ipFamilies: [IPv6]", "NoEligiblePool", "pool asked has no IPv6 addresses"},
		{"a family that no pool has", "", "ipFamilies: [IPv6]", "NoEligiblePool", "no pool gives IPv6 addresses to this Service; look at autoAssign and serviceAllocation"},
		{"both families where there is one", "", dualStack, "NoEligiblePool", "no pool gives IPv6 addresses"},
		{"an address that is reserved for another", asking(addresses, "198.51.100.1"), "", "AddressReserved", "198.51.100.1 is kept for Service shop/front by the reservations"},
		{"more than the namespace may have", asking("bellwether.dev/address-pool", "scarce"), "", "QuotaExceeded", "namespace default has all the IPv4 addresses that maxPerNamespace allows it from pool scarce"},
		{"a pool that is full", asking("bellwether.dev/address-pool", "full"), "", "Exhausted", "no IPv4 address is free in pool full; add addresses, or delete Services that use them"},
		{"an address that another holds", asking(addresses, "198.51.100.80"), "", "ShareConflict", "198.51.100.80 is held by Service default/only, and the two cannot share it: they differ in, or clash on, their sharing key"},
		sharing("a sharing key that the other does not have", "other", "", "their sharing key"),
		sharing("a port that the other has", "k", "", "clash on, their port"),
		sharing("another externalTrafficPolicy than the other's", "k", "ports: [{port: 443}], externalTrafficPolicy: Local", "their externalTrafficPolicy"),
		{"Local, with other endpoints than the other's", asking(addresses, "198.51.100.4") + ", " + asking("bellwether.dev/allow-shared-ip", "k"),
			"ports: [{port: 443}], externalTrafficPolicy: Local, selector: {app: else}", "ShareConflict", "their selector"},
	}
}

// tryBadService creates a bad Service and reads what the user is told; then mends it, which must be enough.
func (s *scene) tryBadService(b badService, name string) {
	spec := b.spec
	if !strings.Contains(spec, "ports:") {
		spec += ", ports: [{port: 80}]"
	}
	if !strings.Contains(spec, "selector:") {
		spec += ", selector: {app: web}"
	}
	object := fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s, annotations: {%s}}, spec: {type: LoadBalancer, %s}}",
		name, b.asks, strings.TrimPrefix(spec, ", "))
	if _, err := s.Apply(s.ctx, object); err != nil {
		s.Fatal(err)
	}
	defer func() {
		if err := s.Delete(s.ctx, object); err != nil {
			s.Error(err)
		}
	}()
	var told string
	s.eventually(10*time.Second, "the Service says why it has no address", func() bool {
		told = s.must("get", "service", name, "-o", `jsonpath={.status.conditions[?(@.type=="bellwether.dev/Allocated")]['status','reason','message']}`)
		return strings.HasPrefix(told, "False "+b.reason+" ") && strings.Contains(told, b.says)
	})
	s.Log(told)
	if given := s.must("get", "service", name, "-o", "jsonpath={.status.loadBalancer.ingress}"); given != "" {
		s.Errorf("and has %s all the same", given)
	}
}

// badServicesHurtNothing tries all bad Services beside good ones.
func (s *scene) badServicesHurtNothing(t *testing.T) {
	s.have(badServicePools)
	for _, name := range []string{"sharer", "local-sharer", "first", "only"} {
		s.addresses(name, 1)
	}
	for i, b := range badServices() {
		t.Run(b.what, func(t *testing.T) {
			(&scene{T: t, Product: s.Product, ctx: t.Context()}).tryBadService(b, fmt.Sprintf("asker-%d", i))
		})
	}
}
