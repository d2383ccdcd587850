package kube

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Node is a Node as announcing sees it.
func Node(wire *corev1.Node) cluster.Node {
	n := cluster.Node{Name: wire.Name, Labels: wire.Labels}
	for _, a := range wire.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			n.Addrs = append(n.Addrs, addr.Unmap())
		}
	}
	for _, c := range wire.Status.Conditions {
		switch {
		case c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue:
			n.NetworkUnavailable = true
		case c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue:
			n.NotReadySince = c.LastTransitionTime.Unix()
		}
	}
	if drain, annotated := wire.Annotations[AnnotationDrain]; annotated {
		n.Draining = drain != "false"
	}
	n.OutOfService = slices.ContainsFunc(wire.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
	_, n.Excluded = wire.Labels[corev1.LabelNodeExcludeBalancers]
	return n
}

// Namespace keeps a namespace's labels.
func Namespace(wire *corev1.Namespace) map[string]string { return maps.Clone(wire.Labels) }

// Endpoints is an EndpointSlice reduced to which nodes serve which Service.
type Endpoints struct {
	Service cluster.Key
	Serving []string // node names, sorted
}

// Slice converts an EndpointSlice. An endpoint counts while it serves and is not on its way out; where the slice says
// nothing about serving, readiness stands for it.
func Slice(wire *discoveryv1.EndpointSlice) Endpoints {
	e := Endpoints{Service: cluster.Key{Namespace: wire.Namespace, Name: wire.Labels[discoveryv1.LabelServiceName]}}
	for _, endpoint := range wire.Endpoints {
		if endpoint.NodeName != nil && serves(endpoint.Conditions) {
			e.Serving = append(e.Serving, *endpoint.NodeName)
		}
	}
	slices.Sort(e.Serving)
	e.Serving = slices.Compact(e.Serving)
	return e
}

func serves(c discoveryv1.EndpointConditions) bool {
	if c.Terminating != nil && *c.Terminating {
		return false
	}
	if c.Serving != nil {
		return *c.Serving
	}
	return c.Ready == nil || *c.Ready
}

// Bare keeps of one of our own objects what is read later, without managed fields and the annotation that kubectl leaves.
func Bare[T any, P interface {
	*T
	metav1.Object
	DeepCopy() P
}](wire P) T {
	out := wire.DeepCopy()
	out.SetManagedFields(nil)
	out.SetAnnotations(nil)
	return *out
}

// Said is what a speaker says in its object, reduced to what allocation and conditions read.
type Said struct {
	Node      string
	Owned     []netip.Addr // answered for
	Links     []netip.Addr // of the node's own links
	Gateways  []netip.Addr
	Conflicts []v1beta1.AddressConflict
	Peers     []string     // BGPPeers that the speaker has established sessions with
	Local     []netip.Addr // of Services with TrafficLocal, that it has told a router
}

// Speaker converts a Speaker object. What it says that cannot be read is passed over.
func Speaker(wire *v1beta1.Speaker) Said {
	said := Said{Node: wire.Name, Conflicts: wire.Status.Layer2.Conflicts}
	add := func(to *[]netip.Addr, text string) {
		if a, err := netip.ParseAddr(text); err == nil {
			*to = append(*to, a.Unmap())
		}
	}
	for _, o := range wire.Status.Layer2.Owned {
		add(&said.Owned, o.Address)
	}
	for _, a := range wire.Status.BGP.Local {
		add(&said.Local, a)
	}
	for _, session := range wire.Status.BGP.Sessions {
		if session.State == v1beta1.SessionEstablished {
			said.Peers = append(said.Peers, session.Peer)
		}
	}
	for _, l := range wire.Status.Links {
		for _, p := range l.Prefixes {
			address, _, _ := strings.Cut(p, "/")
			add(&said.Links, address)
		}
		for _, g := range l.Gateways {
			add(&said.Gateways, g)
		}
	}
	return said
}
