package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/images"
	"github.com/bellwether-lb/bellwether/e2e/noderuntime"
)

// Names of the processes that every node of the full mode has beside kube-proxy.
const (
	Containerd = "containerd"
	Kubelet    = "kubelet"
)

// cniDir is where Debian's package puts the CNI plugins.
const cniDir = "/usr/lib/cni"

// imageVersion tags the lab's own images: bellwether-lab/pause:dev and
// bellwether-lab/webserver:dev, which every node has from the start.
const imageVersion = "dev"

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
		CNIBinDir:  cniDir,
		Kubeconfig: l.kubeconfig(nodeUser(n.Name)),
		ClientCA:   l.pki("ca.crt"),
		Addrs:      n.Addrs,
		PodNets:    n.PodNets,
		PauseImage: "bellwether-lab/pause:" + imageVersion,
	}
}

// packImages packs the lab's own images; every node is given them at boot.
func (l *Lab) packImages(ctx context.Context) error {
	source, err := components.Source()
	if err != nil {
		return err
	}
	repo, err := images.FindRepo(source)
	if err != nil {
		return err
	}
	specs, err := images.Select([]string{"pause", "webserver"})
	if err != nil {
		return err
	}
	for _, s := range specs {
		b := images.Builder{Repo: repo, Version: imageVersion}
		if _, err := b.Pack(ctx, s, runtime.GOARCH, l.imageDir()); err != nil {
			return err
		}
	}
	return nil
}

// imageDir holds the tarballs that nodes load at boot, their own and those
// given to LoadImages.
func (l *Lab) imageDir() string { return filepath.Join(l.dataDir(), "images") }

// LoadImages gives every node the container images of these tarballs. A node
// without power gets them when it boots; of kind's nodes all must have power.
func (l *Lab) LoadImages(ctx context.Context, tarballs ...string) error {
	if l.opts.Light {
		return errors.New("load images: this lab is light: its nodes run no containers")
	}
	var kept []string
	for _, file := range tarballs {
		to := filepath.Join(l.imageDir(), filepath.Base(file))
		if err := copyFile(file, to); err != nil {
			return fmt.Errorf("load images: %w", err)
		}
		kept = append(kept, to)
	}
	if l.opts.Kind {
		return l.giveKind(ctx, kept)
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range l.Nodes() {
		if l.PoweredOff(n.Name) {
			continue
		}
		g.Go(func() error { return l.machine(n).LoadImages(gctx, kept...) })
	}
	return g.Wait()
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// startRuntimes boots every node up to where it could run a container.
func (l *Lab) startRuntimes(ctx context.Context) error {
	if err := l.packImages(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range l.Nodes() {
		g.Go(func() error { return l.startContainerd(gctx, n) })
	}
	return g.Wait()
}

// startContainerd boots a node up to where it could run a container, and gives
// it the images that came since it last did.
func (l *Lab) startContainerd(ctx context.Context, n Node) error {
	rt := l.machine(n)
	if err := rt.Write(); err != nil {
		return err
	}
	if err := l.startPart(ctx, rt, Containerd); err != nil {
		return err
	}
	loaded := filepath.Join(rt.Dir, "images-loaded")
	began := time.Now()
	missing, err := newerThan(l.imageDir(), loaded)
	if err != nil || len(missing) == 0 {
		return err
	}
	if err := rt.LoadImages(ctx, missing...); err != nil {
		return err
	}
	if err := os.WriteFile(loaded, nil, 0o600); err != nil {
		return err
	}
	return os.Chtimes(loaded, began, began)
}

// newerThan lists the files in a folder that changed after a mark was set.
func newerThan(dir, mark string) ([]string, error) {
	var since time.Time
	if st, err := os.Stat(mark); err == nil {
		since = st.ModTime()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	return slices.DeleteFunc(files, func(f string) bool {
		st, err := os.Stat(f)
		return err != nil || st.ModTime().Before(since)
	}), err
}

// startPart starts one process of a node's runtime and waits until it works.
func (l *Lab) startPart(ctx context.Context, rt noderuntime.Node, name string) error {
	parts := rt.Processes()
	i := slices.IndexFunc(parts, func(p noderuntime.Process) bool { return p.Name == name })
	if i < 0 {
		return fmt.Errorf("a node has no %s", name)
	}
	part := parts[i]
	p, err := l.Start(rt.Name, ProcSpec{Name: name, Args: append([]string{part.Path}, part.Args...), Env: part.Env})
	if err != nil {
		return err
	}
	return waitFor(ctx, 60*time.Second, name+" on "+rt.Name, func(ctx context.Context) error {
		if !p.Alive() {
			return giveUp(fmt.Errorf("it ended; its last lines:\n%s", p.LogTail(15)))
		}
		return part.Ready(ctx)
	})
}

// waitReady waits until the cluster would schedule a pod on a node, by what its
// present kubelet says.
func (l *Lab) waitReady(ctx context.Context, n Node) error {
	kubelet, err := l.Process(n.Name, Kubelet)
	if err != nil {
		return err
	}
	client, err := l.Client()
	if err != nil {
		return err
	}
	return waitFor(ctx, 90*time.Second, n.Name+" to be ready", func(ctx context.Context) error {
		if !kubelet.Alive() {
			return giveUp(fmt.Errorf("its kubelet ended; the last lines:\n%s", kubelet.LogTail(15)))
		}
		node, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		// The API keeps whole seconds.
		return nodeAmiss(node, kubelet.Started.Truncate(time.Second))
	})
}

// nodeAmiss says what keeps a node from running pods. A Ready condition from
// before it booted does not count.
func nodeAmiss(node *corev1.Node, since time.Time) error {
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady || taint.Key == corev1.TaintNodeUnreachable {
			return fmt.Errorf("it is tainted %s", taint.Key)
		}
	}
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status != corev1.ConditionTrue || c.LastHeartbeatTime.Time.Before(since) {
			return fmt.Errorf("it is not ready since it booted: %s", c.Message)
		}
		return nil
	}
	return errors.New("its kubelet has reported nothing yet")
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
		if strings.HasPrefix(e.Name(), nodePrefix) && e.IsDir() {
			g.Go(l.machine(Node{Name: e.Name()}).Remove)
		}
	}
	return g.Wait()
}
