package kube

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func loadBalancer(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1", Generation: 3,
		CreationTimestamp: metav1.NewTime(time.Unix(1000, 0)), Annotations: map[string]string{}}}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	for _, c := range change {
		c(s)
	}
	return s
}

func annotated(pairs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

func ingress(entries ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for _, e := range entries {
			in := corev1.LoadBalancerIngress{IP: e}
			if _, err := netip.ParseAddr(e); err != nil {
				in = corev1.LoadBalancerIngress{Hostname: e}
			}
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, in)
		}
	}
}

func ourCondition(s *corev1.Service) {
	s.Status.Conditions = append(s.Status.Conditions, metav1.Condition{Type: "example.com/Other"}, metav1.Condition{Type: v1beta1.ConditionAllocated, Reason: "Exhausted"})
}

func convert(s *corev1.Service) Service { return ServiceConverter(DefaultLoadBalancerClass)(s) }

func TestAServiceAsksByOurAnnotationsOrMetalLBs(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*corev1.Service)
		pool   string
		key    string
		addrs  []netip.Addr
		bad    string
	}{
		{name: "one that asks for nothing", change: annotated()},
		{name: "a pool", change: annotated(AnnotationPool, "web"), pool: "web"},
		{name: "a pool, as MetalLB's newer name", change: annotated("metallb.io/address-pool", "web"), pool: "web"},
		{name: "a pool, as MetalLB's older name", change: annotated("metallb.universe.tf/address-pool", "web"), pool: "web"},
		{name: "our name counts before MetalLB's", change: annotated(AnnotationPool, "ours", "metallb.io/address-pool", "theirs"), pool: "ours"},
		{name: "the newer of MetalLB's names counts before the older",
			change: annotated("metallb.universe.tf/address-pool", "old", "metallb.io/address-pool", "new"), pool: "new"},
		{name: "our name with nothing in it hides MetalLB's", change: annotated(AnnotationPool, "", "metallb.io/address-pool", "theirs")},
		{name: "spaces around a value do not count", change: annotated(AnnotationPool, " web ", AnnotationSharingKey, " k "), pool: "web", key: "k"},
		{name: "a sharing key", change: annotated(AnnotationSharingKey, "k"), key: "k"},
		{name: "a sharing key, as MetalLB's", change: annotated("metallb.universe.tf/allow-shared-ip", "k"), key: "k"},
		{name: "an address", change: annotated(AnnotationAddresses, "192.0.2.7"), addrs: addrs("192.0.2.7")},
		{name: "an address of each family", change: annotated(AnnotationAddresses, "2001:db8::7, 192.0.2.7"), addrs: addrs("2001:db8::7", "192.0.2.7")},
		{name: "addresses, as MetalLB's", change: annotated("metallb.io/loadBalancerIPs", "192.0.2.7"), addrs: addrs("192.0.2.7")},
		{name: "an address in the spec", change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.8" }, addrs: addrs("192.0.2.8")},
		{name: "the annotation counts before the spec", change: func(s *corev1.Service) {
			s.Spec.LoadBalancerIP = "192.0.2.8"
			annotated("metallb.io/loadBalancerIPs", "192.0.2.7")(s)
		}, addrs: addrs("192.0.2.7")},
		{name: "an IPv4-mapped address is an IPv4 address", change: annotated(AnnotationAddresses, "::ffff:192.0.2.7"), addrs: addrs("192.0.2.7")},
		{name: "no address at all", change: annotated(AnnotationAddresses, "web"),
			bad: `bellwether.dev/load-balancer-ips: "web" is not an IP address: write one address, or one IPv4 and one IPv6 address with a comma between`},
		{name: "the sentence names the annotation that was read", change: annotated("metallb.universe.tf/loadBalancerIPs", "1.2.3"),
			bad: `metallb.universe.tf/loadBalancerIPs: "1.2.3" is not an IP address: write one address, or one IPv4 and one IPv6 address with a comma between`},
		{name: "or the field", change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.0/24" },
			bad: `spec.loadBalancerIP: "192.0.2.0/24" is not an IP address: write one address, or one IPv4 and one IPv6 address with a comma between`},
		{name: "two of a family", change: annotated(AnnotationAddresses, "192.0.2.7,192.0.2.8"),
			bad: `bellwether.dev/load-balancer-ips: "192.0.2.7,192.0.2.8" has two IPv4 addresses: a Service has at most one of each family`},
		{name: "two of the other", change: annotated(AnnotationAddresses, "2001:db8::1,2001:db8::2"),
			bad: `bellwether.dev/load-balancer-ips: "2001:db8::1,2001:db8::2" has two IPv6 addresses: a Service has at most one of each family`},
		{name: "a comma too many", change: annotated(AnnotationAddresses, "192.0.2.7,"),
			bad: `bellwether.dev/load-balancer-ips: "" is not an IP address: write one address, or one IPv4 and one IPv6 address with a comma between`},
		{name: "an address with a zone", change: annotated(AnnotationAddresses, "fe80::1%eth0"),
			bad: `bellwether.dev/load-balancer-ips: "fe80::1%eth0" is not an IP address: write one address, or one IPv4 and one IPv6 address with a comma between`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := convert(loadBalancer(c.change))
			if s.WantPool != c.pool || s.SharingKey != c.key || !slices.Equal(s.WantAddrs, c.addrs) || s.RequestError != c.bad {
				t.Errorf("got pool %q, key %q, addresses %v, error %q", s.WantPool, s.SharingKey, s.WantAddrs, s.RequestError)
			}
		})
	}
}

func TestWhichServicesAreOursToServe(t *testing.T) {
	now := metav1.Now()
	class := func(c string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &c }
	}
	for _, c := range []struct {
		name           string
		change         func(*corev1.Service)
		wanted, marked bool
	}{
		{"one without a class", annotated(), true, false},
		{"one of our class", class(DefaultLoadBalancerClass), true, false},
		{"one of another class is not", class("example.com/lb"), false, false},
		{"one of another type is not", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, false, false},
		{"one on its way out that somebody still holds", func(s *corev1.Service) {
			s.DeletionTimestamp, s.Finalizers = &now, []string{"service.kubernetes.io/load-balancer-cleanup"}
		}, true, false},
		{"one that has gone is not", func(s *corev1.Service) { s.DeletionTimestamp = &now }, false, false},
		{"one with our annotation is marked", annotated(AnnotationAllocatedFrom, "pool"), true, true},
		{"one with our condition is marked", ourCondition, true, true},
		{"one that was ours is marked and not wanted", func(s *corev1.Service) { class("example.com/lb")(s); ourCondition(s) }, false, true},
		{"MetalLB's annotation is not our mark", annotated("metallb.io/ip-allocated-from-pool", "pool"), true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := convert(loadBalancer(c.change))
			if s.Wanted != c.wanted || s.Marked != c.marked {
				t.Errorf("wanted %t, marked %t; want %t, %t", s.Wanted, s.Marked, c.wanted, c.marked)
			}
			if !c.wanted && !c.marked && (s.UID != "" || s.Families != nil) {
				t.Errorf("keeps more than the key of a Service that is of no interest: %+v", s)
			}
		})
	}
}

func TestWhatAServiceHolds(t *testing.T) {
	for _, c := range []struct {
		name           string
		changes        []func(*corev1.Service)
		held, ingress  []netip.Addr
		from           []string
		hostname       bool
		conditionTypes int
	}{
		{name: "nothing"},
		{name: "addresses with our mark", changes: []func(*corev1.Service){annotated(AnnotationAllocatedFrom, "p"), ingress("192.0.2.1", "2001:db8::1")},
			held: addrs("192.0.2.1", "2001:db8::1"), ingress: addrs("192.0.2.1", "2001:db8::1"), from: []string{"p", "p"}},
		{name: "one from each of two pools", changes: []func(*corev1.Service){annotated(AnnotationAllocatedFrom, "p,q"), ingress("192.0.2.1", "2001:db8::1")},
			held: addrs("192.0.2.1", "2001:db8::1"), ingress: addrs("192.0.2.1", "2001:db8::1"), from: []string{"p", "q"}},
		{name: "an address that MetalLB gave", changes: []func(*corev1.Service){annotated("metallb.universe.tf/ip-allocated-from-pool", "m"), ingress("192.0.2.1")},
			held: addrs("192.0.2.1"), ingress: addrs("192.0.2.1"), from: []string{"m"}},
		{name: "addresses of somebody else's are not held", changes: []func(*corev1.Service){ingress("203.0.113.1")}, ingress: addrs("203.0.113.1")},
		{name: "a hostname is no address", changes: []func(*corev1.Service){ingress("lb.example.com")}, hostname: true},
		{name: "a hostname beside an address", changes: []func(*corev1.Service){ourCondition, ingress("192.0.2.1", "lb.example.com")},
			held: addrs("192.0.2.1"), ingress: addrs("192.0.2.1"), hostname: true, conditionTypes: 1},
		{name: "an address in another form is the same", changes: []func(*corev1.Service){ourCondition, ingress("2001:DB8:0::1")},
			held: addrs("2001:db8::1"), ingress: addrs("2001:db8::1"), conditionTypes: 1},
		{name: "more pools than addresses", changes: []func(*corev1.Service){annotated(AnnotationAllocatedFrom, "p,q,r"), ingress("192.0.2.1")},
			held: addrs("192.0.2.1"), ingress: addrs("192.0.2.1"), from: []string{"p"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := convert(loadBalancer(c.changes...))
			if !slices.Equal(s.Held, c.held) || !slices.Equal(s.Ingress, c.ingress) || !slices.Equal(s.HeldFrom, c.from) || s.Hostname != c.hostname {
				t.Errorf("holds %v from %v, ingress %v, hostname %t", s.Held, s.HeldFrom, s.Ingress, s.Hostname)
			}
			if len(s.Conditions) != c.conditionTypes {
				t.Errorf("keeps %d conditions, want our %d", len(s.Conditions), c.conditionTypes)
			}
		})
	}
}

func TestAllocatedFromComesBackAsItWasWritten(t *testing.T) {
	for _, pools := range [][]string{{"p"}, {"p", "p"}, {"p", "q"}, {"q", "p"}} {
		if got := poolsOf(AllocatedFrom(pools), len(pools)); !slices.Equal(got, pools) {
			t.Errorf("%v was written as %q and read as %v", pools, AllocatedFrom(pools), got)
		}
	}
	if got := AllocatedFrom(nil); got != "" {
		t.Errorf("no pool is written as %q", got)
	}
	if got := poolsOf("", 2); got != nil {
		t.Errorf("no annotation is read as %v", got)
	}
}

func TestTheSpecOfAServiceIsKeptInOurWords(t *testing.T) {
	require := corev1.IPFamilyPolicyRequireDualStack
	got := convert(loadBalancer(func(s *corev1.Service) {
		s.Labels = map[string]string{"tier": "web"}
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		s.Spec.IPFamilyPolicy = &require
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.Selector = map[string]string{"b": "2", "a": "1"}
		s.Spec.Ports = []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}, {Protocol: corev1.ProtocolUDP, Port: 53}}
	})).Service
	want := cluster.Service{
		Key: cluster.Key{Namespace: "default", Name: "web"}, UID: "u1", Created: 1000, Labels: map[string]string{"tier": "web"},
		Families: []cluster.Family{cluster.IPv6, cluster.IPv4}, AllFamilies: true, TrafficPolicy: cluster.TrafficLocal, Selector: "a=1,b=2",
		Ports: []cluster.Port{{Protocol: "TCP", Number: 80}, {Protocol: "UDP", Number: 53}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}
