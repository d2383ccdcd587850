package lab

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/bellwether-lb/bellwether/e2e/noderuntime"
)

// limits are the settings of the whole machine, as paths below /proc/sys, that
// a lab with these options changes: to at least the value here, or, where that
// is zero, to what a kubelet sets by itself. They are put back on down.
func (o Options) limits() map[string]int {
	keys := map[string]int{}
	if o.NeighbourTable > 0 {
		// The neighbour table's thresholds are shared by all namespaces.
		for _, f := range []string{"ipv4", "ipv6"} {
			for i := 1; i <= 3; i++ {
				keys[fmt.Sprintf("net/%s/neigh/default/gc_thresh%d", f, i)] = o.NeighbourTable
			}
		}
	}
	if !o.Light {
		for _, key := range noderuntime.Tunables() {
			keys[key] = 0
		}
		// Kubelets, containerds and kube-proxies watch many files.
		keys["fs/inotify/max_user_instances"] = 1024
		keys["fs/inotify/max_user_watches"] = 524288
	}
	return keys
}

// raiseLimits writes down what the machine's settings are, then changes them.
func (l *Lab) raiseLimits() error {
	was := map[string]string{}
	limits := l.opts.limits()
	for key := range limits {
		data, err := os.ReadFile(filepath.Join("/proc/sys", key))
		if err != nil {
			return fmt.Errorf("read sysctl %s: %w", key, err)
		}
		was[key] = strings.TrimSpace(string(data))
	}
	now := maps.Clone(was)
	// Another lab may have changed one already: then its record is the truth.
	for key, value := range l.otherLimits() {
		if _, mine := was[key]; mine {
			was[key] = value
		}
	}
	if err := writeJSON(filepath.Join(l.dir, "limits.json"), was); err != nil {
		return err
	}
	for key, want := range limits {
		if n, err := strconv.Atoi(now[key]); err != nil || n >= want {
			continue
		}
		if err := setSysctl(key, strconv.Itoa(want)); err != nil {
			return err
		}
	}
	return nil
}

// otherLimits is what other labs have written down.
func (l *Lab) otherLimits() map[string]string {
	all := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(stateRoot, "*", "limits.json"))
	for _, f := range files {
		was := map[string]string{}
		if f != filepath.Join(l.dir, "limits.json") && readJSON(f, &was) == nil {
			maps.Copy(all, was)
		}
	}
	return all
}

// restoreLimits puts back what was changed for this lab, except what another
// lab changed too: that one's down will put it back.
func (l *Lab) restoreLimits() error {
	was := map[string]string{}
	if readJSON(filepath.Join(l.dir, "limits.json"), &was) != nil {
		return nil // nothing was changed
	}
	others := l.otherLimits()
	for key, value := range was {
		if _, needed := others[key]; needed {
			continue
		}
		if err := restoreSysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

// restoreSysctl writes only what differs: some machines let nobody write.
func restoreSysctl(key, value string) error {
	now, err := os.ReadFile(filepath.Join("/proc/sys", key))
	if err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	return setSysctl(key, value)
}
