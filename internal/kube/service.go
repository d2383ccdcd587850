package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// The annotations of a Service. Each is also read under MetalLB's prefixes by MetalLB's name for it.
const (
	AnnotationPool          = "bellwether.dev/address-pool"
	AnnotationAddresses     = "bellwether.dev/load-balancer-ips"
	AnnotationSharingKey    = "bellwether.dev/allow-shared-ip"
	AnnotationAllocatedFrom = "bellwether.dev/allocated-from"
	AnnotationSharedAs      = "bellwether.dev/shared-as"
)

// AnnotationDrain on a Node asks that others own what it owns, where they can. Any value but "false" counts.
const AnnotationDrain = "bellwether.dev/drain"

// DefaultLoadBalancerClass is the spec.loadBalancerClass that is ours besides none at all.
const DefaultLoadBalancerClass = "bellwether.dev/lb"

// Service is a Service as the controller and the speaker see it.
type Service struct {
	cluster.Service
	// Wanted is true for a `type: LoadBalancer` Service of our class; one that is being deleted is still wanted while it has finalizers.
	Wanted bool
	// Marked is true when a controller of ours has written to it.
	Marked bool
	// Ingress are the addresses in status.loadBalancer.ingress, whoever wrote them. Hostname says that an entry has
	// none.
	Ingress  []netip.Addr
	Hostname bool
	// Conditions are ours among status.conditions.
	Conditions []metav1.Condition
	Generation int64
}

// ServiceConverter returns the conversion of Services for one load balancer class. A Service that is neither wanted nor
// marked is of no interest, and little of it is kept.
func ServiceConverter(class string) func(*corev1.Service) Service {
	return func(wire *corev1.Service) Service {
		s := Service{
			Wanted:     isWanted(wire, class),
			Generation: wire.Generation,
			Marked:     wire.Annotations[AnnotationAllocatedFrom] != "" || hasOurCondition(wire),
		}
		s.Key = cluster.Key{Namespace: wire.Namespace, Name: wire.Name}
		if !s.Wanted && !s.Marked {
			return s
		}
		s.UID = string(wire.UID)
		s.Created = wire.CreationTimestamp.Unix()
		s.Labels = wire.Labels
		for _, f := range wire.Spec.IPFamilies {
			s.Families = append(s.Families, familyOf(f))
		}
		policy := wire.Spec.IPFamilyPolicy
		s.AllFamilies = policy != nil && *policy == corev1.IPFamilyPolicyRequireDualStack
		for _, p := range wire.Spec.Ports {
			s.Ports = append(s.Ports, cluster.Port{Protocol: string(p.Protocol), Number: uint16(p.Port)})
		}
		if wire.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
			s.TrafficPolicy = cluster.TrafficLocal
			s.HealthPort = uint16(wire.Spec.HealthCheckNodePort)
		}
		s.Selector = canonical(wire.Spec.Selector)
		s.readRequest(wire)
		s.readStatus(wire)
		return s
	}
}

func isWanted(wire *corev1.Service, class string) bool {
	if wire.Spec.Type != corev1.ServiceTypeLoadBalancer || wire.DeletionTimestamp != nil && len(wire.Finalizers) == 0 {
		return false
	}
	return wire.Spec.LoadBalancerClass == nil || *wire.Spec.LoadBalancerClass == class
}

func hasOurCondition(wire *corev1.Service) bool {
	return slices.ContainsFunc(wire.Status.Conditions, func(c metav1.Condition) bool { return isOurs(c.Type) })
}

func isOurs(conditionType string) bool { return strings.HasPrefix(conditionType, "bellwether.dev/") }

func familyOf(f corev1.IPFamily) cluster.Family {
	if f == corev1.IPv6Protocol {
		return cluster.IPv6
	}
	return cluster.IPv4
}

func canonical(selector map[string]string) string {
	pairs := make([]string, 0, len(selector))
	for k, v := range selector {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// annotation reads one of our annotations, or MetalLB's of that meaning where ours is not set.
func annotation(wire *corev1.Service, ours, alias string) (name, value string) {
	for _, name := range []string{ours, "metallb.io/" + alias, "metallb.universe.tf/" + alias} {
		if value, set := wire.Annotations[name]; set {
			return name, strings.TrimSpace(value)
		}
	}
	return ours, ""
}

// readRequest reads what the Service asks for.
func (s *Service) readRequest(wire *corev1.Service) {
	_, s.SharingKey = annotation(wire, AnnotationSharingKey, "allow-shared-ip")
	_, s.WantPool = annotation(wire, AnnotationPool, "address-pool")
	name, text := annotation(wire, AnnotationAddresses, "loadBalancerIPs")
	if text == "" {
		name, text = "spec.loadBalancerIP", wire.Spec.LoadBalancerIP
	}
	if text == "" {
		return
	}
	addrs, err := parseAddresses(text)
	if err != nil {
		s.RequestError = fmt.Sprintf("%s: %v", name, err)
		return
	}
	s.WantAddrs = addrs
}

// parseAddresses reads a comma-separated list with at most one address a family.
func parseAddresses(text string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		a, err := netip.ParseAddr(item)
		if err != nil || a.Zone() != "" {
			return nil, fmt.Errorf("%q is not an IP address: write one address, or one IPv4 and one IPv6 address with a comma between", item)
		}
		a = a.Unmap()
		if slices.ContainsFunc(addrs, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			return nil, fmt.Errorf("%q has two %s addresses: a Service has at most one of each family", text, cluster.FamilyOf(a))
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// readStatus reads what was written before, by us or by others.
func (s *Service) readStatus(wire *corev1.Service) {
	for _, in := range wire.Status.LoadBalancer.Ingress {
		a, err := netip.ParseAddr(in.IP)
		if err != nil {
			s.Hostname = true
			continue
		}
		s.Ingress = append(s.Ingress, a.Unmap())
	}
	if s.Marked || wire.Annotations["metallb.io/ip-allocated-from-pool"] != "" || wire.Annotations["metallb.universe.tf/ip-allocated-from-pool"] != "" {
		s.Held = s.Ingress
		_, from := annotation(wire, AnnotationAllocatedFrom, "ip-allocated-from-pool")
		s.HeldFrom = poolsOf(from, len(s.Held))
		s.SharedAs = wire.Annotations[AnnotationSharedAs]
	}
	for _, c := range wire.Status.Conditions {
		if isOurs(c.Type) {
			s.Conditions = append(s.Conditions, c)
		}
	}
}

// poolsOf reads the allocated-from annotation: one pool for all addresses, or one for each, with commas between.
func poolsOf(text string, addresses int) []string {
	if text == "" {
		return nil
	}
	names := strings.Split(text, ",")
	for len(names) < addresses {
		names = append(names, names[len(names)-1])
	}
	return names[:addresses:addresses]
}

// AllocatedFrom renders the allocated-from annotation.
func AllocatedFrom(pools []string) string {
	if len(slices.Compact(slices.Clone(pools))) == 1 {
		return pools[0]
	}
	return strings.Join(pools, ",")
}
