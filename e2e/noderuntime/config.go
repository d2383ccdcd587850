package noderuntime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// containerdConfig is containerd's configuration. Every path in it that has a
// default is set, for the default is the same for all nodes.
func (n Node) containerdConfig() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("version = 3")
	line("root = %q", filepath.Join(n.Dir, "containerd"))
	line("state = %q", n.containerdRun())
	line("[grpc]\naddress = %q", n.socket())
	line("[ttrpc]\naddress = %q", n.socket()+".ttrpc")
	line("[plugins.'io.containerd.shim.v1.manager']\nsocket_dir = %q", n.RunDir)
	line("[plugins.'io.containerd.internal.v1.opt']\npath = %q", filepath.Join(n.Dir, "opt"))
	// The node resource interface listens at one path for the whole machine.
	line("[plugins.'io.containerd.nri.v1.nri']\ndisable = true")
	line("[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = %q", n.PauseImage)
	line("[plugins.'io.containerd.cri.v1.runtime']")
	// Machines that are containers themselves may not lower OOM scores.
	line("restrict_oom_score_adj = true")
	// Below RunDir, not in /run/netns: there a crash would leave namespaces
	// of which nobody knows whose they were.
	line("netns_mounts_under_state_dir = true")
	line("[plugins.'io.containerd.cri.v1.runtime'.cni]")
	line("bin_dirs = [%q]\nconf_dir = %q\nuse_internal_loopback = true", n.CNIBinDir, n.cniConf())
	line("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'")
	line("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]")
	line("BinaryName = %q\nRoot = %q\nSystemdCgroup = false", n.Programs.Runc, filepath.Join(n.RunDir, "runc"))
	return b.Bytes()
}

// networkConfig is the CNI configuration: every pod has a veth pair of its own
// to the node, addresses out of the node's ranges, and its hostPorts.
func (n Node) networkConfig() ([]byte, error) {
	type object = map[string]any
	var ranges, routes []any
	for _, p := range n.PodNets {
		ranges = append(ranges, []any{object{"subnet": p.Masked().String()}})
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if p.Addr().Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		routes = append(routes, object{"dst": all.String()})
	}
	return marshal("the pod network's configuration", object{
		"cniVersion": "1.0.0",
		"name":       "lab",
		"plugins": []any{
			object{"type": "ptp", "ipam": object{
				"type": "host-local", "dataDir": filepath.Join(n.Dir, "cni", "addresses"), "ranges": ranges, "routes": routes,
			}},
			object{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	})
}

// kubeletConfig is the kubelet's configuration file.
func (n Node) kubeletConfig() ([]byte, error) {
	type object = map[string]any
	var podNets []string
	for _, p := range n.PodNets {
		podNets = append(podNets, p.Masked().String())
	}
	never := object{}
	for _, signal := range []string{"memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"} {
		never[signal] = "0%"
	}
	config := object{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix://" + n.socket(),
		"podCIDR":                  strings.Join(podNets, ","),
		"podLogsDir":               n.PodLogs(),
		"volumePluginDir":          filepath.Join(n.Dir, "volume-plugins"),
		// The lab has no DNS: pods get an empty resolv.conf.
		"resolvConf":   "",
		"failCgroupV1": false,
		"cgroupDriver": "cgroupfs",
		// A tree of cgroups by quality of service needs controllers that not
		// every machine delegates.
		"cgroupsPerQOS":          false,
		"enforceNodeAllocatable": []string{},
		"failSwapOn":             false,
		"oomScoreAdj":            0,
		// The machine's disk and memory are not the node's: never evict, and
		// never collect images, for there is nowhere to pull them from again.
		"evictionHard":                never,
		"imageGCHighThresholdPercent": 100,
		"authentication":              object{"anonymous": object{"enabled": true}, "webhook": object{"enabled": false}},
		"authorization":               object{"mode": "AlwaysAllow"},
	}
	if n.ClientCA != "" {
		config["authentication"] = object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": n.ClientCA},
		}
		config["authorization"] = object{"mode": "Webhook"}
	}
	return marshal("the kubelet's configuration", config)
}

func marshal(what string, v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", what, err)
	}
	return append(data, '\n'), nil
}
