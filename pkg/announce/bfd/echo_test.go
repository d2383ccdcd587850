package bfd

import (
	"net/netip"
	"os"
	"testing"
	"time"
)

func echoConfig() Config {
	cfg := config(50*ms, 50*ms, 3)
	cfg.EchoInterval = 40 * ms
	return cfg
}

func TestEchoPacketsFindALossOut(t *testing.T) {
	p := newPair(echoConfig(), config(50*ms, 50*ms, 3), 1)
	p.echoRx, p.returns = 20*ms, true
	p.run(10 * time.Second)
	p.wantStates(t, Up, Up)
	if at := p.ends[0].echoInterval(); at != 40*ms || !p.ends[0].echoDetected() {
		t.Errorf("echo packets every %s, and they count: %t", at, p.ends[0].echoDetected())
	}
	if last := p.sent[0][len(p.sent[0])-1]; last.RequiredMinRx != slow {
		t.Errorf("the peer is asked to send every %s while echo packets come back", last.RequiredMinRx)
	}
	if n := len(p.since(1, p.now.Add(-5*time.Second))); n > 8 {
		t.Errorf("the peer sent %d control packets in 5 s", n)
	}
	cut := p.now
	p.returns = false
	for end := p.now.Add(time.Second); p.ends[0].state == Up && p.now.Before(end); {
		p.run(ms)
	}
	if took := p.now.Sub(cut); p.ends[0].state != Down || p.ends[0].diagnostic != EchoFunctionFailed || took > 130*ms {
		t.Errorf("%s after %s, %s", p.ends[0].state, took, p.ends[0].diagnostic)
	}
	// Control packets still come through, and are believed as long as no echo packet comes back.
	p.run(10 * time.Second)
	p.wantStates(t, Up, Up)
	if last := p.sent[0][len(p.sent[0])-1]; last.RequiredMinRx != 50*ms {
		t.Errorf("the peer is asked to send every %s while no echo packets come back", last.RequiredMinRx)
	}
}

func TestAPeerThatReturnsNothingIsSentNoEchoPackets(t *testing.T) {
	p := newPair(echoConfig(), config(50*ms, 50*ms, 3), 1)
	p.run(5 * time.Second)
	p.wantStates(t, Up, Up)
	if p.ends[0].echoing() {
		t.Error("it is sent echo packets")
	}
	p.echoRx, p.returns = 100*ms, true
	p.run(5 * time.Second)
	if !p.ends[0].echoDetected() || p.ends[0].echoInterval() != 100*ms {
		t.Errorf("it returns them, every %s", p.ends[0].echoInterval())
	}
	p.echoRx = 0
	p.run(2 * time.Second) // it says so before it ceases
	p.returns = false
	p.run(5 * time.Second)
	p.wantStates(t, Up, Up)
	if p.ends[0].echoing() || p.ends[0].transitions != 1 {
		t.Errorf("it ceased to: echo packets are sent: %t, %d transitions", p.ends[0].echoing(), p.ends[0].transitions)
	}
	p.echoRx = 100 * ms // it says so, and returns none yet
	p.run(2 * time.Second)
	p.wantStates(t, Up, Up)
	p.returns = true
	p.run(5 * time.Second)
	if !p.ends[0].echoDetected() || p.ends[0].transitions != 1 {
		t.Errorf("it returns them again: they count: %t, %d transitions", p.ends[0].echoDetected(), p.ends[0].transitions)
	}
}

func TestADatagramIsReadAsItWasWritten(t *testing.T) {
	for _, a := range []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")} {
		for _, payload := range []string{"", "odd", "even"} {
			b := appendEcho(nil, a, []byte(payload))
			d, sound := parseUDP(append(b, 0, 0), a.Is6()) // Ethernet pads
			if !sound || d.from != a || d.ttl != maxTTL || d.port != portEcho || string(d.payload) != payload {
				t.Errorf("%s %q: read as %+v, %t", a, payload, d, sound)
			}
			header := ipv6Len
			if a.Is4() {
				header = ipv4Len
				if got := sum(0, b[:header]); got != 0xffff {
					t.Errorf("%s %q: the header adds up to %#x, RFC 1071", a, payload, got)
				}
			}
			pseudo := sum(sum(sum(0, a.AsSlice()), a.AsSlice()), []byte{0, 17, 0, byte(len(b) - header)})
			if got := sum(pseudo, b[header:]); got != 0xffff {
				t.Errorf("%s %q: the datagram adds up to %#x, RFC 768", a, payload, got)
			}
		}
	}
}

func FuzzDatagram(f *testing.F) {
	f.Add(appendEcho(nil, addr("192.0.2.1"), []byte("payload")), false)
	f.Add(appendEcho(nil, addr("2001:db8::1"), []byte("payload")), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if d, sound := parseUDP(b, v6); sound && len(d.payload) > len(b) {
			t.Errorf("%d bytes out of %d", len(d.payload), len(b))
		}
	})
}

// TestARouterReturnsEchoPackets: they go through its forwarding plane. When that ends, it is found out, though its control plane goes on.
func TestARouterReturnsEchoPackets(t *testing.T) {
	node, far := segment(t)
	newFRR(t, far, node.linkLocal(t))
	forward := func(value string) {
		t.Helper()
		if err := far.try(func() error {
			for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
				if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	forward("1")
	peers := peers(t, node, far)
	e, _ := node.sessions(t)
	want := all(peers, echoConfig())
	for p, cfg := range want {
		cfg.MinimumTTL = 254
		want[p] = cfg
	}
	if err := e.Set(want); err != nil {
		t.Fatal(err)
	}
	near := []Peer{peers["198.19.1.1"], peers["fd00:19:1::1"]}
	for _, p := range near {
		await(t, "echo packets come back from "+p.String(), func() bool { return e.Have()[p].Echo == 50*ms })
	}
	for own, p := range peers {
		await(t, p.String()+" is Up", e.is(p, Up))
		if s := e.Have()[p]; s.Echo != 0 && own != "198.19.1.1" && own != "fd00:19:1::1" {
			t.Errorf("echo packets are sent to %s", p)
		}
	}
	time.Sleep(3 * time.Second)
	for _, p := range near {
		if s := e.Have()[p]; s.State != Up || s.Transitions != 1 || s.Echo == 0 {
			t.Errorf("%s: %+v", p, s)
		}
	}
	forward("0")
	for _, p := range near {
		await(t, p.String()+" is found out", func() bool { return e.Have()[p].Transitions >= 2 })
	}
}
