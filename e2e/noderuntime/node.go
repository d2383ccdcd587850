// Package noderuntime is what makes a network namespace a Kubernetes node:
// containerd, runc, CNI and the kubelet, each with folders, sockets and cgroups
// that no other node shares, so that many nodes live on one machine.
//
// It writes configuration and says which processes to start; starting them in
// the namespace, and watching them, is the caller's. It ends a node by itself,
// also one whose caller crashed: everything is found again from the Node value.
package noderuntime

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
)

// Node describes one node. The value alone is enough to find all that belongs
// to the node again, from another process too.
type Node struct {
	Name string
	// NetNS is the path of the node's network namespace, which exists, has its
	// addresses, and has its loopback up.
	NetNS string
	// Dir holds what a machine keeps on its disk. It survives power-off.
	Dir string
	// RunDir holds what a machine keeps in /run: sockets, mounts, the state of
	// containers. It does not survive power-off. At most 42 bytes: the paths of
	// Unix sockets are short.
	RunDir   string
	Programs Programs
	// CNIBinDir holds ptp, host-local and portmap.
	CNIBinDir string
	// Kubeconfig is the file with which the kubelet reaches the API server.
	Kubeconfig string
	// ClientCA is the file with the authority whose clients the kubelet
	// believes. Empty: the kubelet lets everybody in.
	ClientCA string
	// Addrs are the node's own addresses, at most one a family.
	Addrs []netip.Addr
	// PodNets are the ranges of its pods' addresses, at most one a family.
	PodNets []netip.Prefix
	Labels  map[string]string
	// PauseImage is the reference of the image that holds a pod's namespaces.
	PauseImage string
}

// Programs are the paths of the executables. Containerd runs the shim that lies
// beside it.
type Programs struct {
	Containerd, Ctr, Runc, Kubelet string
}

// Process is one program for the caller to start in the node's network
// namespace, and in the machine's own mount and PID namespaces.
type Process struct {
	Name string
	Path string
	Args []string // without the name of the program
	Env  []string // in addition to the caller's
	// Ready says what is still amiss, and nil once the process does its work.
	// It is for polling, and works from any network namespace.
	Ready func(context.Context) error
}

// maxRunDir is what containerd allows for the folder of its shims' sockets.
const maxRunDir = 42

// Write makes the node's folders and configuration. It may be repeated.
func (n Node) Write() error {
	if err := n.check(); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	for _, dir := range []string{n.Dir, n.RunDir} {
		if err := sweep.Own(dir); err != nil {
			return fmt.Errorf("node %s: making its folders: %w", n.Name, err)
		}
	}
	for _, dir := range []string{n.cniConf(), n.PodLogs(), n.kubeletRoot()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("node %s: making its folders: %w", n.Name, err)
		}
	}
	network, err := n.networkConfig()
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	kubelet, err := n.kubeletConfig()
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	for path, content := range map[string][]byte{
		n.containerdFile(): n.containerdConfig(),
		filepath.Join(n.cniConf(), "10-lab.conflist"): network,
		n.kubeletFile(): kubelet,
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("node %s: writing its configuration: %w", n.Name, err)
		}
	}
	return nil
}

// checkFolders refuses folders by which everything on the machine would be the
// node's. Ending a node asks for no more than these two.
func (n Node) checkFolders() error {
	for what, path := range map[string]string{"Dir": n.Dir, "RunDir": n.RunDir} {
		// One level below the root are /run, /tmp, /home: never a node's own.
		if filepath.Clean(path) != path || strings.Count(path, "/") < 2 || !filepath.IsAbs(path) {
			return fmt.Errorf("%s is %q, want a clean absolute path at least two levels deep", what, path)
		}
	}
	return nil
}

func (n Node) check() error {
	if err := n.checkFolders(); err != nil {
		return err
	}
	for what, path := range map[string]string{
		"NetNS": n.NetNS, "CNIBinDir": n.CNIBinDir,
		"Kubeconfig": n.Kubeconfig, "Containerd": n.Programs.Containerd, "Ctr": n.Programs.Ctr,
		"Runc": n.Programs.Runc, "Kubelet": n.Programs.Kubelet,
	} {
		if filepath.Clean(path) != path || !filepath.IsAbs(path) || path == "/" {
			return fmt.Errorf("%s is %q, want a clean absolute path", what, path)
		}
	}
	if len(n.RunDir) > maxRunDir {
		return fmt.Errorf("RunDir %s is longer than %d bytes", n.RunDir, maxRunDir)
	}
	if n.Name == "" || n.PauseImage == "" || len(n.Addrs) == 0 || len(n.PodNets) == 0 {
		return errors.New("one of Name, PauseImage, Addrs and PodNets is empty")
	}
	return nil
}

// Processes are what the caller starts, in this order, each when the one before
// is ready. Images are loaded between the two.
func (n Node) Processes() []Process {
	var addrs []string
	for _, a := range n.Addrs {
		addrs = append(addrs, a.String())
	}
	kubelet := []string{
		"--config=" + n.kubeletFile(),
		"--kubeconfig=" + n.Kubeconfig,
		"--root-dir=" + n.kubeletRoot(),
		"--cert-dir=" + filepath.Join(n.kubeletRoot(), "pki"),
		"--hostname-override=" + n.Name,
		"--node-ip=" + strings.Join(addrs, ","),
	}
	if len(n.Labels) > 0 {
		var labels []string
		for k, v := range n.Labels {
			labels = append(labels, k+"="+v)
		}
		slices.Sort(labels)
		kubelet = append(kubelet, "--node-labels="+strings.Join(labels, ","))
	}
	// Containerd looks for its shim, and CNI plugins for iptables, on PATH.
	path := "PATH=" + filepath.Dir(n.Programs.Containerd) + ":" + os.Getenv("PATH")
	return []Process{
		{"containerd", n.Programs.Containerd, []string{"--config=" + n.containerdFile()}, []string{path}, n.containerdReady},
		{"kubelet", n.Programs.Kubelet, kubelet, nil, n.kubeletReady},
	}
}

// LoadImages puts images, each a tarball, into the store of the node's running
// containerd.
func (n Node) LoadImages(ctx context.Context, tarballs ...string) error {
	for _, file := range tarballs {
		cmd := exec.CommandContext(ctx, n.Programs.Ctr, "--address="+n.socket(), "--namespace=k8s.io", "images", "import", file)
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("node %s: loading image %s: %w\n%s", n.Name, filepath.Base(file), err, said)
		}
	}
	return nil
}

// Tunables are the machine-wide kernel settings that a starting kubelet
// changes, as paths below /proc/sys: for the caller to put back at the end.
func Tunables() []string {
	return []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	}
}

// PodLogs holds the logs of the node's pods, a folder for each.
func (n Node) PodLogs() string { return filepath.Join(n.Dir, "pods") }

func (n Node) containerdFile() string { return filepath.Join(n.Dir, "containerd.toml") }
func (n Node) kubeletFile() string    { return filepath.Join(n.Dir, "kubelet.json") }
func (n Node) kubeletRoot() string    { return filepath.Join(n.Dir, "kubelet") }
func (n Node) cniConf() string        { return filepath.Join(n.Dir, "cni", "conf") }
func (n Node) socket() string         { return filepath.Join(n.RunDir, "containerd.sock") }
func (n Node) containerdRun() string  { return filepath.Join(n.RunDir, "containerd") }
