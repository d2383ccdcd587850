package noderuntime

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
)

// Kill ends every process of the node at once, as a loss of power does: the
// kubelet and containerd first, so that they start nothing anew, then shims and
// what runs in pods. It returns when none is left.
func (n Node) Kill() error {
	if err := n.checkFolders(); err != nil {
		return fmt.Errorf("killing a node: %w", err)
	}
	containers, err := n.containers()
	if err != nil {
		return fmt.Errorf("node %s: looking for its containers: %w", n.Name, err)
	}
	// A daemon may have made one since: the second look finds what the first
	// has not, with nobody left to make more.
	for range 2 {
		if err := sweep.Kill(n.owner(containers), n.isDaemon); err != nil {
			return fmt.Errorf("node %s: ending its processes: %w", n.Name, err)
		}
		later, err := n.containers()
		if err != nil {
			return fmt.Errorf("node %s: looking for its containers: %w", n.Name, err)
		}
		containers = append(containers, later...)
	}
	return nil
}

// owner tells the node's processes from others: they are its programs, or are in
// a container's cgroup, also when its shim is dead. What descends from those is
// the node's too. A process is spared unless something says that it is.
func (n Node) owner(containers []string) func(pid int) bool {
	return func(pid int) bool {
		_, ours := n.program(pid)
		return ours || confined(pid, containers)
	}
}

func (n Node) isDaemon(pid int) bool {
	program, ours := n.program(pid)
	return ours && (program == n.Programs.Kubelet || program == n.Programs.Containerd)
}

// processes are the node's.
func (n Node) processes() ([]int, error) {
	containers, err := n.containers()
	if err != nil {
		return nil, err
	}
	return sweep.PIDs(n.owner(containers))
}

// program is the executable that a process runs, and whether it is one of the
// node's: all nodes run the same files, but each names its own folders in its
// arguments. Paths that the Node value lacks match nothing.
func (n Node) program(pid int) (path string, ours bool) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", false
	}
	exe = strings.TrimSuffix(exe, " (deleted)") // it was built again since
	known := []string{n.Programs.Kubelet, n.Programs.Containerd, n.Programs.Runc, n.Programs.Ctr}
	if n.Programs.Containerd != "" {
		known = append(known, filepath.Join(filepath.Dir(n.Programs.Containerd), "containerd-shim-runc-v2"))
	}
	if exe == "" || !slices.Contains(known, exe) {
		return "", false
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "", false
	}
	for arg := range bytes.SplitSeq(args, []byte{0}) {
		_, value, isFlag := strings.Cut(string(arg), "=")
		if !isFlag {
			value = string(arg)
		}
		if sweep.Within(value, n.Dir) || sweep.Within(value, n.RunDir) {
			return exe, true
		}
	}
	return "", false
}

// containers are the identifiers of the containers that the node's containerd
// has, or had when it crashed: it keeps a folder for each below RunDir. Their
// cgroups are called the same.
func (n Node) containers() ([]string, error) {
	bundles, err := os.ReadDir(filepath.Join(n.containerdRun(), "io.containerd.runtime.v2.task", cgroupParent))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// A folder that is called otherwise names no container of anybody's.
	known := regexp.MustCompile(`^[0-9a-f]{64}$`)
	var ids []string
	for _, b := range bundles {
		if b.IsDir() && known.MatchString(b.Name()) {
			ids = append(ids, b.Name())
		}
	}
	return ids, nil
}

// cgroupParent is the cgroup above those of containers. It is containerd's
// name space for Kubernetes, and the same for all nodes.
const cgroupParent = "k8s.io"

// confined reports whether a process is in the cgroup of one of the containers.
func confined(pid int, containers []string) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		// hierarchy:controllers:path, cgroups(7)
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		_, below, found := strings.Cut(fields[2], "/"+cgroupParent+"/")
		id, _, _ := strings.Cut(below, "/")
		if found && slices.Contains(containers, id) {
			return true
		}
	}
	return false
}
