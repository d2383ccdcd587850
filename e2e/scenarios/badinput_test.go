package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// bad is an object that asks for what cannot be. It is refused by the API server, or accepted with a condition that says
// what to change.
type bad struct {
	what string
	kind string // pool, l2adv
	spec string
	says string // part of the sentence that the user gets
	// condition is where the sentence stands when the object is accepted; "" when it is refused.
	condition string
}

func badObjects() []bad {
	refused := func(what, spec, says string) bad { return bad{what: what, kind: "pool", spec: spec, says: says} }
	accepted := func(what, kind, spec, condition, says string) bad {
		return bad{what: what, kind: kind, spec: spec, condition: condition, says: says}
	}
	const forms = "write a CIDR (192.0.2.0/24), a range (192.0.2.10-192.0.2.20) or one address (192.0.2.7)"
	const unicast = "that your network routes"
	return []bad{
		refused("no addresses at all", `{}`, "spec.addresses: Required"),
		refused("an empty list of addresses", `{addresses: []}`, "should have at least 1 items"),
		refused("a word", `{addresses: [hello]}`, forms),
		refused("an empty string", `{addresses: [""]}`, forms),
		refused("a host name", `{addresses: [lb.example.com]}`, forms),
		refused("five octets", `{addresses: [192.0.2.1.5]}`, forms),
		refused("an octet too large", `{addresses: ["192.0.2.256"]}`, forms),
		refused("octets with leading zeros", `{addresses: ["192.0.02.1"]}`, forms),
		refused("a prefix too long", `{addresses: ["192.0.2.0/33"]}`, forms),
		refused("an IPv6 prefix too long", `{addresses: ["2001:db8::/129"]}`, forms),
		refused("a netmask", `{addresses: ["192.0.2.0/255.255.255.0"]}`, forms),
		refused("a prefix without a length", `{addresses: ["192.0.2.0/"]}`, forms),
		refused("a range without an end", `{addresses: ["192.0.2.1-"]}`, forms),
		refused("a range without a start", `{addresses: ["-192.0.2.9"]}`, forms),
		refused("a range by last octet", `{addresses: ["192.0.2.1-20"]}`, forms),
		refused("a range of three", `{addresses: ["192.0.2.1-192.0.2.2-192.0.2.3"]}`, forms),
		refused("a range of CIDRs", `{addresses: ["192.0.2.0/28-192.0.2.16/28"]}`, forms),
		refused("a list in one string", `{addresses: ["192.0.2.1,192.0.2.2"]}`, forms),
		refused("an address with a zone", `{addresses: ["fe80::1%eth0"]}`, forms),
		refused("an address with a port", `{addresses: ["192.0.2.1:80"]}`, forms),
		refused("an IPv4-mapped address", `{addresses: ["::ffff:192.0.2.1"]}`, forms),
		refused("a range across families", `{addresses: ["192.0.2.1-2001:db8::1"]}`, "mixes address families"),
		refused("a range that runs backwards", `{addresses: ["192.0.2.20-192.0.2.10"]}`, "write the lower address first"),
		refused("loopback", `{addresses: ["127.0.0.1"]}`, unicast),
		refused("IPv6 loopback", `{addresses: ["::1"]}`, unicast),
		refused("link-local", `{addresses: ["169.254.0.0/24"]}`, unicast),
		refused("IPv6 link-local", `{addresses: ["fe80::/64"]}`, unicast),
		refused("multicast", `{addresses: ["224.0.0.0/24"]}`, unicast),
		refused("IPv6 multicast", `{addresses: ["ff02::1"]}`, unicast),
		refused("the unspecified address", `{addresses: ["0.0.0.0"]}`, unicast),
		refused("the whole internet", `{addresses: ["0.0.0.0/0"]}`, unicast),
		refused("half the internet", `{addresses: ["128.0.0.0/1"]}`, "write a longer prefix"),
		refused("a range into multicast", `{addresses: ["223.0.0.1-224.0.0.1"]}`, unicast),
		refused("the same entry twice", `{addresses: ["192.0.2.1", "192.0.2.1"]}`, "Duplicate value"),
		refused("a bad exclusion", `{addresses: ["192.0.2.1"], excludedAddresses: [x]}`, forms),
		refused("an unknown protocol", `{addresses: ["192.0.2.1"], advertise: [OSPF]}`, `supported values: "L2"`),
		refused("the same protocol twice", `{addresses: ["192.0.2.1"], advertise: [L2, L2]}`, "spec.advertise"),
		refused("a negative priority", `{addresses: ["192.0.2.1"], serviceAllocation: {priority: -1}}`, "greater than or equal to 0"),
		refused("a namespace that cannot be", `{addresses: ["192.0.2.1"], serviceAllocation: {namespaces: ["Not_A_Name"]}}`, "spec.serviceAllocation.namespaces"),
		refused("an unknown sharing", `{addresses: ["192.0.2.1"], sharing: Everyone}`, `supported values: "SameNamespace", "AcrossNamespaces"`),
		refused("a string for a list", `{addresses: "192.0.2.1"}`, "spec.addresses"),
		refused("a string for a boolean", `{addresses: ["192.0.2.1"], autoAssign: "yes"}`, "spec.autoAssign"),
		refused("a field that does not exist", `{addresses: ["192.0.2.1"], adresses: ["192.0.2.2"]}`, `unknown field "spec.adresses"`),
		refused("a quota of nothing", `{addresses: ["192.0.2.1"], maxPerNamespace: 0}`, "greater than or equal to 1"),
		refused("a quota in words", `{addresses: ["192.0.2.1"], maxPerNamespace: "two"}`, "spec.maxPerNamespace"),
		refused("a reservation of no address", `{addresses: ["192.0.2.1"], reservations: [{address: web, service: {namespace: a, name: b}}]}`, "'web' is not an IP address: write one address"),
		refused("a reservation of a network", `{addresses: ["192.0.2.1"], reservations: [{address: "192.0.2.0/24", service: {namespace: a, name: b}}]}`, "is not an IP address: write one address"),
		refused("a reservation for nobody", `{addresses: ["192.0.2.1"], reservations: [{address: "192.0.2.1"}]}`, "service: Required"),
		refused("a reservation for a name that cannot be", `{addresses: ["192.0.2.1"], reservations: [{address: "192.0.2.1", service: {namespace: a, name: "B b"}}]}`, "service.name"),
		refused("a retention in words", `{addresses: ["192.0.2.1"], retainFor: forever}`, "is not a length of time: write one such as 10m or 24h"),
		refused("a negative retention", `{addresses: ["192.0.2.1"], retainFor: -5m}`, "is not a length of time: write one such as 10m or 24h"),
		refused("a retention without a unit", `{addresses: ["192.0.2.1"], retainFor: "10"}`, "is not a length of time: write one such as 10m or 24h"),
		refused("a retention in days", `{addresses: ["192.0.2.1"], retainFor: 2d}`, "is not a length of time: write one such as 10m or 24h"),
		refused("an unknown answer to changes", `{addresses: ["192.0.2.1"], onChange: Move}`, `supported values: "Keep", "Renumber"`),
		{what: "an interface with a slash", kind: "l2adv", spec: `{interfaces: ["eth0/1"]}`, says: "spec.interfaces"},
		{what: "a weight of 0", kind: "l2adv", spec: `{preferredNodeSelectors: [{weight: 0, preference: {}}]}`, says: "weight"},
		{what: "a weight over 100", kind: "l2adv", spec: `{preferredNodeSelectors: [{weight: 101, preference: {}}]}`, says: "weight"},
		{what: "a preference that selects nothing", kind: "l2adv", spec: `{preferredNodeSelectors: [{weight: 1}]}`, says: "preference"},
		{what: "an empty interface", kind: "l2adv", spec: `{interfaces: [""]}`, says: "spec.interfaces"},
		{what: "a pool name that cannot be", kind: "l2adv", spec: `{ipAddressPools: ["My Pool"]}`, says: "spec.ipAddressPools"},
		accepted("an IPv6 range that runs backwards", "pool", `{addresses: ["2001:db8::9-2001:db8::1"]}`, "Accepted", "runs backwards: write 2001:db8::1-2001:db8::9"),
		accepted("everything excluded", "pool", `{addresses: ["192.0.2.0/30"], excludedAddresses: ["192.0.2.0/24"]}`, "Accepted", "exclude fewer"),
		accepted("a selector with an unknown operator", "pool", `{addresses: ["192.0.2.1"], serviceAllocation: {serviceSelectors: [{matchExpressions: [{key: a, operator: Like, values: [b]}]}]}}`, "Accepted", "serviceSelectors[0]"),
		accepted("a selector without values", "pool", `{addresses: ["192.0.2.1"], serviceAllocation: {namespaceSelectors: [{matchExpressions: [{key: a, operator: In}]}]}}`, "Accepted", "namespaceSelectors[0]"),
		accepted("an overlap with an elder pool", "pool", `{addresses: ["198.18.0.240-198.18.0.250"]}`, "Overlaps", "belongs to the elder pool good"),
		accepted("a reservation of what the pool does not have", "pool", `{addresses: ["192.0.2.1"], reservations: [{address: "192.0.2.9", service: {namespace: a, name: b}}]}`, "Accepted", "reservations[0]: this pool does not give 192.0.2.9: add it to addresses"),
		accepted("a pool that nobody announces", "pool", `{addresses: ["192.0.2.1"]}`, "Advertised", "set advertise: [L2]"),
		accepted("an advertisement of a pool that is not there", "l2adv", `{ipAddressPools: [godo]}`, "Accepted", `there is no IPAddressPool of that name`),
		accepted("an interface glob that is not closed", "l2adv", `{interfaces: ["eth[0"], ipAddressPools: [good]}`, "Accepted", "close every ["),
		accepted("a node selector with a bad value", "l2adv", `{nodeSelectors: [{matchLabels: {a: "not a value!"}}], ipAddressPools: [good]}`, "Accepted", "nodeSelectors[0]"),
	}
}

func TestBadObjectsAreAnsweredWithASentenceAndHurtNothing(t *testing.T) {
	p, err := bringUp(t.Context(), lab.Options{Name: "badinput", Light: true, Nodes: 2, Log: t.Output()})
	if p != nil {
		t.Cleanup(func() {
			if err := p.Lab.Down(context.Background()); err != nil {
				t.Error("take the lab down:", err)
			}
		})
		keepLogsWhenFailed(t, p) // before it goes down
	}
	if err != nil {
		t.Fatal("bring up the lab:", err)
	}
	s := &scene{T: t, Product: p, ctx: t.Context()}
	s.pool("good", "198.18.0.240-198.18.0.245")
	s.have(manifest("steady", ""))
	a := s.addresses("steady", 1)[0]
	_, mac := s.owner(a, "")
	stop, prober := s.probing(20*time.Millisecond, a)

	for i, b := range badObjects() {
		t.Run(b.what, func(t *testing.T) { (&scene{T: t, Product: p, ctx: t.Context()}).tryBad(b, fmt.Sprintf("bad-%d", i)) })
	}
	s.badServicesHurtNothing(t)
	s.badEdits(a)

	record := stop()
	s.allAnswered(record, prober)
	if macs := record.MACs(); len(macs) != 1 || macs[0] != mac {
		t.Errorf("%s was answered for by %v meanwhile, want only %s", a, macs, mac)
	}
	if now := s.addresses("steady", 1)[0]; now != a {
		t.Errorf("the Service had %s and has %s", a, now)
	}
}

// tryBad applies one bad object and reads what the user is told.
func (s *scene) tryBad(b bad, name string) {
	kind := map[string]string{"pool": "IPAddressPool", "l2adv": "L2Advertisement"}[b.kind]
	object := fmt.Sprintf("{apiVersion: bellwether.dev/v1beta1, kind: %s, metadata: {name: %s}, spec: %s}", kind, name, b.spec)
	_, err := s.Apply(s.ctx, object)
	if b.condition == "" {
		if err == nil {
			_ = s.Delete(s.ctx, object)
			s.Fatalf("accepted, want it refused with %q", b.says)
		}
		if !strings.Contains(err.Error(), b.says) {
			s.Errorf("refused with %q, which does not say %q", err, b.says)
		}
		return
	}
	if err != nil {
		s.Fatalf("refused with %q, want it accepted with condition %s saying %q", err, b.condition, b.says)
	}
	var told string
	s.eventually(10*time.Second, "the condition says what to change", func() bool {
		told = s.must("get", b.kind, name, "-o", fmt.Sprintf(`jsonpath={.status.conditions[?(@.type==%q)].message}`, b.condition))
		return strings.Contains(told, b.says)
	})
	s.Logf("%s: %s", b.condition, told)
	if err := s.Delete(s.ctx, object); err != nil {
		s.Error(err)
	}
}

// badEdits makes the pool of an announced Service worse and worse; nothing of it may show on the wire.
func (s *scene) badEdits(a netip.Addr) {
	s.Helper()
	for _, edit := range []string{
		`{"spec":{"excludedAddresses":["198.18.0.0/16"]}}`,
		`{"spec":{"excludedAddresses":null,"addresses":["2001:db8::9-2001:db8::1"]}}`,
		`{"spec":{"serviceAllocation":{"serviceSelectors":[{"matchExpressions":[{"key":"a","operator":"Like"}]}]}}}`,
		`{"spec":{"serviceAllocation":{"namespaces":["nobody"]}}}`,
		`{"spec":{"addresses":["192.0.2.1"]}}`,
	} {
		s.must("patch", "pool", "good", "--type=merge", "-p", edit)
		time.Sleep(500 * time.Millisecond)
	}
	s.eventually(5*time.Second, "the Service says that no pool gives its address any more", func() bool {
		return strings.Contains(s.must("get", "service", "steady", "-o", `jsonpath={.status.conditions[?(@.type=="bellwether.dev/Allocated")].message}`), "keeps "+a.String())
	})
	s.must("patch", "pool", "good", "--type=merge", "-p", `{"spec":{"addresses":["198.18.0.240-198.18.0.245"],"serviceAllocation":null}}`)
	s.eventually(5*time.Second, "all is well again", func() bool {
		return s.must("get", "service", "steady", "-o", `jsonpath={.status.conditions[?(@.type=="bellwether.dev/Allocated")].reason}`) == "Allocated"
	})
}
