package scenarios

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// way is one of the ways to reach a Pod from outside.
type way struct {
	name, from string // the place that asks
	at         netip.AddrPort
	host       string // the header
	sees       string // what the app takes for its client
}

// answer is what the app says.
type answer map[string]string

func (w way) ask(ctx context.Context, client *http.Client) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.at.String()+"/", http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Host = w.host
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err != nil {
		return nil, err
	}
	a := answer{}
	for line := range strings.Lines(string(body)) {
		key, value, _ := strings.Cut(line, ":")
		a[key] = strings.TrimSpace(value)
	}
	return a, nil
}

// TestSixWaysIn has one app reached by hostNetwork, hostPort, port-forward, NodePort, LoadBalancer and Ingress at once, as docs/ways-in.md
// says, and what it sees of its clients.
func TestSixWaysIn(t *testing.T) {
	s := onFullLab(t)
	s.act(s.LoadPrograms(s.ctx, components.Skipper(), map[string]string{"skipper": "bellwether-lab/skipper"}))
	s.pool("lan", "198.18.0.200-198.18.0.210")
	folder := filepath.Join(s.Repo, "config", "samples", "ways-in")
	s.must("apply", "-k", folder)
	t.Cleanup(func() {
		if _, err := s.Kubectl(context.WithoutCancel(s.ctx), "delete", "-k", folder, "--timeout=90s"); err != nil {
			t.Error(err)
		}
	})
	for _, workload := range []string{"deployment/web", "daemonset/web-hostnetwork", "daemonset/web-hostport", "deployment/ingress-controller"} {
		s.must("rollout", "status", "-n", "ways-in", workload, "--timeout=120s")
	}
	ways := s.waysIn()
	for _, w := range ways {
		client := s.Lab.HTTPClient(w.from, time.Second)
		var last error
		s.eventually(30*time.Second, w.name+" leads to the app", func() bool {
			_, last = w.ask(s.ctx, client)
			return last == nil
		})
	}
	var all errgroup.Group
	for _, w := range ways {
		all.Go(func() error {
			client := s.Lab.HTTPClient(w.from, 2*time.Second)
			for range 50 {
				a, err := w.ask(s.ctx, client)
				if err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
				if !strings.HasPrefix(a["name"], "web") || s.client(w, a) != w.sees {
					return fmt.Errorf("%s: the app says %v, want a client that is %s", w.name, a, w.sees)
				}
				time.Sleep(50 * time.Millisecond)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Errorf("%v; the ingress controllers say: %s", err, s.must("logs", "-n", "ways-in", "-l", "app=ingress-controller", "--prefix", "--tail=20"))
	}
}

// waysIn are all six, once there are addresses.
func (s *scene) waysIn() []way {
	s.Helper()
	node := s.Lab.Nodes()[0].Addrs[0]
	address := func(service string) netip.AddrPort {
		addrs, err := s.Addresses(s.ctx, "ways-in", service, 1)
		s.act(err)
		return netip.AddrPortFrom(addrs[0], 80)
	}
	return []way{
		{"hostNetwork", lab.Client, netip.AddrPortFrom(node, 8081), "", "the client"},
		{"hostPort", lab.Client, netip.AddrPortFrom(node, 8082), "", "the client"},
		{"port-forward", lab.Control, s.forward(), "", "its own host"},
		{"NodePort", lab.Client, netip.AddrPortFrom(node, 30080), "", "a node"},
		{"LoadBalancer", lab.Client, address("web"), "", "the client"},
		{"Ingress", lab.Client, address("ingress"), "web.example.com", "a Pod, for the client"},
	}
}

// client says what the app takes for its client.
func (s *scene) client(w way, a answer) string {
	from, err := netip.ParseAddrPort(a["client"])
	if err != nil {
		return a["client"]
	}
	addr, client := from.Addr().Unmap(), s.Lab.Addrs(w.from)[0].String()
	switch {
	case addr.String() == client:
		return "the client"
	case addr.IsLoopback():
		return "its own host"
	case a["forwarded-for"] == client:
		return "a Pod, for the client"
	default:
		return "a node"
	}
}

// forward has a port of the control plane's machine forwarded to a Pod of the app, until the test ends.
func (s *scene) forward() netip.AddrPort {
	s.Helper()
	cmd := s.Lab.CommandContext(s.ctx, lab.Control, s.Lab.Binary("kubectl"), "--kubeconfig", s.Lab.Kubeconfig(),
		"port-forward", "-n", "ways-in", "deployment/web", "8083:8080")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	s.act(err)
	s.act(cmd.Start())
	s.Cleanup(func() { ended(cmd) })
	if said, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(said, "127.0.0.1:8083") {
		s.Fatalf("port-forward says %q, %v", said, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return netip.MustParseAddrPort("127.0.0.1:8083")
}

func ended(cmd *exec.Cmd) { _ = cmd.Wait() } // the test's context has ended: it was told to
