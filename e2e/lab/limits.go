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

// limits lists what this lab changes of the machine's own settings: it raises
// the neighbour table when asked to, and kubelets set theirs when they start.
func (l *Lab) limits() []string {
	var keys []string
	if l.opts.NeighbourTable > 0 {
		keys = append(keys, neighbourLimits()...)
	}
	if !l.opts.Light {
		keys = append(keys, noderuntime.Tunables()...)
	}
	return keys
}

// raiseLimits writes down what the machine's settings are, and raises the
// neighbour table's thresholds.
func (l *Lab) raiseLimits() error {
	now := map[string]string{}
	for _, key := range l.limits() {
		value, err := sysctl(key)
		if err != nil {
			return err
		}
		now[key] = value
	}
	// Another lab may have changed them already: then its record is the truth.
	was := maps.Clone(now)
	for key, value := range l.otherLimits() {
		if _, ours := was[key]; ours {
			was[key] = value
		}
	}
	if err := writeJSON(filepath.Join(l.dir, limitsFile), was); err != nil {
		return err
	}
	if l.opts.NeighbourTable == 0 {
		return nil
	}
	for _, key := range neighbourLimits() {
		if n, err := strconv.Atoi(now[key]); err == nil && n >= l.opts.NeighbourTable {
			continue
		}
		if err := setSysctl(key, strconv.Itoa(l.opts.NeighbourTable)); err != nil {
			return err
		}
	}
	return nil
}

const limitsFile = "limits.json"

// otherLimits is what other labs wrote down.
func (l *Lab) otherLimits() map[string]string {
	files, _ := filepath.Glob(filepath.Join(stateRoot, "*", limitsFile))
	others := map[string]string{}
	for _, f := range files {
		was := map[string]string{}
		if f != filepath.Join(l.dir, limitsFile) && readJSON(f, &was) == nil {
			maps.Copy(others, was)
		}
	}
	return others
}

// restoreLimits puts back what was changed, except what another lab still
// needs: that one's down will.
func (l *Lab) restoreLimits() error {
	was := map[string]string{}
	if readJSON(filepath.Join(l.dir, limitsFile), &was) != nil {
		return nil
	}
	others := l.otherLimits()
	for key, value := range was {
		now, err := sysctl(key)
		if err != nil {
			return err
		}
		if _, needed := others[key]; needed || now == value {
			continue
		}
		if err := setSysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

func sysctl(key string) (string, error) {
	data, err := os.ReadFile(filepath.Join("/proc/sys", key))
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(data)), nil
}
