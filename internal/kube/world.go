package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"golang.org/x/sync/errgroup"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
	"github.com/bellwether-lb/bellwether/pkg/config/metallb"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

// LeaseName is the name of the Lease that the controller which leads holds.
const LeaseName = "bellwether-controller"

// Reading says what of a cluster is read.
type Reading struct {
	Namespace string // that Bellwether runs in
	Class     string // its load balancer class
	// MetalLB is the namespace of MetalLB's objects that it works on besides its own; "" for none.
	MetalLB string
	// Also is read though it is not of type LoadBalancer; no Service where it is zero.
	Also cluster.Key
	// NotReadyDelay is how long a Node may be not Ready before that counts, as the speakers have it.
	NotReadyDelay time.Duration
}

// ReadWorld reads what explanations and plans are made from.
func (c *Client) ReadWorld(ctx context.Context, r Reading) (*explain.World, error) {
	var (
		services   corev1.ServiceList
		nodes      corev1.NodeList
		namespaces corev1.NamespaceList
		endpoints  discoveryv1.EndpointSliceList
		speakers   v1beta1.SpeakerList
		also       *corev1.Service
		objects    config.Objects
		controller explain.Controller
		running    map[string]bool
	)
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error { return list(working, OnlyLoadBalancers(c.Services("")), &services) })
	group.Go(func() error { return list(working, c.Nodes, &nodes) })
	group.Go(func() error { return list(working, c.Namespaces, &namespaces) })
	group.Go(func() error { return list(working, c.Slices, &endpoints) })
	group.Go(func() error { return list(working, c.Speakers, &speakers) })
	group.Go(func() (err error) { objects, err = c.ReadObjects(working, r.MetalLB); return err })
	group.Go(func() (err error) { controller, err = c.leader(working, r.Namespace); return err })
	group.Go(func() (err error) { running, err = c.running(working, r.Namespace); return err })
	if r.Also != (cluster.Key{}) {
		group.Go(func() (err error) {
			also, err = c.Services(r.Also.Namespace).Get(working, r.Also.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				also, err = nil, nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("read the cluster: %w", err)
	}
	if also != nil && also.Spec.Type != corev1.ServiceTypeLoadBalancer {
		services.Items = append(services.Items, *also)
	}
	w := &explain.World{Namespace: r.Namespace, Controller: controller, Speakers: speakers.Items, Objects: objects, Running: running}
	w.Config, w.Problems = config.Parse(objects)
	for i := range nodes.Items {
		n := Node(&nodes.Items[i])
		n.NotReady = n.NotReadySince > 0 && time.Since(time.Unix(n.NotReadySince, 0)) >= r.NotReadyDelay
		w.Nodes = append(w.Nodes, n)
	}
	counted := countEndpoints(endpoints.Items)
	labels := map[string]map[string]string{}
	for i := range namespaces.Items {
		labels[namespaces.Items[i].Name] = namespaces.Items[i].Labels
	}
	for i := range services.Items {
		s := explained(&services.Items[i], r.Class)
		s.NamespaceLabels = labels[s.Key.Namespace]
		if e := counted[s.Key]; e != nil {
			s.Endpoints, s.Waiting, s.Serving = e.serving, e.waiting, e.nodes
		}
		w.Services = append(w.Services, s)
	}
	return w, nil
}

// list reads all objects of a kind as the API server's cache has them.
func list[L any, P interface {
	*L
	runtime.Object
}](ctx context.Context, from Lister[P], into P) error {
	got, err := from.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err == nil {
		*into = *got
	}
	return err
}

// ReadObjects reads all objects that a Config is parsed from; those of MetalLB in a namespace besides, where one is given.
func (c *Client) ReadObjects(ctx context.Context, metalLB string) (o config.Objects, err error) {
	var (
		pools       v1beta1.IPAddressPoolList
		l2          v1beta1.L2AdvertisementList
		peers       v1beta1.BGPPeerList
		bgp         v1beta1.BGPAdvertisementList
		profiles    v1beta1.BFDProfileList
		communities v1beta1.CommunityList
	)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return list(ctx, c.Pools, &pools) })
	group.Go(func() error { return list(ctx, c.L2, &l2) })
	group.Go(func() error { return list(ctx, c.Peers, &peers) })
	group.Go(func() error { return list(ctx, c.BGP, &bgp) })
	group.Go(func() error { return list(ctx, c.Profiles, &profiles) })
	group.Go(func() error { return list(ctx, c.Communities, &communities) })
	var theirs metallb.Result
	if metalLB != "" {
		group.Go(func() (err error) { theirs, err = c.ReadMetalLB(ctx, metalLB); return err })
	}
	if err := group.Wait(); err != nil {
		return o, err
	}
	o = config.Objects{Pools: pools.Items, L2Advertisements: l2.Items, BGPPeers: peers.Items, BGPAdvertisements: bgp.Items,
		BFDProfiles: profiles.Items, Communities: communities.Items}
	return United(o, theirs.Objects), nil
}

// running returns the nodes that speakers run on as Pods; nil where Pods may not be read, or none of Bellwether's programs is one.
func (c *Client) running(ctx context.Context, namespace string) (map[string]bool, error) {
	pods, err := c.Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=bellwether", ResourceVersion: "0"})
	if apierrors.IsForbidden(err) || err == nil && len(pods.Items) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	nodes := map[string]bool{}
	for i := range pods.Items {
		p := &pods.Items[i]
		runs := slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.State.Running != nil })
		if p.Labels["app.kubernetes.io/component"] == "speaker" && runs {
			nodes[p.Spec.NodeName] = true
		}
	}
	return nodes, nil
}

// leader reads who leads. A lease that looks old may be of a clock that is not ours: it is read again to see whether it is renewed.
func (c *Client) leader(ctx context.Context, namespace string) (explain.Controller, error) {
	const old, again = 10 * time.Second, 5 * time.Second
	lease, err := c.Leases(namespace).Get(ctx, LeaseName, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return explain.Controller{}, nil
	case apierrors.IsNotFound(err):
		return explain.Controller{Known: true}, nil
	case err != nil:
		return explain.Controller{}, err
	}
	is := explain.Controller{Known: true, Holder: holder(lease)}
	if is.Holder == "" || lease.Spec.RenewTime == nil {
		return is, nil
	}
	if is.Running = time.Since(lease.Spec.RenewTime.Time).Abs() < old; is.Running {
		return is, nil
	}
	select {
	case <-ctx.Done():
		return is, ctx.Err()
	case <-time.After(again):
	}
	now, err := c.Leases(namespace).Get(ctx, LeaseName, metav1.GetOptions{})
	if err != nil {
		return is, err
	}
	is.Running = now.ResourceVersion != lease.ResourceVersion && holder(now) != ""
	return is, nil
}

func holder(l *coordinationv1.Lease) string {
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// explained is a Service with all that an explanation says of it.
func explained(wire *corev1.Service, class string) explain.Service {
	s := ServiceConverter(class)(wire)
	out := explain.Service{Service: s.Service, Type: string(wire.Spec.Type), Ours: s.Wanted, Marked: s.Marked, Conditions: s.Conditions,
		SourceRanges: wire.Spec.LoadBalancerSourceRanges}
	out.Ingress, out.Hostname, out.Selector = s.Ingress, s.Hostname, canonical(wire.Spec.Selector)
	if wire.Spec.LoadBalancerClass != nil {
		out.Class = *wire.Spec.LoadBalancerClass
	}
	return out
}

type counted struct {
	serving, waiting int
	nodes            []string
}

func countEndpoints(wire []discoveryv1.EndpointSlice) map[cluster.Key]*counted {
	all := map[cluster.Key]*counted{}
	for i := range wire {
		e := Slice(&wire[i])
		c := all[e.Service]
		if c == nil {
			c = &counted{}
			all[e.Service] = c
		}
		c.nodes = append(c.nodes, e.Serving...)
		for _, endpoint := range wire[i].Endpoints {
			if serves(endpoint.Conditions) {
				c.serving++
			} else {
				c.waiting++
			}
		}
	}
	for _, c := range all {
		slices.Sort(c.nodes)
		c.nodes = slices.Compact(c.nodes)
	}
	return all
}
