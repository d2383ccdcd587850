package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The neighbour table's thresholds are the machine's own, shared by all
// namespaces: what is raised for a lab has to be put back.
func neighbourLimits() []string {
	var keys []string
	for _, f := range []string{"ipv4", "ipv6"} {
		for i := 1; i <= 3; i++ {
			keys = append(keys, fmt.Sprintf("net/%s/neigh/default/gc_thresh%d", f, i))
		}
	}
	return keys
}

// raiseLimits raises the neighbour table's thresholds, once what they were has
// been written down.
func (l *Lab) raiseLimits() error {
	if l.opts.NeighbourTable == 0 {
		return nil
	}
	was := map[string]string{}
	for _, key := range neighbourLimits() {
		data, err := os.ReadFile(filepath.Join("/proc/sys", key))
		if err != nil {
			return fmt.Errorf("read sysctl %s: %w", key, err)
		}
		was[key] = strings.TrimSpace(string(data))
	}
	// Another lab may have raised them already: then its record is the truth.
	if err := writeJSON(filepath.Join(l.dir, "limits.json"), l.trueLimits(was)); err != nil {
		return err
	}
	for key, old := range was {
		if n, err := strconv.Atoi(old); err == nil && n >= l.opts.NeighbourTable {
			continue
		}
		if err := setSysctl(key, strconv.Itoa(l.opts.NeighbourTable)); err != nil {
			return err
		}
	}
	return nil
}

// trueLimits returns the limits as they were before any lab raised them.
func (l *Lab) trueLimits(now map[string]string) map[string]string {
	for _, f := range l.otherLimits() {
		was := map[string]string{}
		if readJSON(f, &was) == nil && len(was) == len(now) {
			return was
		}
	}
	return now
}

// otherLimits lists the records of other labs that raised limits.
func (l *Lab) otherLimits() []string {
	files, _ := filepath.Glob(filepath.Join(stateRoot, "*", "limits.json"))
	var others []string
	for _, f := range files {
		if f != filepath.Join(l.dir, "limits.json") {
			others = append(others, f)
		}
	}
	return others
}

// restoreLimits puts back what raiseLimits changed, unless another lab still
// needs it: then that one's down will.
func (l *Lab) restoreLimits() error {
	was := map[string]string{}
	if readJSON(filepath.Join(l.dir, "limits.json"), &was) != nil || len(l.otherLimits()) > 0 {
		return nil
	}
	for key, value := range was {
		if err := setSysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}
