package lab

import (
	"fmt"

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
