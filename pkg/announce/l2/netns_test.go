package l2

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// host is a network namespace of its own that a goroutine on its own thread stands in. It ends with the test, and all that
// is in it. Without privilege the tests fail: they must not look as if they had been run.
type host struct {
	name  string
	calls chan func()
	fd    int
}

func newHost(t testing.TB, name string) *host {
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
		t.Fatalf("creating a network namespace (this test needs root, or CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW): %v", err)
	}
	t.Cleanup(func() {
		_ = unix.Close(h.fd)
		close(h.calls)
	})
	return h
}

// try runs f in the namespace.
func (h *host) try(f func() error) error {
	result := make(chan error)
	h.calls <- func() { result <- f() }
	return <-result
}

func (h *host) do(t testing.TB, f func() error) {
	t.Helper()
	if err := h.try(f); err != nil {
		t.Fatalf("%s: %v", h.name, err)
	}
}

// run runs a program in the namespace and returns what it printed.
func (h *host) run(t testing.TB, name string, args ...string) (out string, err error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v (on Debian: apt-get install iproute2 iputils-arping ndisc6)", err)
	}
	err = h.try(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		b, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
		out = string(b)
		return err
	})
	return out, err
}

func (h *host) ip(t testing.TB, args string) {
	t.Helper()
	if out, err := h.run(t, "ip", strings.Fields(args)...); err != nil {
		t.Fatalf("%s: ip %s: %v\n%s", h.name, args, err, out)
	}
}

func (h *host) sysctl(t testing.TB, key, value string) {
	t.Helper()
	h.do(t, func() error { return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0) })
}

func (h *host) proc(t testing.TB, file string) (content string) {
	t.Helper()
	h.do(t, func() error {
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		content = string(b)
		return err
	})
	return content
}

// link returns the link of a name as pkg/links would.
func (h *host) link(t testing.TB, name string) (link cluster.Link) {
	t.Helper()
	h.do(t, func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a := l.Attrs()
		m, err := cluster.MACFrom(a.HardwareAddr)
		link = cluster.Link{Name: name, Index: a.Index, MAC: m, Up: a.RawFlags&unix.IFF_UP != 0 && a.OperState == netlink.OperUp}
		return err
	})
	return link
}

// hostPort does in the namespace what opens sockets.
type hostPort struct {
	*packetPort
	h *host
}

func (p hostPort) Groups(want []netip.Addr) error {
	return p.h.try(func() error { return p.packetPort.Groups(want) })
}

func (h *host) opener(link cluster.Link, family cluster.Family) (Port, error) {
	var p *packetPort
	err := h.try(func() (err error) {
		p, err = openPacket(link, family, slog.New(slog.DiscardHandler))
		return err
	})
	if err != nil {
		return nil, err
	}
	return hostPort{p, h}, nil
}

// hearAll opens a socket that nothing is kept from but what is no question and no claim.
func (h *host) hearAll(link cluster.Link, family cluster.Family) (Port, error) {
	p, err := h.opener(link, family)
	if err != nil {
		return nil, err
	}
	return p, p.(hostPort).admit([]span{{0, math.MaxUint32}})
}

// speak runs an Announcer in the namespace until the test ends.
func (h *host) speak(t testing.TB, timings Timings) (*Announcer, *Counters) {
	t.Helper()
	c := &Counters{}
	a := New(Config{Open: h.opener, Timings: timings, Counters: c})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not return")
		}
	})
	return a, c
}

func setReal(t testing.TB, a *Announcer, p announce.L2Plan) Have {
	t.Helper()
	have, err := a.Set(context.Background(), p)
	if err != nil {
		t.Fatalf("Set: %v", err)
	}
	return have
}

// segment connects hosts, each by its lan0, to the bridge br0 in a namespace that it returns. The hosts have 192.0.2.N/24
// and 2001:db8::N/64, counted from 1.
func segment(t testing.TB, hosts ...*host) *host {
	t.Helper()
	sw := newHost(t, "switch")
	sw.ip(t, "link add br0 type bridge forward_delay 0")
	sw.ip(t, "link set br0 up")
	for i, h := range hosts {
		port := fmt.Sprintf("port%d", i+1)
		sw.do(t, func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "lan0", PeerNamespace: netlink.NsFd(h.fd)})
		})
		sw.ip(t, "link set "+port+" master br0 up")
		h.ip(t, "link set lo up")
		h.configure(t, i+1)
	}
	for i := range hosts {
		eventually(t, "the bridge forwards", func() bool {
			out, err := sw.run(t, "bridge", "link", "show", "dev", fmt.Sprintf("port%d", i+1))
			return err == nil && strings.Contains(out, "state forwarding")
		})
	}
	return sw
}

func (h *host) configure(t testing.TB, n int) {
	t.Helper()
	h.sysctl(t, "ipv6/conf/lan0/accept_dad", "0")
	h.sysctl(t, "ipv6/conf/lan0/router_solicitations", "0")
	h.ip(t, fmt.Sprintf("addr add 192.0.2.%d/24 dev lan0", n))
	h.ip(t, fmt.Sprintf("addr add 2001:db8::%d/64 dev lan0 nodad", n))
	h.ip(t, "link set lan0 up")
	eventually(t, h.name+" up", func() bool { return h.link(t, "lan0").Up })
}

// eventually waits for something to become true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

// poke makes the kernel resolve an address by sending it a datagram.
func (h *host) poke(t testing.TB, a netip.Addr) {
	t.Helper()
	h.do(t, func() error {
		domain, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: 9, Addr: a.As16()})
		if a.Is4() {
			domain, to = unix.AF_INET, &unix.SockaddrInet4{Port: 9, Addr: a.As4()}
		}
		fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return unix.Sendto(fd, []byte("x"), 0, to)
	})
}

// neighbour returns what the kernel remembers of an address.
func (h *host) neighbour(t testing.TB, a netip.Addr) (state int, at cluster.MAC) {
	t.Helper()
	h.do(t, func() error {
		all, err := netlink.NeighList(0, netlink.FAMILY_ALL)
		for _, n := range all {
			if got, ok := netip.AddrFromSlice(n.IP); ok && got.Unmap() == a {
				state = n.State
				copy(at[:], n.HardwareAddr)
			}
		}
		return err
	})
	return state, at
}
