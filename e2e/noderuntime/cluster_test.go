package noderuntime

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/images"
	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
	"github.com/bellwether-lb/bellwether/e2e/internal/sysctl"
	"github.com/bellwether-lb/bellwether/e2e/internal/testlock"
)

// cluster is one node, with etcd and an API server in its own namespace: the
// least that lets a kubelet run pods.
type cluster struct {
	node       Node
	bins       components.Binaries
	images     []string
	kubeconfig string
	logs       string
}

// startCluster makes a namespace with a control plane in it, and a node that
// has not been started.
func startCluster(t *testing.T) *cluster {
	testlock.Machine(t)
	//nolint:usetesting // it outlives a test that failed: it holds the logs
	dir, err := os.MkdirTemp("", "noderuntime-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs are in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := components.InstallPackages(t.Context(), os.Stderr, components.FullPackages()); err != nil {
		t.Fatal(err)
	}
	bins, err := components.Ensure(t.Context(), os.Stderr, components.Full()...)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{bins: bins, kubeconfig: filepath.Join(dir, "kubeconfig"), logs: dir}
	c.pack(t, dir)
	keepTunables(t)
	netns := makeNetNS(t)
	c.node = Node{
		Name: "node-1", NetNS: netns, Dir: filepath.Join(dir, "node"),
		RunDir: fmt.Sprintf("/run/bellwether-test/%d", os.Getpid()), CNIBinDir: "/usr/lib/cni", Kubeconfig: c.kubeconfig,
		Programs: Programs{Containerd: bins["containerd"], Ctr: bins["ctr"], Runc: bins["runc"], Kubelet: bins["kubelet"]},
		Addrs:    []netip.Addr{netip.MustParseAddr("198.18.0.11"), netip.MustParseAddr("fd00:198:18::11")},
		PodNets:  []netip.Prefix{netip.MustParsePrefix("198.19.1.0/24"), netip.MustParsePrefix("fd00:198:19:1::/64")},
		Labels:   map[string]string{"lab": "test"}, PauseImage: "bellwether-lab/pause:dev",
	}
	t.Cleanup(func() {
		if err := c.node.PowerOff(); err != nil {
			t.Error(err)
		}
		_ = os.Remove("/run/bellwether-test") // fails while another test has a node
	})
	c.startControlPlane(t, dir)
	return c
}

func (c *cluster) pack(t *testing.T, dir string) {
	t.Helper()
	repo, err := images.FindRepo(".")
	if err != nil {
		t.Fatal(err)
	}
	specs, err := images.Select([]string{"pause", "webserver"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		img, err := images.Builder{Repo: repo, Version: "dev"}.Pack(t.Context(), s, runtime.GOARCH, dir)
		if err != nil {
			t.Fatal(err)
		}
		c.images = append(c.images, img.File)
	}
}

// keepTunables puts the machine's settings back at the end of the test, by the
// same records as labs that are up beside it.
func keepTunables(t *testing.T) {
	t.Helper()
	const dir = "/run/bellwether-lab/test-noderuntime"
	if err := sysctl.Restore(t.Context(), dir); err != nil { // of a test that was killed
		t.Fatal(err)
	}
	if err := sweep.Own(dir); err != nil {
		t.Fatal(err)
	}
	wants := map[string]int{}
	for _, key := range Tunables() {
		wants[key] = 0
	}
	if err := sysctl.Raise(t.Context(), dir, wants); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(sysctl.Restore(ctx, dir), sweep.Remove(dir)); err != nil {
			t.Error(err)
		}
		_ = os.Remove(filepath.Dir(dir)) // fails while there are labs
	})
}

// makeNetNS is a namespace with the node's addresses on one end of a veth pair
// whose other end is in there too.
func makeNetNS(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("bwtest-%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if said, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() { ip("netns", "delete", name) })
	ip("-n", name, "link", "set", "lo", "up")
	ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "far")
	ip("-n", name, "link", "set", "far", "up")
	ip("-n", name, "link", "set", "eth0", "up")
	ip("-n", name, "address", "add", "198.18.0.11/24", "dev", "eth0")
	ip("-n", name, "address", "add", "fd00:198:18::11/64", "dev", "eth0", "nodad")
	return "/run/netns/" + name
}

func (c *cluster) startControlPlane(t *testing.T, dir string) {
	t.Helper()
	key := filepath.Join(dir, "service-account.key")
	secret, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(secret)}
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens := filepath.Join(dir, "tokens")
	if err := os.WriteFile(tokens, []byte("secret,admin,1,system:masters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const kubeconfig = `{"apiVersion": "v1", "kind": "Config", "current-context": "x",
		"clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true}}],
		"users": [{"name": "x", "user": {"token": "secret"}}],
		"contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]}`
	if err := os.WriteFile(c.kubeconfig, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(t, "etcd", nil, c.bins["etcd"], "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync")
	c.start(t, "kube-apiserver", nil, c.bins["kube-apiserver"],
		"--etcd-servers=http://127.0.0.1:2379", "--cert-dir="+filepath.Join(dir, "certs"), "--token-auth-file="+tokens,
		"--authorization-mode=RBAC", "--service-cluster-ip-range=198.19.128.0/20,fd00:198:1a::/112",
		"--advertise-address=198.18.0.11", "--endpoint-reconciler-type=none", "--service-account-issuer=https://lab",
		"--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--kubelet-preferred-address-types=InternalIP")
	await(t, "the API server", func() error {
		_, err := c.tryKubectl(t.Context(), "", "get", "--raw", "/readyz")
		return err
	})
}

// powerOn starts the node and waits until the API server calls it ready.
func (c *cluster) powerOn(t *testing.T) {
	t.Helper()
	start := time.Now()
	if err := c.node.Write(); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.node.Processes() {
		c.start(t, p.Name, p.Env, p.Path, p.Args...)
		await(t, p.Name, func() error { return p.Ready(t.Context()) })
		if p.Name == "containerd" {
			if err := c.node.LoadImages(t.Context(), c.images...); err != nil {
				t.Fatal(err)
			}
		}
	}
	since := time.Now().UTC().Format(time.RFC3339)
	await(t, "the node", func() error {
		// A heartbeat from before a loss of power does not count.
		got, err := c.tryKubectl(t.Context(), "", "get", "node", "node-1", "-o",
			`jsonpath={.status.conditions[?(@.type=="Ready")]['status','lastHeartbeatTime']}`)
		if status, beat, _ := strings.Cut(got, " "); err == nil && (status != "True" || beat < since) {
			return fmt.Errorf("ready is %q since %s", status, beat)
		}
		return err
	})
	t.Logf("node ready after %s", time.Since(start))
}

func (c *cluster) awaitPods(t *testing.T) {
	t.Helper()
	start := time.Now()
	c.kubectl(t, "", "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
	t.Logf("pods ready after %s", time.Since(start))
}

// start runs a program in the node's namespace until the test ends.
func (c *cluster) start(t *testing.T, name string, env []string, path string, args ...string) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(c.logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", append([]string{"--net=" + c.node.NetNS, "--", path}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // most are killed; why one ended by itself is in its log
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (c *cluster) kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := c.tryKubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *cluster) tryKubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	full := append([]string{"--net=" + c.node.NetNS, "--", c.bins["kubectl"], "--kubeconfig=" + c.kubeconfig}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", full...)
	var out, failure bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &failure
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, failure.Bytes())
	}
	return out.String(), nil
}

func await(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("waited for %s in vain: %v", what, err)
}
