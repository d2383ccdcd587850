package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/images"
	"github.com/bellwether-lb/bellwether/e2e/noderuntime"
)

// Names of the processes that every node of the full mode has beside kube-proxy.
const (
	Containerd = "containerd"
	Kubelet    = "kubelet"
)

// imageVersion is the tag of the images that the lab packs for itself.
const imageVersion = "dev"

// labImages are on every node from the start: the one that holds pods together,
// and the one that answers HTTP.
func labImages() []string { return []string{"bellwether-lab/pause", "bellwether-lab/webserver"} }

// machine is what makes a node's namespace a machine with a kubelet. Down calls
// it with no more than the node's name.
func (l *Lab) machine(n Node) noderuntime.Node {
	return noderuntime.Node{
		Name:   n.Name,
		NetNS:  l.NetNS(n.Name),
		Dir:    filepath.Join(l.dataDir(), n.Name),
		RunDir: filepath.Join(l.dir, n.Name),
		Programs: noderuntime.Programs{
			Containerd: l.bins["containerd"], Ctr: l.bins["ctr"], Runc: l.bins["runc"], Kubelet: l.bins["kubelet"],
		},
		CNIBinDir:  "/usr/lib/cni",
		Kubeconfig: l.kubeconfig(nodeUser(n.Name)),
		ClientCA:   l.pki("ca.crt"),
		Addrs:      n.Addrs,
		PodNets:    n.PodNets,
		PauseImage: labImages()[0] + ":" + imageVersion,
	}
}

// bootMachine starts containerd and the kubelet, each when the one before works.
// Images are there before the kubelet asks for them.
func (l *Lab) bootMachine(ctx context.Context, n Node) error {
	m := l.machine(n)
	if err := m.Write(); err != nil {
		return err
	}
	for _, spec := range m.Processes() {
		p, err := l.Start(n.Name, ProcSpec{Name: spec.Name, Args: append([]string{spec.Path}, spec.Args...), Env: spec.Env})
		if err != nil {
			return err
		}
		if err := waitFor(ctx, 60*time.Second, spec.Name+" on "+n.Name, func(ctx context.Context) error {
			if !p.Alive() {
				return giveUp(fmt.Errorf("it ended; its last lines:\n%s", p.LogTail(15)))
			}
			return spec.Ready(ctx)
		}); err != nil {
			return err
		}
		if spec.Name == Containerd {
			files, err := l.packed()
			if err != nil {
				return err
			}
			if err := m.LoadImages(ctx, files...); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitNodeReady waits until the API server has heard of the kubelet, and that
// it can run pods.
func waitNodeReady(ctx context.Context, client kubernetes.Interface, node string) error {
	return waitFor(ctx, 90*time.Second, node+" to be ready", func(ctx context.Context) error {
		got, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range got.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				if len(got.Spec.Taints) > 0 {
					return fmt.Errorf("it still has taint %s", got.Spec.Taints[0].ToString())
				}
				return nil
			} else if c.Type == corev1.NodeReady {
				err = errors.New(c.Message)
			}
		}
		return errors.Join(errors.New("it is not ready"), err)
	})
}

// pack packs the images that every node gets from the start.
func (l *Lab) pack(ctx context.Context) error {
	source, err := components.Source()
	if err != nil {
		return err
	}
	repo, err := images.FindRepo(source)
	if err != nil {
		return err
	}
	specs, err := images.Select(labImages())
	if err != nil {
		return err
	}
	for _, s := range specs {
		b := images.Builder{Repo: repo, Version: imageVersion}
		if _, err := b.Pack(ctx, s, runtime.GOARCH, filepath.Join(l.dir, "images")); err != nil {
			return err
		}
	}
	return nil
}

// packed lists the tarballs that pack made.
func (l *Lab) packed() ([]string, error) {
	return filepath.Glob(filepath.Join(l.dir, "images", "*.tar"))
}

// LoadImages gives every node the container images of these tarballs.
func (l *Lab) LoadImages(ctx context.Context, tarballs ...string) error {
	if l.opts.Light {
		return errors.New("load images: this lab is light: its nodes run no containers")
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range l.Nodes() {
		if l.PoweredOff(n.Name) {
			return fmt.Errorf("load images: %s has no power", n.Name)
		}
		g.Go(func() error { return l.machine(n).LoadImages(ctx, tarballs...) })
	}
	return g.Wait()
}

// removeMachines removes all that nodes of the full mode left: containers that
// outlived their shim, mounts, cgroups, files. It goes by what it finds, for the
// record may be gone.
func (l *Lab) removeMachines() error {
	found, err := os.ReadDir(l.dataDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var g errgroup.Group
	for _, e := range found {
		g.Go(l.machine(Node{Name: e.Name()}).Remove)
	}
	return g.Wait()
}
