package noderuntime

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
)

// pods are one like most and one like the speaker, each with what hardened
// manifests ask for. Without a scheduler they name their node themselves.
const pods = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: default}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-root-ca.crt}
data: {ca.crt: none}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  nodeName: node-1
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: web
    image: bellwether-lab/webserver:dev
    ports: [{containerPort: 8080, hostPort: 18080}]
    env:
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  nodeName: node-1
  hostNetwork: true
  securityContext: {seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: host
    image: bellwether-lab/webserver:dev
    args: [--listen, ":18081"]
    securityContext:
      runAsUser: 0
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL], add: [NET_RAW]}
`

func TestNodeLivesLosesPowerAndLeavesNothing(t *testing.T) {
	c := startCluster(t)
	n := c.node
	if before := traces(t, n, nil); before != "" {
		t.Fatalf("there is something of the node before it starts:\n%s", before)
	}
	c.powerOn(t)
	c.kubectl(t, pods, "apply", "-f", "-")
	c.awaitPods(t)

	t.Run("answers", func(t *testing.T) { c.checkAnswers(t) })
	t.Run("privileges", func(t *testing.T) { c.checkPrivileges(t) })
	t.Run("logs", func(t *testing.T) {
		if got := c.kubectl(t, "", "logs", "host"); !strings.Contains(got, "listening on") {
			t.Errorf("kubectl logs printed %q", got)
		}
	})
	t.Run("loses power and comes back", func(t *testing.T) {
		containers := c.containers(t)
		start := time.Now()
		if err := n.PowerOff(); err != nil {
			t.Fatal(err)
		}
		t.Logf("power-off took %s", time.Since(start))
		if left := traces(t, n, containers); left != "" {
			t.Errorf("power-off left something behind:\n%s", left)
		}
		c.powerOn(t)
		c.awaitAnswer(t, "http://127.0.0.1:18081/")
		c.awaitAnswer(t, "http://198.18.0.11:18080/")
	})
	t.Run("is removed after a crash", func(t *testing.T) {
		containers := c.containers(t)
		c.crash(t)
		if err := n.Remove(); err != nil {
			t.Fatal(err)
		}
		if left := traces(t, n, containers); left != "" {
			t.Errorf("removal left something behind:\n%s", left)
		}
		for _, dir := range []string{n.Dir, n.RunDir} {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", dir, err)
			}
		}
		if err := n.Remove(); err != nil {
			t.Errorf("a second removal: %v", err)
		}
	})
}

// checkAnswers asks the pods for who they are, at all their addresses.
func (c *cluster) checkAnswers(t *testing.T) {
	var pod struct {
		Status struct {
			PodIPs []struct{ IP netip.Addr } `json:"podIPs"`
		} `json:"status"`
	}
	if err := json.Unmarshal([]byte(c.kubectl(t, "", "get", "pod", "web", "-o", "json")), &pod); err != nil {
		t.Fatal(err)
	}
	if len(pod.Status.PodIPs) != 2 {
		t.Fatalf("the pod has addresses %v, want one a family", pod.Status.PodIPs)
	}
	for i, ip := range pod.Status.PodIPs {
		if !c.node.PodNets[i].Contains(ip.IP) {
			t.Errorf("pod address %s is not in %s", ip.IP, c.node.PodNets[i])
		}
		got := c.awaitAnswer(t, "http://"+net.JoinHostPort(ip.IP.String(), "8080")+"/")
		if !strings.Contains(got, "name: web\nnode: node-1\n") {
			t.Errorf("%s answered %q", ip.IP, got)
		}
	}
	c.awaitAnswer(t, "http://198.18.0.11:18080/")       // hostPort
	c.awaitAnswer(t, "http://[fd00:198:18::11]:18081/") // hostNetwork
}

// checkPrivileges looks at the pods' processes from outside.
func (c *cluster) checkPrivileges(t *testing.T) {
	var inNode unix.Stat_t
	if err := unix.Stat(c.node.NetNS, &inNode); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	pids, err := c.node.processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if !strings.HasPrefix(string(args), "/webserver") {
			continue
		}
		var in unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &in); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"Uid": "65532", "CapEff": "0000000000000000", "Seccomp": "2", "NoNewPrivs": "1"}
		host := strings.Contains(string(args), "18081")
		if host {
			want["Uid"], want["CapEff"] = "0", "0000000000002000" // CAP_NET_RAW is bit 13
		}
		if (in.Ino == inNode.Ino) != host {
			t.Errorf("hostNetwork %t, but in the node's namespace %t", host, in.Ino == inNode.Ino)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			key, values, _ := strings.Cut(line, ":")
			if w, ok := want[key]; ok && strings.Fields(values)[0] != w {
				t.Errorf("hostNetwork %t: %s is %s, want %s", host, key, strings.Fields(values)[0], w)
			}
		}
		seen[strconv.FormatBool(host)] = true
	}
	if len(seen) != 2 {
		t.Errorf("found the processes of %d pods among %v, want 2", len(seen), pids)
	}
}

// containers are the running node's, of which there are some, each with traces.
func (c *cluster) containers(t *testing.T) []string {
	t.Helper()
	ids, err := c.node.containers()
	if err != nil || len(ids) != 4 {
		t.Errorf("the node has containers %v, %v; want the two pods' two each", ids, err)
	}
	if found := traces(t, c.node, ids); strings.Count(found, "/"+cgroupParent+"/") < len(ids) || !strings.Contains(found, "mounts of") {
		t.Errorf("a running node should leave more traces than\n%s", found)
	}
	return ids
}

// crash kills containerd and every shim, so that nothing ties the containers to
// the node any more but their cgroups.
func (c *cluster) crash(t *testing.T) {
	t.Helper()
	pids, err := c.node.processes()
	if err != nil {
		t.Fatal(err)
	}
	ours := func(pid int) bool {
		_, ours := c.node.program(pid)
		return ours
	}
	for _, pid := range pids {
		p, err := sweep.Read(pid)
		if err != nil || !ours(pid) {
			continue
		}
		held, err := sweep.Hold(pid, p.Born, ours)
		if err != nil {
			t.Fatal(err)
		}
		if err := held.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		held.Close()
	}
	await(t, "the containers to be alone", func() error {
		left, err := c.node.processes()
		if err == nil && len(left) != 4 {
			err = fmt.Errorf("found %v; want the two pods' two containers each", left)
		}
		return err
	})
}

// traces is what betrays the node on this machine: processes, mounts, the
// cgroups of these containers, and files outside its folders.
func traces(t *testing.T, n Node, containers []string) string {
	t.Helper()
	var b strings.Builder
	tables, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		// A container sees its root file system, which lies in the node's Dir.
		if data, err := os.ReadFile(table); err == nil && mentions(n, string(data)) {
			args, _ := os.ReadFile(filepath.Join(filepath.Dir(table), "cmdline"))
			fmt.Fprintf(&b, "mounts of %q\n", args)
		}
	}
	pids, err := n.processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		fmt.Fprintf(&b, "process %d %q\n", pid, args)
	}
	mounts, err := sweep.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		for _, id := range containers {
			group := filepath.Join(m.Path, cgroupParent, id)
			if _, err := os.Stat(group); err == nil && strings.HasPrefix(m.Kind, "cgroup") {
				fmt.Fprintln(&b, "cgroup", group)
			}
		}
	}
	for _, pattern := range []string{"/var/log/containers/*", "/var/lib/cni/results/*", "/var/log/pods/*", "/run/netns/cni-*", "/run/containerd/s/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, _ := os.ReadFile(f)
			if to, _ := os.Readlink(f); mentions(n, to) || mentions(n, string(data)) || len(data) == 0 && to == "" {
				fmt.Fprintln(&b, "file", f)
			}
		}
	}
	return b.String()
}

func mentions(n Node, s string) bool {
	return strings.Contains(s, n.Dir+"/") || strings.Contains(s, n.RunDir+"/")
}

// awaitAnswer asks from inside the node until somebody answers.
func (c *cluster) awaitAnswer(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: c.node.dial}}
	var last error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if last = err; err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if last = err; err == nil && resp.StatusCode == http.StatusOK {
			resp.Body.Close()
			return string(body)
		}
		resp.Body.Close()
	}
	t.Fatalf("no answer from %s: %v", url, last)
	return ""
}

// Whoever ends a node may know no more of it than its folders. These look only:
// a test that fails must not end what runs on the machine.
func TestOnlyWhatIsProvenIsTheNodes(t *testing.T) {
	full := Programs{Containerd: "/x/containerd", Ctr: "/x/ctr", Runc: "/x/runc", Kubelet: "/x/kubelet"}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, programs := range map[string]Programs{
		"none":           {},
		"all":            full,
		"no kubelet":     {Containerd: "/x/containerd", Ctr: "/x/ctr", Runc: "/x/runc"},
		"no containerd":  {Ctr: "/x/ctr", Runc: "/x/runc", Kubelet: "/x/kubelet"},
		"the right file": {Containerd: self, Ctr: self, Runc: self, Kubelet: self},
	} {
		n := Node{Name: "n", Dir: t.TempDir(), RunDir: t.TempDir(), Programs: programs}
		if pids, err := n.processes(); err != nil || len(pids) > 0 {
			t.Errorf("%s: takes processes %v for the node's, %v", name, pids, err)
		}
	}
}

func TestFoldersOfTheWholeMachineAreRefused(t *testing.T) {
	for _, bad := range []string{"", "/", "/run", "/tmp", "run/node", "/run/../etc", "/run/node/", "."} {
		for _, n := range []Node{{Dir: bad, RunDir: "/run/x/n"}, {Dir: "/run/x/n", RunDir: bad}} {
			if n.checkFolders() == nil {
				t.Errorf("Dir %q and RunDir %q are accepted", n.Dir, n.RunDir)
			}
		}
	}
}

func TestWriteRefusesWhatCannotWork(t *testing.T) {
	good := Node{
		Name: "n", NetNS: "/n", Dir: "/x/d", RunDir: "/x/r", CNIBinDir: "/b", Kubeconfig: "/k", PauseImage: "p",
		Programs: Programs{"/1", "/2", "/3", "/4"}, Addrs: []netip.Addr{{}}, PodNets: []netip.Prefix{{}},
	}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Node){
		"relative folder": func(n *Node) { n.Dir = "d" },
		"root folder":     func(n *Node) { n.Dir = "/" },
		"unclean path":    func(n *Node) { n.RunDir = "/x/r/" },
		"long run folder": func(n *Node) { n.RunDir = "/x/" + strings.Repeat("r", 42) },
		"no address":      func(n *Node) { n.Addrs = nil },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Write(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
