package noderuntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
)

// PowerOff kills the node and forgets all that a machine forgets when it loses
// power: mounts, cgroups, network namespaces of pods, RunDir. What is in Dir
// stays. The node's own network namespace is the caller's. It may be repeated,
// and works after any crash.
func (n Node) PowerOff() error {
	// Kill refuses folders that cannot be a node's own, so what follows is safe.
	if err := n.Kill(); err != nil {
		return err
	}
	// All of it is tried: what can be cleaned is.
	if err := errors.Join(sweep.Unmount(n.Dir), sweep.Unmount(n.RunDir), n.removeCgroups(), n.removeStrays()); err != nil {
		return fmt.Errorf("node %s: cleaning up: %w", n.Name, err)
	}
	if err := sweep.Remove(n.RunDir); err != nil {
		return fmt.Errorf("node %s: removing its run folder: %w", n.Name, err)
	}
	return nil
}

// Remove is PowerOff, and throws the disk away too.
func (n Node) Remove() error {
	if err := n.PowerOff(); err != nil {
		return err
	}
	if err := sweep.Remove(n.Dir); err != nil {
		return fmt.Errorf("node %s: removing its folder: %w", n.Name, err)
	}
	return nil
}

// removeCgroups removes the containers' cgroups from every hierarchy.
func (n Node) removeCgroups() error {
	mounts, err := sweep.Mounts()
	if err != nil {
		return err
	}
	containers, err := n.containers()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range mounts {
		if m.Kind != "cgroup" && m.Kind != "cgroup2" {
			continue
		}
		for _, id := range containers {
			errs = append(errs, removeGroups(filepath.Join(m.Path, cgroupParent, id)))
		}
		// This fails as long as another node has containers.
		_ = unix.Rmdir(filepath.Join(m.Path, cgroupParent))
	}
	return errors.Join(errs...)
}

// removeGroups removes a cgroup and those in it, innermost first. The kernel
// refuses for a moment after the last process has died.
func removeGroups(root string) error {
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var groups []string
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		if err = nil; len(groups) == 0 {
			return nil
		}
		for _, g := range slices.Backward(groups) {
			if e := unix.Rmdir(g); e != nil && !errors.Is(e, unix.ENOENT) {
				err = fmt.Errorf("removing cgroup %s: %w", g, e)
			}
		}
	}
	return err
}

// removeStrays removes what the kubelet and the CNI library keep at paths of
// their own choosing: links to the logs of containers, and cached results of
// CNI plugins, which name the pod's network namespace. Only what points to the
// node's folders is the node's.
func (n Node) removeStrays() error {
	const logs, results = "/var/log/containers", "/var/lib/cni/results"
	errs := []error{
		removeFiles(logs, func(path string) bool {
			to, err := os.Readlink(path)
			return err == nil && sweep.Within(to, n.Dir)
		}),
		removeFiles(results, func(path string) bool {
			data, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(data), n.RunDir+"/")
		}),
	}
	// These fail when somebody else has something there.
	for _, dir := range []string{logs, results, filepath.Dir(results)} {
		_ = os.Remove(dir)
	}
	return errors.Join(errs...)
}

func removeFiles(dir string, mine func(path string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); mine(path) {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}
