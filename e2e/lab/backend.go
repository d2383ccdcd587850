package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/bellwether-lb/bellwether/e2e/components"
)

// BackendSpec describes a backend of the light mode: a Pod object, and an HTTP
// server that really answers at the pod's addresses.
type BackendSpec struct {
	// Name of the pod.
	Name string
	// Namespace of the pod, "default" when empty. It must exist.
	Namespace string
	// Labels of the pod, for a Service's selector.
	Labels map[string]string
	// Node is the node that the Pod object names.
	Node string
	// OnSegment plugs the backend straight into the switch instead of into its
	// node. It then outlives the node's power, so that an outage that a client
	// sees is the announcer's alone. Such a backend answers Services with
	// externalTrafficPolicy Cluster only: without the node's address
	// translation its replies would go past the node.
	OnSegment bool
	// Port it listens on, 8080 when zero.
	Port int
}

// Backend is a running backend.
type Backend struct {
	BackendSpec
	Index int          // tells backends of a lab apart
	Addrs []netip.Addr // the pod's
}

// Place is the backend's namespace, by the name that commands take.
func (b *Backend) Place() string { return "backend-" + strconv.Itoa(b.Index) }

// AddBackend starts a backend and makes its Pod object Running and Ready; the
// real endpointslice controller does the rest. Light mode only.
func (l *Lab) AddBackend(ctx context.Context, spec BackendSpec) (*Backend, error) {
	if !l.opts.Light {
		return nil, fmt.Errorf("add backend %s: this lab has kubelets: make a pod instead", spec.Name)
	}
	if spec.Namespace == "" {
		spec.Namespace = metav1.NamespaceDefault
	}
	if spec.Port == 0 {
		spec.Port = 8080
	}
	n, err := l.Node(spec.Node)
	if err != nil {
		return nil, fmt.Errorf("add backend %s: %w", spec.Name, err)
	}
	b := &Backend{BackendSpec: spec}
	if err := l.numberBackend(b); err != nil {
		return nil, fmt.Errorf("add backend %s: %w", spec.Name, err)
	}
	if err := l.startBackend(ctx, b, n); err != nil {
		return nil, fmt.Errorf("add backend %s: %w", spec.Name, err)
	}
	return b, nil
}

// startBackend makes the namespace, the server and the Pod object.
func (l *Lab) startBackend(ctx context.Context, b *Backend, n Node) error {
	connect := l.plugIntoNode
	if b.OnSegment {
		connect = l.plugIntoSegment
	}
	if err := connect(b, n); err != nil {
		return fmt.Errorf("connect it: %w", err)
	}
	server, err := l.webserver(ctx)
	if err != nil {
		return err
	}
	if _, err := l.Start(b.Place(), ProcSpec{Name: "webserver", AtPowerOn: true, Args: []string{
		server, "-listen", ":" + strconv.Itoa(b.Port), "-name", b.Name, "-node", b.Node,
	}}); err != nil {
		return err
	}
	if err := writeJSON(l.backendFile(b.Index), b); err != nil {
		return err
	}
	client, err := l.Client()
	if err != nil {
		return err
	}
	return l.createPod(ctx, client, b)
}

// webserver is the program that backends run. It is built once in a lab's life.
func (l *Lab) webserver(ctx context.Context) (string, error) {
	path := filepath.Join(l.dir, "webserver")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	built, err := components.Program(ctx, "./cmd/webserver")
	if err != nil {
		return "", err
	}
	// Linked, not copied: a file that is being written cannot be run.
	if err := os.Symlink(built, path); err != nil && !os.IsExist(err) {
		return "", err
	}
	return path, nil
}

func (l *Lab) backendFile(i int) string {
	return filepath.Join(l.dir, "backends", strconv.Itoa(i), "backend.json")
}

// Backends lists the backends that AddBackend made, by number.
func (l *Lab) Backends() ([]*Backend, error) {
	var list []*Backend
	for i := 1; i <= maxBackends; i++ {
		b := new(Backend)
		err := readJSON(l.backendFile(i), b)
		if err == nil {
			list = append(list, b)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read the record of backend %d: %w", i, err)
		}
	}
	return list, nil
}

// powered lists the places that share a node's power: its own, and those of the
// backends that are plugged into it.
func (l *Lab) powered(node string) ([]string, error) {
	places := []string{node}
	backends, err := l.Backends()
	for _, b := range backends {
		if b.Node == node && !b.OnSegment {
			places = append(places, b.Place())
		}
	}
	return places, err
}

// numberBackend takes the next free number. A folder made with Mkdir settles
// who gets it when two programs ask at once.
func (l *Lab) numberBackend(b *Backend) error {
	root := filepath.Join(l.dir, "backends")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for b.Index = 1; b.Index <= maxBackends; b.Index++ {
		err := os.Mkdir(filepath.Join(root, strconv.Itoa(b.Index)), 0o755)
		if err == nil || !os.IsExist(err) {
			return err
		}
	}
	return fmt.Errorf("a lab has room for %d backends", maxBackends)
}

// plugIntoSegment gives the backend an address on the segment.
func (l *Lab) plugIntoSegment(b *Backend, _ Node) error {
	host := firstBackend + b.Index - 1
	b.Addrs = families(l.opts, lan4(host), lan6(host))
	return l.addPlace(place{b.Place(), host, b.Addrs})
}

// plugIntoNode gives the backend an address of its node's pod range, joined to
// the node by a veth pair with a host route, as the ptp CNI plugin does it.
func (l *Lab) plugIntoNode(b *Backend, n Node) error {
	if err := createNS(nsName(l.opts.Name, b.Place())); err != nil {
		return err
	}
	if err := InNetNS(l.NetNS(b.Place()), func() error { return prepareStack(l.opts, false) }); err != nil {
		return err
	}
	port := "be" + strconv.Itoa(b.Index)
	mac := hardwareAddr(1<<8 + b.Index)
	if err := l.plug(n.Name, b.Place(), port, mac); err != nil {
		return err
	}
	var gateways []netip.Addr
	for _, p := range n.PodNets {
		gateways = append(gateways, p.Addr().Next())
		b.Addrs = append(b.Addrs, nth(p.Addr(), 9+b.Index))
	}
	if err := InNetNS(l.NetNS(n.Name), func() error {
		if err := addAddrs(port, gateways, 32, 128); err != nil {
			return err
		}
		for _, a := range b.Addrs {
			if err := addRoute(port, netip.PrefixFrom(a, a.BitLen()), netip.Addr{}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return InNetNS(l.NetNS(b.Place()), func() error {
		if err := addAddrs(link, b.Addrs, 32, 128); err != nil {
			return err
		}
		for _, gw := range gateways {
			if err := addRoute(link, netip.PrefixFrom(gw, gw.BitLen()), netip.Addr{}); err != nil {
				return err
			}
			if err := addRoute(link, netip.PrefixFrom(zero(gw), 0), gw); err != nil {
				return err
			}
		}
		return nil
	})
}

// nth is the n-th address after a, which is aligned to 256.
func nth(a netip.Addr, n int) netip.Addr {
	b := a.AsSlice()
	b[len(b)-1] = byte(n)
	out, _ := netip.AddrFromSlice(b)
	return out
}

// createPod makes the Pod object as a scheduler and a kubelet would leave it.
func (l *Lab) createPod(ctx context.Context, client kubernetes.Interface, b *Backend) error {
	no, grace := false, int64(0)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: b.Name, Namespace: b.Namespace, Labels: b.Labels},
		Spec: corev1.PodSpec{
			NodeName: b.Node, AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace,
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				Name: "webserver", Image: "webserver",
				Ports: []corev1.ContainerPort{{ContainerPort: int32(b.Port)}},
			}},
		},
	}
	// A namespace made just now has no ServiceAccount yet, and admission wants one.
	if err := waitFor(ctx, 20*time.Second, "pod "+b.Name+" to be admitted", func(ctx context.Context) error {
		_, err := client.CoreV1().Pods(b.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	return l.SetBackendReady(ctx, b, true)
}

// SetBackendReady sets the Ready condition of a backend's pod. The server keeps
// running either way.
func (l *Lab) SetBackendReady(ctx context.Context, b *Backend, ready bool) error {
	client, err := l.Client()
	if err != nil {
		return err
	}
	now, state := metav1.Now(), corev1.ConditionTrue
	if !ready {
		state = corev1.ConditionFalse
	}
	n, err := l.Node(b.Node)
	if err != nil {
		return err
	}
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &now, HostIP: n.Addrs[0].String(), PodIP: b.Addrs[0].String(),
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: state, LastTransitionTime: now}},
	}
	for _, a := range b.Addrs {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	for _, a := range n.Addrs {
		status.HostIPs = append(status.HostIPs, corev1.HostIP{IP: a.String()})
	}
	return patch(map[string]any{"status": status}, func(data []byte) error {
		_, err := client.CoreV1().Pods(b.Namespace).Patch(ctx, b.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{}, "status")
		if err != nil {
			return fmt.Errorf("set the status of pod %s: %w", b.Name, err)
		}
		return nil
	})
}

// RemoveBackend deletes the pod, ends the server and removes its namespace.
func (l *Lab) RemoveBackend(ctx context.Context, b *Backend) error {
	client, err := l.Client()
	if err != nil {
		return err
	}
	now := int64(0)
	err = client.CoreV1().Pods(b.Namespace).Delete(ctx, b.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if ignoreNotFound(err) != nil {
		return fmt.Errorf("remove backend %s: %w", b.Name, err)
	}
	if err := l.killAt(b.Place()); err != nil {
		return fmt.Errorf("remove backend %s: %w", b.Name, err)
	}
	where, port := b.Node, "be"+strconv.Itoa(b.Index)
	if b.OnSegment {
		where, port = Switch, b.Place()
	}
	if err := InNetNS(l.NetNS(where), func() error {
		ln, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		return netlink.LinkDel(ln)
	}); err != nil {
		return fmt.Errorf("remove the link of backend %s: %w", b.Name, err)
	}
	if err := deleteNS(nsName(l.opts.Name, b.Place())); err != nil {
		return err
	}
	_ = os.RemoveAll(filepath.Join(l.dir, "procs", b.Place()))
	return os.RemoveAll(filepath.Dir(l.backendFile(b.Index)))
}

// IsBackend reports whether a place is a backend's namespace.
func (l *Lab) IsBackend(where string) bool {
	_, ok := nsInode(l.NetNS(where))
	return ok && strings.HasPrefix(where, "backend-")
}
