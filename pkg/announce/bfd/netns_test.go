package bfd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is a network namespace of its own that a goroutine on its own thread stands in, with all that is in it until the test ends.
// Without privilege the tests fail: they must not look as if they had been run.
type host struct {
	name  string
	calls chan func()
	fd    int
}

func newHost(t *testing.T, name string) *host {
	t.Helper()
	h, failed := &host{name: name, calls: make(chan func())}, make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		failed <- err
		for f := range h.calls {
			f()
		}
	}()
	if err := <-failed; err != nil {
		t.Fatalf("creating a network namespace (this test needs root, or CAP_SYS_ADMIN and CAP_NET_ADMIN): %v", err)
	}
	t.Cleanup(func() {
		_ = unix.Close(h.fd)
		close(h.calls)
	})
	return h
}

func (h *host) try(f func() error) error {
	result := make(chan error)
	h.calls <- func() { result <- f() }
	return <-result
}

func (h *host) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out []byte
	err := h.try(func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		out, err = exec.CommandContext(ctx, name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %s %s: %v\n%s", h.name, name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (h *host) ip(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		h.run(t, "ip", strings.Fields(c)...)
	}
}

// start runs a program in the namespace until the test ends.
func (h *host) start(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v (on Debian: apt-get install frr bird2)", err)
	}
	cmd := exec.Command(path, args...)
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := h.try(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s of %s printed:\n%s", filepath.Base(name), h.name, log)
		}
	})
}

// sessions runs an engine in the namespace until stop, and at the longest until the test ends. It ends without a word.
func (h *host) sessions(t *testing.T) (engine *Engine, stop func()) {
	t.Helper()
	e, err := New(slog.New(slog.DiscardHandler), &Counters{}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.try(func() error { return e.Run(ctx) }) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return e, stop
}

// segment connects a node (198.19.1.1, fd00:19:1::1) and a router (.2, ::2) by their lan0. A third host between them forwards between
// 198.19.8.1 of the node and 198.19.9.2 of the router.
func segment(t *testing.T) (node, router *host) {
	t.Helper()
	node, router = newHost(t, "node"), newHost(t, "router")
	between, lan := newHost(t, "between"), newHost(t, "lan")
	lan.ip(t, "link add br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up")
	for i, h := range []*host{node, router, between} {
		port := fmt.Sprintf("port%d", i+1)
		if err := lan.try(func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "lan0", PeerNamespace: netlink.NsFd(h.fd)})
		}); err != nil {
			t.Fatal(err)
		}
		lan.ip(t, "link set "+port+" master br0 up")
		h.ip(t, "link set lo up", "link set lan0 up",
			fmt.Sprintf("addr add 198.19.1.%d/24 dev lan0", i+1), fmt.Sprintf("addr add fd00:19:1::%d/64 dev lan0 nodad", i+1))
	}
	if err := between.try(func() error {
		for name, value := range map[string]string{"ip_forward": "1", "conf/all/send_redirects": "0", "conf/lan0/send_redirects": "0"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	between.ip(t, "route add 198.19.8.1 via 198.19.1.1", "route add 198.19.9.2 via 198.19.1.2")
	node.ip(t, "addr add 198.19.8.1/32 dev lo", "route add 198.19.9.2 via 198.19.1.3 src 198.19.8.1")
	router.ip(t, "addr add 198.19.9.2/32 dev lo", "route add 198.19.8.1 via 198.19.1.3 src 198.19.9.2")
	return node, router
}

// linkLocal waits for a host's link-local address to be usable.
func (h *host) linkLocal(t *testing.T) string {
	t.Helper()
	var found string
	await(t, h.name+" has a link-local address", func() bool {
		out := h.run(t, "ip", "-6", "-o", "addr", "show", "dev", "lan0", "scope", "link")
		fields := strings.Fields(out)
		for i, f := range fields {
			if f == "inet6" && !strings.Contains(out, "tentative") {
				found, _, _ = strings.Cut(fields[i+1], "/")
				return true
			}
		}
		return false
	})
	return found
}

// scratch is a directory that a user may write to.
func scratch(t *testing.T, owner string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bfd") //nolint:usetesting // another user must be able to enter it, and sockets' paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	u, err := user.Lookup(owner)
	if err != nil {
		t.Fatalf("%v (on Debian: apt-get install frr bird2)", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
