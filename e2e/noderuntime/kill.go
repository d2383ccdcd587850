package noderuntime

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Kill ends every process of the node at once, as a loss of power does: the
// kubelet and containerd first, so that they start nothing anew, then shims and
// what runs in pods. It returns when none is left.
func (n Node) Kill() error {
	if err := n.checkFolders(); err != nil {
		return fmt.Errorf("killing a node: %w", err)
	}
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		pids, err := n.processes()
		if err != nil {
			return fmt.Errorf("node %s: looking for its processes: %w", n.Name, err)
		}
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("node %s: processes %v survive being killed", n.Name, pids)
		}
		for _, pid := range pids {
			// ESRCH: it ended between the look and the kill.
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("node %s: killing process %d: %w", n.Name, pid, err)
			}
		}
	}
}

// processes are the node's, in the order in which to kill them. A process is
// the node's when it is one of its programs, or is in a container's cgroup (also
// when its shim is dead), or descends from one that is.
func (n Node) processes() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	containers, err := n.containers()
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	var daemons, rest []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// One that ended meanwhile is no longer of interest.
		parent, alive := parentOf(pid)
		if !alive {
			continue
		}
		children[parent] = append(children[parent], pid)
		// A process is spared unless something says that it is the node's.
		program, ours := n.program(pid)
		switch {
		case ours && (program == n.Programs.Kubelet || program == n.Programs.Containerd):
			daemons = append(daemons, pid)
		case ours || confined(pid, containers):
			rest = append(rest, pid)
		}
	}
	found := append(daemons, rest...)
	for i := 0; i < len(found); i++ {
		for _, child := range children[found[i]] {
			if !slices.Contains(found, child) {
				found = append(found, child)
			}
		}
	}
	return slices.DeleteFunc(found, func(pid int) bool { return pid == 1 || pid == os.Getpid() }), nil
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
	for _, arg := range bytes.Split(args, []byte{0}) {
		_, value, isFlag := strings.Cut(string(arg), "=")
		if !isFlag {
			value = string(arg)
		}
		if within(value, n.Dir) || within(value, n.RunDir) {
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
	var ids []string
	for _, b := range bundles {
		ids = append(ids, b.Name())
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

// parentOf is a process's parent, and whether the process is more than an entry
// that waits to be reaped.
func parentOf(pid int) (parent int, alive bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// After the program's name, which may hold anything: state and parent.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, err == nil
}

// within reports whether path is dir or lies below it. Nothing lies within the
// empty path.
func within(path, dir string) bool {
	return dir != "" && (path == dir || strings.HasPrefix(path, dir+"/"))
}
