package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"

	"golang.org/x/sync/errgroup"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// allocation measures the controller: two replicas as processes, beside etcd and an API server whose flow control is off.
type allocation struct {
	*product.Product
	size
	client   kubernetes.Interface
	services typedcore.ServiceInterface
	seen     *sightings
	table    []figure
}

// size is how much is measured.
type size struct {
	many, most int // Services
	bursts     int // repetitions with many Services at once, odd
	singles    int // repetitions with one Service
	restarts   int
	deletions  int
}

// workers is how many requests of the measurement's own are under way at once.
const workers = 24

// namespace holds the Services.
const namespace = "bench"

// allocationLab is of one node, so that little else runs on the machine's cores.
func allocationLab() lab.Options {
	return lab.Options{Name: "benchalloc", Light: true, Nodes: 1, IPv4Only: true}
}

// The range of ClusterIPs that a lab has is too small for the most Services.
const allocationManifest = `{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: bench-1}, spec: {cidrs: ["198.19.160.0/19"]}}
---
{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: bench-2}, spec: {cidrs: ["198.19.144.0/20"]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: ` + namespace + `}}
`

// bulkPool is a pool for all Services, announced or not.
func bulkPool(advertise string) string {
	return fmt.Sprintf(`{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: bulk},
spec: {addresses: [%q], advertise: [%s]}}`, lab.Bulk4, advertise)
}

func measureAllocation(ctx context.Context, p *product.Product, out *report, short bool) error {
	client, err := p.Lab.Client()
	if err != nil {
		return err
	}
	a := &allocation{Product: p, client: client, services: client.CoreV1().Services(namespace),
		size: size{many: 2000, most: 10000, bursts: 3, singles: 20, restarts: 3, deletions: 3}}
	if short {
		a.size = size{many: 100, most: 300, bursts: 1, singles: 3, restarts: 1, deletions: 1}
	}
	if _, err := p.Apply(ctx, allocationManifest); err != nil {
		return err
	}
	watching, err := p.Lab.Client() // with a connection of its own
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if a.seen, err = see(ctx, watching.CoreV1().Services(namespace)); err != nil {
		return err
	}
	err = a.all(ctx)
	return out.table("allocation", a.table, err)
}

// all measures one thing after the other: first with a speaker that announces every address, then the controller alone.
func (a *allocation) all(ctx context.Context) error {
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"a pool that a speaker announces", func(ctx context.Context) error { return a.pool(ctx, "L2") }},
		{"one Service, nothing else present", func(ctx context.Context) error { return a.one(ctx, "nothing else present", 10) }},
		{"many Services at once, announced", func(ctx context.Context) error { return a.burst(ctx, a.bursts, "announced") }},
		{"one of many deleted, announced", func(ctx context.Context) error { return a.deleteOne(ctx, "announced") }},
		{"the controller alone", a.withoutSpeaker},
		{"many Services at once", func(ctx context.Context) error { return a.burst(ctx, a.bursts, "no speaker; pool not advertised") }},
		{"one Service, many present", func(ctx context.Context) error { return a.one(ctx, fmt.Sprintf("%d present", a.many), 20) }},
		{"one of many deleted", func(ctx context.Context) error { return a.deleteOne(ctx, "no speaker; pool not advertised") }},
		{"memory with many", func(ctx context.Context) error { return a.memory(ctx, a.many, 60) }},
		{"restarts with many", func(ctx context.Context) error { return a.restart(ctx, a.many, 1000) }},
		{"more Services", func(ctx context.Context) error { return a.grow(ctx, a.most) }},
		{"memory with most", func(ctx context.Context) error { return a.memory(ctx, a.most, 150) }},
		{"restarts with most", func(ctx context.Context) error { return a.restart(ctx, a.most, 3000) }},
	}
	begun := time.Now()
	for _, s := range steps {
		fmt.Fprintf(os.Stderr, "%5.0fs  %s\n", time.Since(begun).Seconds(), s.what)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

func (a *allocation) pool(ctx context.Context, advertise string) error {
	if _, err := a.Apply(ctx, bulkPool(advertise)); err != nil {
		return err
	}
	_, err := a.Kubectl(ctx, "wait", "--for=condition=Ready", "pool/bulk", "--timeout=30s")
	return err
}

// withoutSpeaker takes everything away that was for the speaker.
func (a *allocation) withoutSpeaker(ctx context.Context) error {
	if _, err := a.clear(ctx); err != nil {
		return err
	}
	speaker, err := a.Lab.Process(a.Lab.Nodes()[0].Name, "speaker")
	if err != nil {
		return err
	}
	if err := speaker.Stop(10 * time.Second); err != nil {
		return err
	}
	return a.pool(ctx, "")
}

// bareClass is nobody's.
const bareClass = "example.com/bare"

// service makes Service i, for the controller to serve, or for nobody when bare. It selects nothing and kube-proxy is not to
// look at it: nobody else has work with it. It brings its ClusterIP along, for the API server picks them one after the other,
// and that is what would be measured.
func service(i int, bare bool) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: nth(i), Labels: map[string]string{"service.kubernetes.io/service-proxy-name": "none"}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: new(false),
			ClusterIP: clusterIP(i), Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if bare {
		s.Spec.LoadBalancerClass = new(bareClass)
	}
	return s
}

func nth(i int) string { return fmt.Sprintf("service-%d", i) }

func clusterIP(i int) string {
	const inFirst = 8000
	if i < inFirst {
		return fmt.Sprintf("198.19.%d.%d", 160+(i+1)/256, (i+1)%256)
	}
	i -= inFirst
	return fmt.Sprintf("198.19.%d.%d", 144+(i+1)/256, (i+1)%256)
}

// extra is the first number of Services that are created one by one.
func (a *allocation) extra() int { return a.most }

// create creates Service i, and when it is bare writes its status, which is all that any controller must do.
func (a *allocation) create(ctx context.Context, i int, bare bool) error {
	s, err := a.services.Create(ctx, service(i, bare), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create Service %s: %w", nth(i), err)
	}
	if !bare {
		return nil
	}
	vip := corev1.LoadBalancerIPModeVIP
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &vip}}
	if _, err := a.services.UpdateStatus(ctx, s, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write the status of Service %s: %w", s.Name, err)
	}
	return nil
}

func (a *allocation) delete(ctx context.Context, name string) error {
	if err := a.services.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete Service %s: %w", name, err)
	}
	return nil
}

// clear deletes every Service, and returns what was written when nothing more is.
func (a *allocation) clear(ctx context.Context) (writes, error) {
	list, err := a.services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the Services: %w", err)
	}
	err = parallel(ctx, len(list.Items), func(ctx context.Context, i int) error { return a.delete(ctx, list.Items[i].Name) })
	if err != nil {
		return nil, err
	}
	if err := a.seen.await(ctx, "all Services to be gone", func() bool { return len(a.seen.addressed) == 0 }); err != nil {
		return nil, err
	}
	return a.settled(ctx)
}

// parallel does a thing n times, by as many workers as there are.
func parallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// leader finds the controller that holds the lease, and since when.
func (a *allocation) leader(ctx context.Context) (p *lab.Process, since time.Time, err error) {
	lease, err := a.client.CoordinationV1().Leases(product.Namespace).Get(ctx, "bellwether-controller", metav1.GetOptions{})
	if err != nil {
		return nil, since, fmt.Errorf("read the controller's lease: %w", err)
	}
	if lease.Spec.HolderIdentity == nil || lease.Spec.AcquireTime == nil {
		return nil, since, errors.New("nobody holds the controller's lease")
	}
	p, err = a.Lab.Process(lab.Control, *lease.Spec.HolderIdentity)
	return p, lease.Spec.AcquireTime.Time, err
}
