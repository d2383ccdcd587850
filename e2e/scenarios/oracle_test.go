package scenarios

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/bellwether-lb/bellwether/e2e/holds"
)

// rule is a pool as the oracle knows it: what the documentation says of its object, and nothing of how the product reads it.
type rule struct {
	name      string
	addresses []string // each one range FIRST-LAST
	excluded  []string // single addresses
	request   bool     // autoAssign: false
	avoid     bool     // avoidBuggyIPs
	across    bool     // sharing: AcrossNamespaces
	label     string   // value of the label "tier" that a namespace needs; "" admits all
	priority  int
}

// manifest is what goes between the braces of the pool's spec.
func (r rule) manifest() string {
	spec := fmt.Sprintf(`addresses: [%s], excludedAddresses: [%s], autoAssign: %t, avoidBuggyIPs: %t`,
		strings.Join(r.addresses, ", "), strings.Join(r.excluded, ", "), !r.request, r.avoid)
	if r.across {
		spec += ", sharing: AcrossNamespaces"
	}
	if r.label != "" {
		spec += fmt.Sprintf(", serviceAllocation: {priority: %d, namespaceSelectors: [{matchLabels: {tier: %s}}]}", r.priority, r.label)
	}
	return spec
}

// all lists the addresses that the pool may give.
func (r rule) all() []netip.Addr {
	var out []netip.Addr
	for _, text := range r.addresses {
		first, last, _ := strings.Cut(text, "-")
		for a, end := netip.MustParseAddr(first), netip.MustParseAddr(last); a.Compare(end) <= 0; a = a.Next() {
			if !slices.Contains(r.excluded, a.String()) {
				out = append(out, a)
			}
		}
	}
	return out
}

// oracle says what a Service may have, from the rules for users and the Services as they stand.
type oracle struct {
	rules   []rule
	tiers   map[string]string // by namespace
	pools   map[netip.Addr]int
	holders map[netip.Addr][]*corev1.Service
}

func newOracle(rules []rule, tiers map[string]string, services []*corev1.Service) *oracle {
	o := &oracle{rules: rules, tiers: tiers, pools: map[netip.Addr]int{}, holders: map[netip.Addr][]*corev1.Service{}}
	for i, r := range rules {
		for _, a := range r.all() {
			o.pools[a] = i
		}
	}
	for _, s := range services {
		for _, a := range held(s) {
			o.holders[a] = append(o.holders[a], s)
		}
	}
	return o
}

func held(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// asked are the addresses that a Service asks for.
func asked(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for text := range strings.SplitSeq(s.Annotations["bellwether.dev/load-balancer-ips"], ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func family(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// refuses says why the rules do not let a Service have an address, whoever else has it; "" where they do.
func (o *oracle) refuses(s *corev1.Service, a netip.Addr) string {
	at, covered := o.pools[a]
	if !covered {
		return "no pool has it"
	}
	r := o.rules[at]
	byName := false
	for _, want := range asked(s) {
		if family(want) == family(a) {
			if byName = want == a; !byName {
				return "another was asked for"
			}
		}
	}
	wantPool := s.Annotations["bellwether.dev/address-pool"]
	last := a.AsSlice()[len(a.AsSlice())-1]
	switch {
	case !slices.Contains(s.Spec.IPFamilies, family(a)):
		return "the Service is not of its family"
	case r.label != "" && o.tiers[s.Namespace] != r.label:
		return "its pool does not admit the namespace"
	case wantPool != "" && wantPool != r.name:
		return "another pool was asked for"
	case r.request && wantPool == "" && !byName:
		return "its pool gives only what is asked for"
	case r.avoid && a.Is4() && !byName && (last == 0 || last == 255):
		return "its pool avoids it"
	}
	return ""
}

// open returns an address of a family that a Service could be given now.
func (o *oracle) open(s *corev1.Service, f corev1.IPFamily) (netip.Addr, bool) {
	for a, at := range o.pools {
		if family(a) != f || o.refuses(s, a) != "" {
			continue
		}
		taken := slices.ContainsFunc(o.holders[a], func(other *corev1.Service) bool {
			return other.UID != s.UID && !holds.MayShare(s, other, o.rules[at].across)
		})
		if !taken {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// judge says what is wrong with what a Service has, one sentence each.
func (o *oracle) judge(s *corev1.Service) []string {
	var wrong []string
	fault := func(format string, args ...any) {
		wrong = append(wrong, s.Namespace+"/"+s.Name+" "+fmt.Sprintf(format, args...))
	}
	has := held(s)
	var pools []string
	for i, a := range has {
		if why := o.refuses(s, a); why != "" {
			fault("has %s, but %s", a, why)
			continue
		}
		pools = append(pools, o.rules[o.pools[a]].name)
		if i > 0 && (family(a) == family(has[0]) || a.Is4()) {
			fault("has %v, want at most one IPv4 and then one IPv6 address", has)
		}
		for _, other := range o.holders[a] {
			if other.UID != s.UID && !holds.MayShare(s, other, o.rules[o.pools[a]].across) {
				fault("has %s, and so has %s/%s", a, other.Namespace, other.Name)
			}
		}
	}
	if from := s.Annotations["bellwether.dev/allocated-from"]; from != strings.Join(slices.Compact(pools), ",") {
		fault("was allocated from %q, want %v", from, pools)
	}
	o.judgeMissing(s, has, fault)
	return wrong
}

// judgeMissing says what is wrong with what a Service lacks, and with what it says about that.
func (o *oracle) judgeMissing(s *corev1.Service, has []netip.Addr, fault func(string, ...any)) {
	var missing []corev1.IPFamily
	for _, f := range s.Spec.IPFamilies {
		if !slices.ContainsFunc(has, func(a netip.Addr) bool { return family(a) == f }) {
			missing = append(missing, f)
		}
	}
	reason := reasonOf(s)
	if mismatch := slices.ContainsFunc(asked(s), func(a netip.Addr) bool { return !slices.Contains(s.Spec.IPFamilies, family(a)) }); mismatch {
		if len(has) > 0 || reason != "FamilyMismatch" {
			fault("asks for a family that it is not of, has %v and says %q", has, reason)
		}
		return
	}
	if len(missing) == 0 {
		if reason != "Allocated" {
			fault("has all that it needs and says %q: %s", reason, messageOf(s))
		}
		return
	}
	all := *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack
	if all && len(has) > 0 {
		fault("needs both families and has only %v", has)
	}
	free := 0
	for _, f := range missing {
		a, is := o.open(s, f)
		if is {
			free++
		}
		if is && !all {
			fault("lacks %s and says %q (%s), though %s is free", f, reason, messageOf(s), a)
		}
	}
	if free == len(missing) {
		fault("has nothing and says %q (%s), though all that it needs is free", reason, messageOf(s))
	}
	if want := o.reasons(s, missing); !slices.Contains(want, reason) {
		fault("lacks %v and says %q (%s), want one of %v", missing, reason, messageOf(s), want)
	}
}

// reasons are those that a Service may give for what it lacks: one for each family that is not to be had.
func (o *oracle) reasons(s *corev1.Service, missing []corev1.IPFamily) []string {
	var list []string
	for _, f := range missing {
		if _, is := o.open(s, f); !is {
			list = append(list, o.reason(s, f))
		}
	}
	return list
}

// reason is why a Service cannot have an address of a family.
func (o *oracle) reason(s *corev1.Service, f corev1.IPFamily) string {
	pool := s.Annotations["bellwether.dev/address-pool"]
	at := slices.IndexFunc(o.rules, func(r rule) bool { return r.name == pool })
	notAllowed := func(i int) bool { return o.rules[i].label != "" && o.rules[i].label != o.tiers[s.Namespace] }
	for _, want := range asked(s) {
		holder, covered := o.pools[want]
		switch {
		case family(want) != f:
			continue
		case !covered || (pool != "" && o.rules[holder].name != pool):
			return "AddressNotInPool"
		case notAllowed(holder):
			return "PoolNotAllowed"
		}
		return "ShareConflict"
	}
	switch {
	case pool != "" && at < 0:
		return "PoolNotFound"
	case pool != "" && notAllowed(at):
		return "PoolNotAllowed"
	}
	for a := range o.pools {
		if family(a) == f && o.refuses(s, a) == "" {
			return "Exhausted"
		}
	}
	return "NoEligiblePool"
}
