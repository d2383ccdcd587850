package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// startNodes starts the controllers and brings the nodes up to where a Service
// works on each of them.
func (l *Lab) startNodes(ctx context.Context) error {
	client, err := l.Client()
	if err != nil {
		return err
	}
	// Before the controllers start: one of them gives a node that has no pod
	// ranges others than the plan's.
	for _, n := range l.Nodes() {
		if err := l.createNode(ctx, client, n); err != nil {
			return fmt.Errorf("register %s: %w", n.Name, err)
		}
	}
	controllers := []ProcSpec{l.controllerManager()}
	if !l.opts.Light {
		controllers = append(controllers, l.scheduler())
	}
	for _, spec := range controllers {
		if _, err := l.Start(Control, spec); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range l.Nodes() {
		g.Go(func() error { return l.startNode(gctx, client, n) })
	}
	g.Go(func() error { return waitServiceAccount(gctx, client) })
	return g.Wait()
}

// startNode makes one node work: its kube-proxy, and its kubelet or, in the
// light mode, what a kubelet would say.
func (l *Lab) startNode(ctx context.Context, client kubernetes.Interface, n Node) error {
	if l.opts.Light {
		if err := setNodeReady(ctx, client, n); err != nil {
			return fmt.Errorf("make %s ready: %w", n.Name, err)
		}
	}
	spec, err := l.kubeProxy(n)
	if err != nil {
		return err
	}
	if _, err := l.Start(n.Name, spec); err != nil {
		return err
	}
	if !l.opts.Light {
		if err := l.startPart(ctx, l.machine(n), Kubelet); err != nil {
			return err
		}
		if err := l.waitReady(ctx, n); err != nil {
			return err
		}
	}
	return l.waitKubeProxy(ctx, n)
}

// createNode makes the Node object with the pod ranges of the lab's plan, so
// that routes and pods agree without waiting for anybody to allocate them.
func (l *Lab) createNode(ctx context.Context, client kubernetes.Interface, n Node) error {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: map[string]string{
			corev1.LabelHostname: n.Name, corev1.LabelOSStable: "linux",
		}},
		Spec: corev1.NodeSpec{PodCIDR: n.PodNets[0].String()},
	}
	for _, p := range n.PodNets {
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, p.String())
	}
	_, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	return err
}

// setNodeReady says what no kubelet says in the light mode.
func setNodeReady(ctx context.Context, client kubernetes.Interface, n Node) error {
	now := metav1.Now()
	cond := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Lab",
		LastHeartbeatTime: now, LastTransitionTime: now,
	}
	// The API server taints a new node as not ready, and in the light mode
	// nobody else would take the taint away.
	taints := []corev1.Taint{}
	addresses := []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: n.Name}}
	for _, a := range n.Addrs {
		addresses = append(addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	nodes := client.CoreV1().Nodes()
	if err := patch(map[string]any{"spec": map[string]any{"taints": taints}}, func(data []byte) error {
		_, err := nodes.Patch(ctx, n.Name, types.MergePatchType, data, metav1.PatchOptions{})
		return err
	}); err != nil {
		return err
	}
	status := corev1.NodeStatus{Addresses: addresses, Conditions: []corev1.NodeCondition{cond}}
	return patch(map[string]any{"status": status}, func(data []byte) error {
		_, err := nodes.Patch(ctx, n.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{}, "status")
		return err
	})
}

// patch encodes a patch and sends it.
func patch(v any, send func([]byte) error) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return send(data)
}

// waitKubeProxy waits until a node's kube-proxy has written its first rules.
func (l *Lab) waitKubeProxy(ctx context.Context, n Node) error {
	p, err := l.Process(n.Name, KubeProxy)
	if err != nil {
		return err
	}
	client := l.HTTPClient(n.Name, 2*time.Second)
	url := "http://" + netip.AddrPortFrom(n.Addrs[0], proxyHealthPort).String() + "/healthz"
	return waitFor(ctx, 60*time.Second, "kube-proxy on "+n.Name, func(ctx context.Context) error {
		if !p.Alive() {
			return giveUp(fmt.Errorf("it ended; its last lines:\n%s", p.LogTail(15)))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it says %s", resp.Status)
		}
		return nil
	})
}

// HTTPClient makes requests from inside a place, each on a connection of its
// own. The host in a URL must be an address.
func (l *Lab) HTTPClient(where string, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{DialContext: dialer(l.NetNS(where)), DisableKeepAlives: true},
	}
}

// waitServiceAccount waits until pods can be made in the default namespace:
// admission refuses them before its ServiceAccount exists.
func waitServiceAccount(ctx context.Context, client kubernetes.Interface) error {
	return waitFor(ctx, 60*time.Second, "the default ServiceAccount", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// ignoreNotFound turns "not found" into success.
func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
