package bfd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// runEngine runs an engine until the test ends.
func runEngine(t *testing.T) (*Engine, *Counters) {
	t.Helper()
	counters := &Counters{}
	e, err := New(slog.New(slog.DiscardHandler), counters, func() {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e, counters
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("not within 20 s: %s", what)
}

func (e *Engine) is(p Peer, s State) func() bool {
	return func() bool { have, is := e.Have()[p]; return is && have.State == s }
}

// facing is a session and the one that faces it.
func facing(a, b netip.Addr, multihop bool) (Peer, Peer) {
	return Peer{Remote: b, Local: a, Multihop: multihop}, Peer{Remote: a, Local: b, Multihop: multihop}
}

func TestSessionsOverRealSockets(t *testing.T) {
	e, counters := runEngine(t)
	cfg := config(50*ms, 50*ms, 3)
	far := cfg
	far.MinimumTTL = 254
	want := map[Peer]Config{}
	var peers []Peer
	for _, one := range []struct {
		a, b     string
		multihop bool
	}{{"127.0.0.1", "127.0.0.2", false}, {"127.0.0.3", "127.0.0.4", false}, {"127.0.0.1", "127.0.0.2", true}} {
		a, b := facing(addr(one.a), addr(one.b), one.multihop)
		for _, p := range []Peer{a, b} {
			want[p] = cfg
			if one.multihop {
				want[p] = far
			}
			peers = append(peers, p)
		}
	}
	if err := e.Set(want); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		await(t, p.String()+" is Up", e.is(p, Up))
	}
	await(t, "the detection time is agreed on", func() bool { return e.Have()[peers[0]].Detection == 150*ms })
	if n := counters.Unknown.Load() + counters.TTL.Load() + counters.Malformed.Load(); n > 0 {
		t.Errorf("%d packets were of no session", n)
	}

	other := want[peers[0]]
	delete(want, peers[0])
	if err := e.Set(want); err != nil {
		t.Fatal(err)
	}
	await(t, "the peer of an ended session hears of it", func() bool {
		s := e.Have()[peers[1]]
		return s.State == Down && s.RemoteState == AdminDown && s.Diagnostic == NeighborSignaledDown
	})
	want[peers[0]] = other
	if err := e.Set(want); err != nil {
		t.Fatal(err)
	}
	await(t, "a session that is wanted again comes up", e.is(peers[1], Up))
	for _, p := range peers[2:] {
		if s := e.Have()[p]; s.Transitions != 1 {
			t.Errorf("%s went up or down %d times while another was edited", p, s.Transitions)
		}
	}
}

func TestForgedPacketsAreDroppedAndCounted(t *testing.T) {
	e, counters := runEngine(t)
	a, b := facing(addr("127.0.0.5"), addr("127.0.0.6"), false)
	if err := e.Set(map[Peer]Config{a: config(50*ms, 50*ms, 3), b: config(50*ms, 50*ms, 3)}); err != nil {
		t.Fatal(err)
	}
	await(t, "the session is Up", e.is(a, Up))
	for _, row := range []struct {
		name    string
		from    string
		ttl     int
		forge   func(p *packet)
		raw     []byte
		counter *atomic.Uint64
	}{
		{"through a router", "127.0.0.6", 254, func(*packet) {}, nil, &counters.TTL},
		{"of somebody without a session", "127.0.0.7", 255, func(*packet) {}, nil, &counters.Unknown},
		{"with a discriminator of no session", "127.0.0.6", 255, func(p *packet) { p.YourDiscriminator = 12345 }, nil, &counters.Unknown},
		{"truncated", "127.0.0.6", 255, nil, wire()[:20], &counters.Malformed},
		{"not BFD", "127.0.0.6", 255, nil, []byte("hello, is anybody there? I am here."), &counters.Malformed},
	} {
		t.Run(row.name, func(t *testing.T) {
			payload := row.raw
			if payload == nil {
				p := packet{State: Down, MyDiscriminator: 7, DetectMultiplier: 3, DesiredMinTx: time.Second, RequiredMinRx: time.Second}
				row.forge(&p)
				payload = p.append(nil)
			}
			before := row.counter.Load()
			tell(t, row.from, "127.0.0.5", row.ttl, payload)
			await(t, "the packet is counted", func() bool { return row.counter.Load() > before })
			if s := e.Have()[a]; s.State != Up || s.Transitions != 1 {
				t.Errorf("the session is %s after %d transitions", s.State, s.Transitions)
			}
		})
	}
}

// tell sends one datagram.
func tell(t *testing.T, from, to string, ttl int, payload []byte) {
	t.Helper()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(to), Port: portSingleHop})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	if _, err := conn.Write(payload); err != nil {
		t.Fatal(err)
	}
}

func TestAFloodOfForgedPacketsTakesNoSessionDown(t *testing.T) {
	e, counters := runEngine(t)
	a, b := facing(addr("127.0.0.8"), addr("127.0.0.9"), false)
	if err := e.Set(map[Peer]Config{a: config(50*ms, 50*ms, 5), b: config(50*ms, 50*ms, 5)}); err != nil {
		t.Fatal(err)
	}
	await(t, "the session is Up", e.is(a, Up))
	conn, err := net.Dial("udp", "127.0.0.8:3784")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	const perSecond = 2000
	for range perSecond * 2 {
		_, _ = conn.Write(wire())
		time.Sleep(time.Second / perSecond)
	}
	if s := e.Have()[a]; s.State != Up || s.Transitions != 1 {
		t.Errorf("the session is %s after %d transitions", s.State, s.Transitions)
	}
	if counters.Unknown.Load() == 0 {
		t.Error("no packet of the flood was counted")
	}
}

func TestWhatCannotRunSaysWhy(t *testing.T) {
	t.Run("a source address that is not there", func(t *testing.T) {
		e, _ := runEngine(t)
		p := Peer{Remote: addr("127.0.0.2"), Local: addr("192.0.2.1")}
		if err := e.Set(map[Peer]Config{p: config(50*ms, 50*ms, 3)}); err != nil {
			t.Fatal(err)
		}
		await(t, "the status names the address", func() bool {
			return e.Have()[p].Problem == "192.0.2.1 is not an address of this node"
		})
	})
	t.Run("another BFD daemon", func(t *testing.T) {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: portSingleHop})
		if err != nil {
			t.Fatal(err)
		}
		e, _ := runEngine(t)
		p, q := facing(addr("127.0.0.1"), addr("127.0.0.2"), false)
		if err := e.Set(map[Peer]Config{p: config(50*ms, 50*ms, 3), q: config(50*ms, 50*ms, 3)}); err != nil {
			t.Fatal(err)
		}
		await(t, "the status names the port", func() bool {
			return strings.HasPrefix(e.Have()[p].Problem, "UDP port 3784 is another program's")
		})
		_ = conn.Close()
		await(t, "the session comes up once the port is free", e.is(p, Up))
	})
	t.Run("settings", func(t *testing.T) {
		e, _ := runEngine(t)
		for _, cfg := range []Config{config(0, 50*ms, 3), config(50*ms, 50*ms, 0), config(50*ms, 1500*time.Nanosecond+ms, 3)} {
			if err := e.Set(map[Peer]Config{{Remote: addr("127.0.0.2")}: cfg}); err == nil {
				t.Errorf("%+v is taken", cfg)
			}
		}
	})
}
