package discovery

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// host is a network namespace that a goroutine on its own thread stands in. Without privilege the tests fail.
type host struct {
	calls chan func()
	tid   int
}

func newHost(t *testing.T) *host {
	t.Helper()
	h, failed := &host{calls: make(chan func())}, make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
		h.tid = unix.Gettid()
		failed <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range h.calls {
			f()
		}
	}()
	if err := <-failed; err != nil {
		t.Fatalf("creating a network namespace (this test needs root): %v", err)
	}
	t.Cleanup(func() { close(h.calls) })
	return h
}

func (h *host) do(f func()) {
	done := make(chan struct{})
	h.calls <- func() { defer close(done); f() }
	<-done
}

func (h *host) ip(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		var out []byte
		var err error
		h.do(func() { out, err = exec.CommandContext(t.Context(), "ip", strings.Fields(c)...).CombinedOutput() })
		if err != nil {
			t.Fatalf("ip %s: %v: %s", c, err, out)
		}
	}
}

func (h *host) open(link string) (conn *ndp.Conn, ifi *net.Interface, own netip.Addr, err error) {
	h.do(func() { conn, ifi, own, err = open(link) })
	return conn, ifi, own, err
}

// wire joins a node and a switch that the test speaks for.
func wire(t *testing.T) (node, other *host) {
	t.Helper()
	node, other = newHost(t), newHost(t)
	node.ip(t, "link add lan0 type veth peer name lan1 netns "+strconv.Itoa(other.tid))
	for h, link := range map[*host]string{node: "lan0", other: "lan1"} {
		h.ip(t, "link set "+link+" addrgenmode none", "link set "+link+" up")
	}
	node.ip(t, "address add fe80::1/64 dev lan0 nodad")
	return node, other
}

// engine runs an Engine at a host until the test ends.
func (h *host) engine(t *testing.T) *Engine {
	t.Helper()
	e := New(slog.New(slog.DiscardHandler), func() {})
	e.open = h.open
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

// say has a router with an address of its own advertise itself once, with a hop limit.
func (h *host) say(t *testing.T, addr string, hopLimit int) {
	t.Helper()
	var conn *ndp.Conn
	var ifi *net.Interface
	var err error
	h.do(func() {
		if ifi, err = net.InterfaceByName("lan1"); err == nil {
			conn, _, err = ndp.Listen(ifi, ndp.Addr(addr))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	control := &ipv6.ControlMessage{HopLimit: hopLimit, IfIndex: ifi.Index}
	if err := conn.WriteTo(&ndp.RouterAdvertisement{}, control, netip.IPv6LinkLocalAllNodes()); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, e *Engine, what string, is func(Found) bool) {
	t.Helper()
	var have Found
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if have = e.Have()["lan0"]; is(have) {
			return
		}
	}
	t.Fatalf("not within 20 s: %s; it is %+v", what, have)
}

func TestTheRouterOnALinkIsFound(t *testing.T) {
	node, other := wire(t)
	other.ip(t, "address add fe80::99/64 dev lan1 nodad", "address add fe80::98/64 dev lan1 nodad")
	e := node.engine(t)
	e.Set([]string{"lan0"})
	await(t, e, "it says that it hears none", func(f Found) bool { return strings.HasPrefix(f.Problem, "no router is heard on the link lan0") })
	other.say(t, "fe80::98", 64) // from behind a router
	other.say(t, "fe80::99", 255)
	await(t, e, "the router is found", func(f Found) bool {
		return f == Found{Router: netip.MustParseAddr("fe80::99%lan0"), Own: netip.MustParseAddr("fe80::1")}
	})
	other.say(t, "fe80::98", 255) // another one takes nobody's place
	time.Sleep(100 * time.Millisecond)
	await(t, e, "it stays", func(f Found) bool { return f.Router == netip.MustParseAddr("fe80::99%lan0") })
	e.Set(nil)
	await(t, e, "nothing is known of a link that is not looked on", func(f Found) bool { return f == Found{} })
}

// TestSeveralRoutersOnALinkAreNone: they are heard before there is a choice made, as in a second of listening.
func TestSeveralRoutersOnALinkAreNone(t *testing.T) {
	s := &search{link: "lan0", log: slog.New(slog.DiscardHandler), own: netip.MustParseAddr("fe80::1"), heard: map[netip.Addr]time.Time{}}
	var found Found
	s.say = func(f Found) { found = f }
	a, b, now := netip.MustParseAddr("fe80::a"), netip.MustParseAddr("fe80::b"), time.Now()
	s.heard[a], s.heard[b] = now, now
	s.choose(now)
	if found.Router.IsValid() || !strings.HasPrefix(found.Problem, "several routers are heard on the link lan0 (fe80::a, fe80::b)") {
		t.Errorf("found %+v", found)
	}
	s.heard[b] = now.Add(forgotten)
	if s.choose(now.Add(forgotten + time.Second)); found.Router != b.WithZone("lan0") {
		t.Errorf("found %+v when only one was left", found)
	}
	if s.choose(now.Add(10 * forgotten)); found.Router != b.WithZone("lan0") {
		t.Errorf("found %+v when it was silent, and nobody else was heard", found)
	}
	s.heard[a] = now.Add(10 * forgotten)
	if s.choose(now.Add(10 * forgotten)); found.Router != a.WithZone("lan0") {
		t.Errorf("found %+v when another had taken its place", found)
	}
}

// TestThisNodeIsFoundToo: it answers who advertises itself, as no router for anybody.
func TestThisNodeIsFoundToo(t *testing.T) {
	node, other := wire(t)
	other.ip(t, "address add fe80::99/64 dev lan1 nodad")
	conn, _, _, err := other.open("lan1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	e := node.engine(t)
	e.Set([]string{"lan0"})
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	message, control, from, err := conn.ReadFrom()
	if err != nil {
		t.Fatal(err)
	}
	if ra, is := message.(*ndp.RouterAdvertisement); !is || ra.RouterLifetime != 0 || control.HopLimit != 255 || from.WithZone("") != netip.MustParseAddr("fe80::1") {
		t.Errorf("%s says %+v with %+v", from, message, control)
	}
	node.ip(t, "link set lan0 down")
	await(t, e, "it says what is wrong with the link", func(f Found) bool { return strings.Contains(f.Problem, "cannot be looked for on the link lan0") })
	node.ip(t, "link set lan0 up", "address add fe80::1/64 dev lan0 nodad")
	await(t, e, "it looks again", func(f Found) bool { return f.Own.IsValid() })
}
