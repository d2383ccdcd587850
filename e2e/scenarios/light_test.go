package scenarios

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/bellwether-lb/bellwether/e2e/holds"
	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// patience is how long anything may take on a machine that has much else to do. What is waited for takes a second.
const patience = 90 * time.Second

// ledgered is a scene on the light lab, where every change of a Service is seen.
type ledgered struct {
	*scene
	client  kubernetes.Interface
	holds   *holds.Stream
	across  func(netip.Addr) bool
	unwatch func() // ends the watch of holds, and reports what was held twice
}

// onLightLab begins a scenario on the shared light lab: two controllers, and no traffic. The law of allocation is checked at
// every change of a Service until its end. across says which addresses one sharing key may be used for from several namespaces.
func onLightLab(t *testing.T, across func(netip.Addr) bool) *ledgered {
	t.Helper()
	return ledgeredOn(t, light, across)
}

// onSegment begins a scenario on the light lab that has several nodes.
func onSegment(t *testing.T) *ledgered {
	t.Helper()
	return ledgeredOn(t, segmented, nil)
}

func ledgeredOn(t *testing.T, on *shared, across func(netip.Addr) bool) *ledgered {
	t.Helper()
	p, err := on.up()
	if err != nil {
		t.Fatal("bring up the light lab:", err)
	}
	keepLogsWhenFailed(t, p)
	s := &ledgered{scene: &scene{T: t, Product: p, ctx: t.Context()}, across: across}
	if s.client, err = p.Lab.Client(); err != nil {
		t.Fatal(err)
	}
	s.watch()
	t.Cleanup(func() {
		s.sweep(context.WithoutCancel(s.ctx)) // the end of the test is watched too
		s.unwatch()
	})
	return s
}

// watch begins to check the law of allocation, from what there is now.
func (s *ledgered) watch() {
	s.Helper()
	var err error
	if s.holds, err = holds.Open(s.ctx, s.client.CoreV1(), holds.NewLedger(s.across)); err != nil {
		s.Fatal(err)
	}
	stream := s.holds
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	done := make(chan error, 1)
	go func() { done <- stream.Run(ctx) }()
	s.unwatch = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.Error(err)
		}
		for _, double := range stream.Doubles() {
			s.Error("held twice:", double)
		}
	})
}

// sweep leaves two controllers running, and neither Services of type LoadBalancer nor pools.
func (s *ledgered) sweep(ctx context.Context) {
	for _, name := range controllers() {
		if err := s.revive(name); err != nil {
			s.Error(err)
		}
	}
	services, err := s.client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		s.Error("clean up:", err)
		return
	}
	var wg sync.WaitGroup
	for _, service := range services.Items {
		if service.Spec.Type == corev1.ServiceTypeLoadBalancer {
			wg.Go(func() {
				if err := s.remove(ctx, service.Namespace, service.Name); err != nil {
					s.Error("clean up:", err)
				}
			})
		}
	}
	wg.Wait()
	if _, err := s.Kubectl(ctx, "delete", "ipaddresspools", "--all", "--timeout=90s"); err != nil {
		s.Error("clean up:", err)
	}
}

// remove deletes a Service that may be gone.
func (s *ledgered) remove(ctx context.Context, namespace, name string) error {
	err := s.client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// poolOf has a pool until the end of the test, or changes it; spec is what stands between the braces.
func (s *ledgered) poolOf(name, spec string) {
	s.Helper()
	if _, err := s.Apply(s.ctx, fmt.Sprintf("{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: %s}, spec: {%s}}", name, spec)); err != nil {
		s.Fatal(err)
	}
}

// namespace has a namespace with these labels and no others of ours. It stays: to delete one takes long.
func (s *ledgered) namespace(name string, labels map[string]string) {
	s.Helper()
	namespaces := s.client.CoreV1().Namespaces()
	want := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	_, err := namespaces.Create(s.ctx, want, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = namespaces.Update(s.ctx, want, metav1.UpdateOptions{})
	}
	s.act(err)
}

// wanting returns a Service of type LoadBalancer that takes no node port: there are too few of them for thousands.
func wanting(namespace, name string, edits ...func(*corev1.Service)) *corev1.Service {
	no := false
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
			Selector: map[string]string{"app": "web"}, AllocateLoadBalancerNodePorts: &no,
		},
	}
	for _, edit := range edits {
		edit(service)
	}
	return service
}

func annotated(name, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { metav1.SetMetaDataAnnotation(&s.ObjectMeta, name, value) }
}

func ofPolicy(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.IPFamilyPolicy = &policy }
}

// create makes Services in the namespace default.
func (s *ledgered) create(name string, edits ...func(*corev1.Service)) *corev1.Service {
	s.Helper()
	return s.createIn(metav1.NamespaceDefault, name, edits...)
}

func (s *ledgered) createIn(namespace, name string, edits ...func(*corev1.Service)) *corev1.Service {
	s.Helper()
	service, err := s.client.CoreV1().Services(namespace).Create(s.ctx, wanting(namespace, name, edits...), metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return service
}

// edit changes a Service.
func (s *ledgered) edit(service *corev1.Service, change func(*corev1.Service)) {
	s.Helper()
	s.eventually(patience, "the edit is not overtaken by a write of the controller", func() bool {
		now := s.read(service)
		change(now)
		_, err := s.client.CoreV1().Services(now.Namespace).Update(s.ctx, now, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsConflict(err) {
			s.Fatal(err)
		}
		return err == nil
	})
}

func (s *ledgered) read(service *corev1.Service) *corev1.Service {
	s.Helper()
	now, err := s.client.CoreV1().Services(service.Namespace).Get(s.ctx, service.Name, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return now
}

// becomes waits until a Service has so many addresses and its condition Allocated that reason, and returns it.
func (s *ledgered) becomes(service *corev1.Service, addresses int, reason string) *corev1.Service {
	s.Helper()
	var now *corev1.Service
	deadline := time.Now().Add(patience)
	for {
		now = s.read(service)
		if len(now.Status.LoadBalancer.Ingress) == addresses && reasonOf(now) == reason {
			return now
		}
		if time.Now().After(deadline) {
			s.Fatalf("Service %s has %v and reason %q (%s) after %v, want %d addresses and reason %s",
				service.Name, now.Status.LoadBalancer.Ingress, reasonOf(now), messageOf(now), patience, addresses, reason)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func reasonOf(s *corev1.Service) string {
	if c := meta.FindStatusCondition(s.Status.Conditions, "bellwether.dev/Allocated"); c != nil {
		return c.Reason
	}
	return ""
}

func messageOf(s *corev1.Service) string {
	if c := meta.FindStatusCondition(s.Status.Conditions, "bellwether.dev/Allocated"); c != nil {
		return c.Message
	}
	return ""
}

// quiet waits until nothing has been written to any Service for some seconds, and the ledger has seen all there is.
func (s *ledgered) quiet() {
	s.Helper()
	seen, since := s.holds.Seen(), time.Now()
	s.eventually(patience, "no Service is written to any more", func() bool {
		if now := s.holds.Seen(); now != seen {
			seen, since = now, time.Now()
		}
		return time.Since(since) > 3*time.Second
	})
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := s.holds.Settle(ctx); err != nil {
		s.Fatal(err)
	}
	for _, clash := range s.holds.Standing() {
		s.Error("held twice, and nothing is done about it:", clash)
	}
}

// stayed checks on the stream that no living Service ever lost an address.
func (s *ledgered) stayed() {
	s.Helper()
	for _, moved := range s.holds.Moved() {
		s.Error("an address was taken away:", moved)
	}
}

// story is what the stream has told of a Service.
func (s *ledgered) story(service *corev1.Service) holds.Account {
	s.Helper()
	var a holds.Account
	s.eventually(patience, "the stream tells of Service "+service.Name, func() bool {
		var found bool
		a, found = s.holds.Account(service.UID)
		return found
	})
	return a
}

func controllers() []string { return []string{"controller-1", "controller-2"} }

func other(controller string) string {
	if controller == controllers()[0] {
		return controllers()[1]
	}
	return controllers()[0]
}

func (s *ledgered) controller(name string) *lab.Process {
	s.Helper()
	p, err := s.Lab.Process(lab.Control, name)
	if err != nil {
		s.Fatal(err)
	}
	return p
}

// act is for what must succeed.
func (s *scene) act(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// revive makes sure that a controller runs: one that is frozen goes on, and one that is dead is started.
func (s *ledgered) revive(name string) error {
	p, err := s.Lab.Process(lab.Control, name)
	if err != nil {
		return err
	}
	if !p.Alive() {
		return s.Lab.Restart(p)
	}
	return p.Resume()
}

func (s *ledgered) lease() *coordinationv1.Lease {
	s.Helper()
	lease, err := s.client.CoordinationV1().Leases(product.Namespace).Get(s.ctx, "bellwether-controller", metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return lease
}

// leaseholder is the controller that the lease names.
func (s *ledgered) leaseholder() string {
	s.Helper()
	if holder := s.lease().Spec.HolderIdentity; holder != nil {
		return *holder
	}
	return ""
}

// metric adds up a controller's metric over all its labels. known is false while the controller does not answer.
func (s *ledgered) metric(controller, name string) (sum float64, known bool) {
	s.Helper()
	port := 7490
	if controller == controllers()[1] {
		port = 7500
	}
	return s.metricAt(lab.Control, port, name)
}

// speakerMetric is the same of a node's speaker.
func (s *scene) speakerMetric(node, name string) (sum float64, known bool) {
	s.Helper()
	return s.metricAt(node, 7480, name)
}

func (s *scene) metricAt(node string, port int, name string) (sum float64, known bool) {
	s.Helper()
	client := s.Lab.HTTPClient(node, 2*time.Second)
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, false
	}
	return sumOf(bufio.NewScanner(resp.Body), name)
}

// sumOf adds up the samples of one metric in what a /metrics page says.
func sumOf(lines *bufio.Scanner, name string, labels ...string) (sum float64, known bool) {
	for lines.Scan() {
		line := lines.Text()
		rest, is := strings.CutPrefix(line, name)
		if !is || rest == "" || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && strings.Contains(rest, l)
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if all && err == nil {
			sum += value
		}
		known = true
	}
	return sum, known
}

// led waits until one controller leads and has made a pass over all Services, and returns its name.
func (s *ledgered) led() string {
	s.Helper()
	var name string
	s.eventually(patience, "a controller leads and has made a pass", func() bool {
		for _, name = range controllers() {
			leads, answers := s.metric(name, "bellwether_controller_leading")
			passes, _ := s.metric(name, "bellwether_assign_duration_seconds_count")
			if answers && leads == 1 && passes >= 1 && s.leaseholder() == name {
				return true
			}
		}
		return false
	})
	return name
}
