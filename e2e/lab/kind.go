package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/kind"
)

// The part of the segment that Docker numbers kind's nodes from, and the machine's own addresses on it.
const (
	maxKindNodes = 10

	kindNodes4, kindNodes6     = "198.18.0.16/28", "fd00:198:18::10/124"
	kindGateway4, kindGateway6 = "198.18.255.254", "fd00:198:18::fffe"
)

// cluster is the one of a lab of kind's, whose nodes are Docker containers.
func (l *Lab) cluster() kind.Cluster {
	return kind.Cluster{Name: "bw-" + l.opts.Name, Program: l.bins["kind"], Dir: l.dir}
}

// kindSteps make a lab of kind's: the cluster on a network of Docker's, and the lab's other machines beside it.
func (l *Lab) kindSteps(ctx context.Context) []step {
	return []step{
		{"kind create cluster", func() error { return l.createKind(ctx) }},
		{"nodes; network: client, routers", func() error { return l.joinKind(ctx) }},
		{"images", func() error { return l.loadKindImages(ctx) }},
	}
}

func (l *Lab) createKind(ctx context.Context) error {
	ranges := families(l.opts,
		kind.Range{
			Subnet: netip.MustParsePrefix(LAN4), Pods: netip.MustParsePrefix(Pod4), Services: netip.MustParsePrefix(Svc4),
			Nodes: netip.MustParsePrefix(kindNodes4), Gateway: netip.MustParseAddr(kindGateway4),
		},
		kind.Range{
			Subnet: netip.MustParsePrefix(LAN6), Pods: netip.MustParsePrefix(Pod6), Services: netip.MustParsePrefix(Svc6),
			Nodes: netip.MustParsePrefix(kindNodes6), Gateway: netip.MustParseAddr(kindGateway6),
		})
	err := l.cluster().Create(ctx, kind.Spec{Workers: l.opts.Nodes, Ranges: ranges, Image: l.opts.NodeImage}, l.opts.Log)
	if err != nil {
		return err
	}
	return l.adopt(ctx)
}

// joinKind plugs the lab's other machines in: first the one that the API server is asked from, for the routers need to know which pods are whose.
func (l *Lab) joinKind(ctx context.Context) (err error) {
	isControl := func(p place) bool { return p.name == Control }
	places := l.opts.besideNodes()
	if err := l.connect(places[slices.IndexFunc(places, isControl):][:1]); err != nil {
		return err
	}
	for i, w := range l.workers {
		if l.workers[i].PodNets, err = l.waitKindNode(ctx, w.Name, time.Time{}); err != nil {
			return err
		}
	}
	client, err := l.Client()
	if err != nil {
		return err
	}
	return errors.Join(waitServiceAccount(ctx, client), l.connect(slices.DeleteFunc(places, isControl)), l.save(false))
}

// adopt writes down what kind has chosen: the nodes' names and addresses, the way to the API server, and its own kubectl.
func (l *Lab) adopt(ctx context.Context) error {
	machines, err := l.cluster().Machines(ctx)
	if err != nil {
		return err
	}
	for _, m := range machines {
		if !m.ControlPlane {
			if err := l.bindKind(m); err != nil {
				return err
			}
			l.workers = append(l.workers, Node{Name: m.Name, Index: len(l.workers) + 1, Addrs: m.Addrs})
			continue
		}
		config, err := l.cluster().Kubeconfig(ctx, "https://"+netip.AddrPortFrom(m.Addrs[0], 6443).String())
		if err != nil {
			return err
		}
		kubectl := filepath.Join(l.dir, "bin", "kubectl")
		l.bins["kubectl"], l.master = kubectl, m.Name
		if err := errors.Join(writeFile(l.Kubeconfig(), config), os.MkdirAll(filepath.Dir(kubectl), 0o755)); err != nil {
			return err
		}
		if err := l.cluster().CopyOut(ctx, m.Name, "/usr/bin/kubectl", kubectl); err != nil {
			return err
		}
	}
	if len(l.workers) != l.opts.Nodes || l.master == "" {
		return fmt.Errorf("kind made %d nodes, which are not a control plane and %d workers", len(machines), l.opts.Nodes)
	}
	return nil
}

// waitKindNode waits until a node is ready since some time, and returns what its pods live in.
func (l *Lab) waitKindNode(ctx context.Context, name string, since time.Time) (pods []netip.Prefix, err error) {
	client, err := l.Client()
	if err != nil {
		return nil, err
	}
	err = waitFor(ctx, 120*time.Second, name+" to be ready", func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods = nil
		for _, text := range node.Spec.PodCIDRs {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return err
			}
			pods = append(pods, p)
		}
		return nodeAmiss(node, since)
	})
	return pods, err
}

// loadKindImages gives the nodes the lab's own images.
func (l *Lab) loadKindImages(ctx context.Context) error {
	if err := l.packImages(ctx); err != nil {
		return err
	}
	tarballs, err := filepath.Glob(filepath.Join(l.imageDir(), "*.tar"))
	if err != nil {
		return err
	}
	return l.giveKind(ctx, tarballs)
}

func (l *Lab) giveKind(ctx context.Context, tarballs []string) error {
	for _, w := range l.workers {
		if l.PoweredOff(w.Name) {
			return fmt.Errorf("load images: %s has no power, and kind loads them on all nodes or none: power it on first", w.Name)
		}
	}
	for _, t := range tarballs {
		if err := l.cluster().Load(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) isWorker(where string) bool {
	return slices.ContainsFunc(l.workers, func(n Node) bool { return n.Name == where })
}

// bindKind gives a node's network namespace, which is another each time the node gets power, the path that all places' have.
func (l *Lab) bindKind(m kind.Machine) error {
	if err := errors.Join(deleteNS(nsName(l.opts.Name, m.Name)), os.MkdirAll(nsDir, 0o755), os.WriteFile(l.NetNS(m.Name), nil, 0o444)); err != nil {
		return err
	}
	if err := unix.Mount(m.NetNS(), l.NetNS(m.Name), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the network namespace of %s: %w", m.Name, err)
	}
	return nil
}

func (l *Lab) kindMachine(ctx context.Context, node string) (kind.Machine, error) {
	machines, err := l.cluster().Machines(ctx)
	if err != nil {
		return kind.Machine{}, err
	}
	i := slices.IndexFunc(machines, func(m kind.Machine) bool { return m.Name == node && m.PID != 0 })
	if i < 0 {
		return kind.Machine{}, fmt.Errorf("%s has no power", node)
	}
	return machines[i], nil
}

// kindPort is the end of a node's link on the bridge, by what the node's own end says.
func (l *Lab) kindPort(node string) (string, error) {
	var index int
	if err := InNetNS(l.NetNS(node), func() error {
		ln, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		index = ln.Attrs().ParentIndex
		return nil
	}); err != nil {
		return "", fmt.Errorf("look at the link of %s: %w", node, err)
	}
	port, err := netlink.LinkByIndex(index)
	if err != nil {
		return "", fmt.Errorf("find the other end of the link of %s: %w", node, err)
	}
	return port.Attrs().Name, nil
}

func (l *Lab) kindPowerOff(ctx context.Context, node string) error {
	if err := l.cluster().Kill(ctx, node); err != nil {
		return err
	}
	return deleteNS(nsName(l.opts.Name, node))
}

// kindPowerOn starts a node's container.
func (l *Lab) kindPowerOn(ctx context.Context, n Node) error {
	if err := l.cluster().Start(ctx, n.Name, n.Addrs); err != nil {
		return err
	}
	m, err := l.kindMachine(ctx, n.Name)
	if err != nil {
		return err
	}
	return l.bindKind(m)
}

// stopKindServer ends the API server, a static pod, and keeps the kubelet from starting it until restart is called.
func (l *Lab) stopKindServer(ctx context.Context) (restart func(context.Context) error, err error) {
	const manifest, away = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/kind/kube-apiserver.yaml"
	restart = func(ctx context.Context) error {
		if err := l.cluster().Shell(ctx, l.master, "mv "+away+" "+manifest); err != nil {
			return err
		}
		return waitFor(ctx, 90*time.Second, "the API server to be ready", l.apiServerReady)
	}
	return restart, l.cluster().Shell(ctx, l.master, "mv "+manifest+" "+away+"; pkill -KILL -x kube-apiserver")
}

// provisionKind gets what a lab of kind's needs beside Docker, which is the user's own.
func (l *Lab) provisionKind(ctx context.Context) (err error) {
	if _, err := exec.LookPath("docker"); err != nil {
		return fmt.Errorf("kind's nodes are Docker containers: install docker, and have its daemon run on this machine: %w", err)
	}
	if err := components.InstallPackages(ctx, l.opts.Log, components.LightPackages()); err != nil {
		return fmt.Errorf("install what the lab needs: %w", err)
	}
	l.bins, err = components.Ensure(ctx, l.opts.Log, components.Kind())
	return err
}
