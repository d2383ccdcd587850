package bgp

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// stranger, in the environment, is where a process that is not the speaker's is to connect.
const stranger = "BELLWETHER_TEST_STRANGER"

// TestOnlyThisProcessGetsToTheRouter: the port that gobgp connects to is open to every process of a node, and the session is the speaker's.
func TestOnlyThisProcessGetsToTheRouter(t *testing.T) {
	if to := os.Getenv(stranger); to != "" {
		c, err := net.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(message(bgp.BGP_MSG_KEEPALIVE))
		said, _ := io.ReadAll(c)
		if len(said) > 0 {
			t.Fatalf("heard %x", said)
		}
		return
	}
	router, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan net.Conn, 9)
	go func() {
		for {
			c, err := router.Accept()
			if err != nil {
				return
			}
			reached <- c
		}
	}()
	defer func() { _ = router.Close() }()
	r, err := newRelay(t.Context(), endpoint{router: netip.MustParseAddrPort(router.Addr().String())}, netip.Addr{}, &counters{}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer r.end()
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOnlyThisProcessGetsToTheRouter$")
	other.Env = append(os.Environ(), stranger+"="+r.listener.Addr().String())
	if out, err := other.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ours, err := net.Dial("tcp", r.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	word := message(bgp.BGP_MSG_NOTIFICATION, 6, 2)
	if _, err := ours.Write(word); err != nil {
		t.Fatal(err)
	}
	c := <-reached
	r.end() // what has been said is still to arrive
	_ = ours.Close()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, word) {
		t.Errorf("the router heard %x (%v), want %x", got, err, word)
	}
	if len(reached) > 0 {
		t.Error("somebody else has reached the router too")
	}
}

// TestARouterIsTriedUntilItIsThere, and no longer than gobgp waits.
func TestARouterIsTriedUntilItIsThere(t *testing.T) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(port.Addr().String())
	_ = port.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := newRelay(ctx, endpoint{router: to}, netip.Addr{}, &counters{}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	refused := func() bool { return r.progress() == progress{away: true, problem: "connect: connection refused"} }
	gives, err := net.Dial("tcp", r.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	await(t, "it is said why there is no connection", refused)
	_ = gives.Close()
	quiet, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	_ = quiet.SetDeadline(time.Now().Add(3 * time.Second))
	if c, err := quiet.Accept(); err == nil {
		t.Errorf("the router is tried from %s, and gobgp has given up", c.RemoteAddr())
	}
	_ = quiet.Close()
	stays, err := net.Dial("tcp", r.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stays.Close() }()
	await(t, "it is tried anew", refused)
	if port, err = net.Listen("tcp", to.String()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = port.Close() }()
	await(t, "it is there", func() bool { return r.progress() == progress{} })
}

// TestWhatGobgpHears of what a router says.
func TestWhatGobgpHears(t *testing.T) {
	opens, err := open(rogueASN, 9, both()...).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	alive, route := message(bgp.BGP_MSG_KEEPALIVE), message(bgp.BGP_MSG_UPDATE, 0, 0, 0, 0, 8, 10)
	end4, end6 := endOfRIB(bgp.AFI_IP), endOfRIB(bgp.AFI_IP6)
	unreachable := func(afi byte) []byte { return message(bgp.BGP_MSG_UPDATE, 0, 0, 0, 6, 0x80, 15, 3, 0, afi, 1) }
	longer := func(afi byte) []byte { return message(bgp.BGP_MSG_UPDATE, 0, 0, 0, 7, 0x90, 15, 0, 3, 0, afi, 1) }
	for _, c := range []struct {
		name       string
		says, want [][]byte
	}{
		{"routes are left out", [][]byte{opens, alive, route, end4, route, end6}, [][]byte{opens, alive, end4, end6}},
		{"of every End-of-RIB", [][]byte{opens, alive, unreachable(1), unreachable(2), longer(1), longer(2)}, [][]byte{opens, alive, end4, end6, end4, end6}},
		{"nothing of that of another family", [][]byte{opens, alive, unreachable(25)}, [][]byte{opens, alive}},
		{"of a route before the OPEN that there was one", [][]byte{route}, [][]byte{end4}},
		{"of a route before the session is up that there was one", [][]byte{opens, route}, [][]byte{opens, end4}},
		{"the last word", [][]byte{opens, alive, message(bgp.BGP_MSG_NOTIFICATION, 6, 4)}, [][]byte{opens, alive, message(bgp.BGP_MSG_NOTIFICATION, 6, 4)}},
		{"of noise that it is none", [][]byte{opens, bytes.Repeat([]byte{0xfe}, 99)}, [][]byte{opens, wrongHeader()}},
		{"nothing of half a message", [][]byte{opens, alive[:18]}, [][]byte{opens}},
	} {
		var heard bytes.Buffer
		inbound{relay: &relay{counts: &counters{}}, to: &heard}.run(bytes.NewReader(slices.Concat(c.says...)))
		if want := slices.Concat(c.want...); !bytes.Equal(heard.Bytes(), want) {
			t.Errorf("%s: heard %x, want %x", c.name, heard.Bytes(), want)
		}
	}
	in := &inbound{relay: &relay{counts: &counters{}}, opened: true, up: true, alive: time.Unix(100, 0)}
	for _, c := range []struct {
		after time.Duration
		want  []byte
	}{{249 * time.Millisecond, nil}, {250 * time.Millisecond, alive}, {499 * time.Millisecond, nil}, {500 * time.Millisecond, alive}} {
		if got := in.admit(route, time.Unix(100, 0).Add(c.after)); !bytes.Equal(got, c.want) {
			t.Errorf("%s after a KEEPALIVE it hears %x of a route, want %x", c.after, got, c.want)
		}
	}
}

// TestARouterIsDialledFromTheAddressThatRoutesLeadTo, and what it has connected to stays the address of the session.
func TestARouterIsDialledFromTheAddressThatRoutesLeadTo(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	r := &relay{now: progress{away: true}, own: one, changed: func() {}}
	if got := r.from(two); got != two {
		t.Errorf("before there is a connection it is from %s, want %s", got, two)
	}
	if r.arrive(one) {
		t.Errorf("a connection from %s is taken, and routes lead to %s", one, two)
	}
	if !r.arrive(two) || r.progress().away {
		t.Errorf("a connection from %s is not taken", two)
	}
	if got := r.from(one); got != two {
		t.Errorf("while there is a connection routes lead to %s, want %s", got, two)
	}
}
