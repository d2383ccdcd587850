package lab

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
)

// A node's daemons and shims crash, so that nothing ties its containers to it
// but their cgroups, and every record of the lab is emptied. Down still finds
// all of it, and a process that is none of the lab's lives on.
func TestDownAfterACrashWithEmptyRecords(t *testing.T) {
	o := Options{Name: "tlost", Nodes: 1}
	was := settings(t, o)
	t.Run("up", func(t *testing.T) {
		l := up(t, o)
		client, err := l.Client()
		if err != nil {
			t.Fatal(err)
		}
		deployWeb(t, client, map[string]string{"app": "web"}, 1)
		members := family(t, l)
		groups := containerGroups(t, l)
		if len(groups) == 0 {
			t.Error("the pod has no cgroups")
		}
		bystander, err := sweep.Read(marker(t, "OTHER=1"))
		if err != nil {
			t.Fatal(err)
		}
		crash(t, l)
		emptyRecords(t, l)
		if err := Down(t.Context(), o.Name); err != nil {
			t.Fatal(err)
		}
		for _, p := range members {
			if now, err := sweep.Read(p.PID); err == nil && now.Born == p.Born && !now.Dead {
				t.Errorf("process %d is left", p.PID)
			}
		}
		for _, g := range groups {
			if _, err := os.Stat(g); !os.IsNotExist(err) {
				t.Errorf("cgroup %s is left (%v)", g, err)
			}
		}
		if now, err := sweep.Read(bystander.PID); err != nil || now.Dead {
			t.Errorf("a process that is none of the lab's is dead: %v", err)
		}
		checkNothingLeft(t, o.Name)
	})
	checkSettings(t, o, was)
}

func family(t *testing.T, l *Lab) []sweep.Process {
	t.Helper()
	pids, err := l.members()
	if err != nil {
		t.Fatal(err)
	}
	var list []sweep.Process
	for _, pid := range pids {
		if p, err := sweep.Read(pid); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// containerGroups are the cgroups of containers of the lab's nodes.
func containerGroups(t *testing.T, l *Lab) []string {
	t.Helper()
	bundles, err := filepath.Glob(filepath.Join(l.dir, "node-*", "containerd", "*.task", "k8s.io", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var groups []string
	for _, b := range bundles {
		found, err := filepath.Glob("/sys/fs/cgroup/*/k8s.io/" + filepath.Base(b))
		if err != nil {
			t.Fatal(err)
		}
		unified, err := filepath.Glob("/sys/fs/cgroup/k8s.io/" + filepath.Base(b))
		if err != nil {
			t.Fatal(err)
		}
		groups = append(append(groups, found...), unified...)
	}
	return groups
}

// crash kills containerds, kubelets and shims, and waits until they are gone.
func crash(t *testing.T, l *Lab) {
	t.Helper()
	tr, err := l.traits()
	if err != nil {
		t.Fatal(err)
	}
	daemon := func(pid int) bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		name := filepath.Base(exe)
		return err == nil && (name == Kubelet || strings.HasPrefix(name, Containerd)) && tr.fit(pid)
	}
	for _, p := range family(t, l) {
		held, err := sweep.Hold(p.PID, p.Born, daemon)
		if err != nil {
			continue // it is another program
		}
		if err := held.Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		if err := held.Wait(time.Now().Add(10 * time.Second)); err != nil {
			t.Error(err)
		}
		held.Close()
	}
}

// emptyRecords empties every record of the lab but that of the machine's
// settings: what they were is written nowhere else.
func emptyRecords(t *testing.T, l *Lab) {
	t.Helper()
	err := filepath.WalkDir(l.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".json" || e.Name() == "limits.json" {
			return err
		}
		return os.Truncate(path, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Processes(Control); err == nil {
		t.Error("the records of processes are not empty")
	}
}
