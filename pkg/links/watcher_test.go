package links

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// namespace is a network namespace of its own that a goroutine on its own thread stands in. Without privilege the test
// fails: it must not look as if it had been run.
type namespace struct {
	calls chan func()
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	ns, failed := &namespace{calls: make(chan func())}, make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread, and with it the namespace, ends with this goroutine
		failed <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range ns.calls {
			f()
		}
	}()
	if err := <-failed; err != nil {
		t.Fatalf("creating a network namespace (this test needs root, or CAP_SYS_ADMIN and CAP_NET_ADMIN): %v", err)
	}
	t.Cleanup(func() { close(ns.calls) })
	return ns
}

func (ns *namespace) do(t *testing.T, f func() error) {
	t.Helper()
	result := make(chan error)
	ns.calls <- func() { result <- f() }
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// watched returns what a Watcher publishes in a namespace.
func watched(t *testing.T, ns *namespace) <-chan []cluster.Link {
	t.Helper()
	published := make(chan []cluster.Link, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	started := make(chan bool)
	ns.calls <- func() {
		// A goroutine of a locked thread does not inherit its namespace: the Watcher gets a thread that enters it.
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		go func() {
			runtime.LockOSThread()
			if err == nil {
				err = unix.Setns(fd, unix.CLONE_NEWNET)
				_ = unix.Close(fd)
			}
			started <- err == nil
			done <- New(slog.New(slog.DiscardHandler), func(l []cluster.Link) { published <- l }).Run(ctx)
		}()
	}
	if !<-started {
		t.Fatal("cannot enter the namespace")
	}
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run does not return")
		}
	})
	return published
}

// await takes what is published until it is as wanted.
func await(t *testing.T, published <-chan []cluster.Link, what string, wanted func([]cluster.Link) bool) []cluster.Link {
	t.Helper()
	var last []cluster.Link
	deadline := time.After(10 * time.Second)
	for {
		select {
		case last = <-published:
			if wanted(last) {
				return last
			}
		case <-deadline:
			t.Fatalf("not seen: %s; last %+v", what, last)
		}
	}
}

func TestWatcher(t *testing.T) {
	ns := newNamespace(t)
	published := watched(t, ns)
	await(t, published, "the empty list", func(l []cluster.Link) bool { return len(l) == 0 })

	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan1"}, PeerName: "veth9"}
	ns.do(t, func() error { return netlink.LinkAdd(pair) })
	first := await(t, published, "lan1, and not its veth peer", func(l []cluster.Link) bool {
		return len(l) == 1 && l[0].Name == "lan1" && !l[0].Up
	})[0]

	ns.do(t, func() error { return netlink.LinkSetUp(pair) })
	ns.do(t, func() error { return setUp("veth9") })
	await(t, published, "up", func(l []cluster.Link) bool { return len(l) == 1 && l[0].Up })

	ns.do(t, func() error {
		a, err := netlink.ParseAddr("192.0.2.1/24")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(pair, a)
	})
	v4 := netip.MustParsePrefix("192.0.2.1/24")
	await(t, published, "the IPv4 address", func(l []cluster.Link) bool { return slices.Contains(l[0].Prefixes, v4) })
	// The link-local address appears once duplicate address detection is over, and no earlier.
	seen := time.Now()
	await(t, published, "the link-local address", func(l []cluster.Link) bool {
		return len(l[0].Prefixes) == 2 && l[0].Prefixes[1].Addr().IsLinkLocalUnicast()
	})
	t.Logf("link-local address seen %v after the IPv4 one", time.Since(seen))

	ns.do(t, func() error { return setDown("veth9") })
	await(t, published, "no carrier", func(l []cluster.Link) bool { return len(l) == 1 && !l[0].Up })
	ns.do(t, func() error { return setUp("veth9") })
	await(t, published, "carrier", func(l []cluster.Link) bool { return len(l) == 1 && l[0].Up })

	ns.do(t, func() error {
		return netlink.LinkSetHardwareAddr(pair, []byte{2, 0, 0, 0, 0, 0x77})
	})
	await(t, published, "the new MAC", func(l []cluster.Link) bool { return l[0].MAC == cluster.MAC{2, 0, 0, 0, 0, 0x77} })

	// Re-created under the same name: another index.
	ns.do(t, func() error {
		if err := netlink.LinkDel(pair); err != nil {
			return err
		}
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan1"}, PeerName: "veth9"})
	})
	await(t, published, "the successor", func(l []cluster.Link) bool { return len(l) == 1 && l[0].Index != first.Index })

	// Made the port of a bridge: the bridge takes its place.
	ns.do(t, func() error {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
			return err
		}
		return setMaster("lan1", "br0")
	})
	await(t, published, "the bridge in place of its port", func(l []cluster.Link) bool { return len(l) == 1 && l[0].Name == "br0" })
}

// TestBurst changes links faster than they are listed: what is published last is what is true.
func TestBurst(t *testing.T) {
	ns := newNamespace(t)
	published := watched(t, ns)
	const rounds = 60
	ns.do(t, func() error {
		for range rounds {
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan1"}, PeerName: "veth9"}); err != nil {
				return err
			}
			if err := setUp("lan1"); err != nil {
				return err
			}
			l, err := netlink.LinkByName("lan1")
			if err != nil {
				return err
			}
			if err := netlink.LinkDel(l); err != nil {
				return err
			}
		}
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan2"}, PeerName: "veth9"})
	})
	n := 0
	await(t, published, "the last link", func(l []cluster.Link) bool { n++; return len(l) == 1 && l[0].Name == "lan2" })
	select {
	case l := <-published:
		t.Errorf("published again without a change: %+v", l)
	case <-time.After(300 * time.Millisecond):
	}
	// Sorted by name, whatever the order they were made in.
	ns.do(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan1"}, PeerName: "veth8"})
	})
	await(t, published, "lan1 and lan2", func(l []cluster.Link) bool { return len(l) == 2 && l[0].Name == "lan1" && l[1].Name == "lan2" })
	t.Logf("%d changes, published %d times", 6*rounds, n)
}

func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func setDown(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetDown(l)
}

func setMaster(name, master string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	m, err := netlink.LinkByName(master)
	if err != nil {
		return err
	}
	return netlink.LinkSetMaster(l, m)
}
