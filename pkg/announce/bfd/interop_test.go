package bfd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// peerView is what a router says of its session with the node.
type peerView struct {
	up        bool
	remoteRx  time.Duration // what it has been told
	detection time.Duration
	downs     int
}

// router is somebody else's implementation of BFD, with sessions to the node of segment over one hop (IPv4, IPv6, link-local) and over
// two, each asking for 50 ms x 3.
type router interface {
	// view is what it says of its session with an address of the node.
	view(t *testing.T, node string) peerView
	// leastTTL is what its packets have after one router: FRR sends them with 255 over several hops too, BIRD with the system's 64.
	leastTTL() uint8
}

type frr struct {
	*host
	dir string
}

func newFRR(t *testing.T, h *host, nodeLinkLocal string) router {
	t.Helper()
	r := &frr{host: h, dir: scratch(t, "frr")}
	timers := "  receive-interval 50\n  transmit-interval 50\n  detect-multiplier 3\n"
	var config strings.Builder
	config.WriteString("bfd\n")
	for _, peer := range []string{
		"198.19.1.1 local-address 198.19.1.2 interface lan0",
		"fd00:19:1::1 local-address fd00:19:1::2 interface lan0",
		nodeLinkLocal + " local-address " + h.linkLocal(t) + " interface lan0",
		"198.19.8.1 multihop local-address 198.19.9.2",
	} {
		fmt.Fprintf(&config, " peer %s\n%s", peer, timers)
		if strings.Contains(peer, "multihop") {
			config.WriteString("  minimum-ttl 254\n")
		}
		config.WriteString(" exit\n")
	}
	at := func(name string) string { return filepath.Join(r.dir, name) }
	write(t, at("zebra.conf"), "hostname router\n")
	write(t, at("bfdd.conf"), config.String())
	common := []string{"-z", at("zserv.api"), "--vty_socket", r.dir, "-u", "frr", "-g", "frr", "--log", "stdout"}
	h.start(t, "/usr/lib/frr/zebra", append([]string{"-f", at("zebra.conf"), "-i", at("zebra.pid")}, common...)...)
	h.start(t, "/usr/lib/frr/bfdd", append([]string{"-f", at("bfdd.conf"), "-i", at("bfdd.pid"), "--bfdctl", at("bfdd.sock")}, common...)...)
	await(t, "FRR is there", func() bool { return exists(at("bfdd.vty")) && exists(at("zebra.vty")) })
	return r
}

func (r *frr) show(t *testing.T, what, node string, into any) {
	t.Helper()
	out := r.run(t, "vtysh", "--vty_socket", r.dir, "-c", what)
	var all []json.RawMessage
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("vtysh %s: %v\n%s", what, err, out)
	}
	for _, one := range all {
		var name struct{ Peer string }
		if err := json.Unmarshal(one, &name); err != nil {
			t.Fatal(err)
		}
		if name.Peer != node {
			continue
		}
		if err := json.Unmarshal(one, into); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("FRR has no session with %s:\n%s", node, out)
}

func (*frr) leastTTL() uint8 { return 254 }

func (r *frr) view(t *testing.T, node string) peerView {
	t.Helper()
	var peer struct {
		Status           string
		Receive          int `json:"receive-interval"`
		RemoteReceive    int `json:"remote-receive-interval"`
		RemoteTransmit   int `json:"remote-transmit-interval"`
		RemoteMultiplier int `json:"remote-detect-multiplier"`
	}
	r.show(t, "show bfd peers json", node, &peer)
	var counters struct {
		Downs int `json:"session-down"`
	}
	r.show(t, "show bfd peers counters json", node, &counters)
	return peerView{up: peer.Status == "up", remoteRx: time.Duration(peer.RemoteReceive) * ms, downs: counters.Downs,
		detection: time.Duration(peer.RemoteMultiplier*max(peer.RemoteTransmit, peer.Receive)) * ms}
}

type bird struct {
	*host
	control string
}

func newBIRD(t *testing.T, h *host, nodeLinkLocal string) router {
	t.Helper()
	dir := scratch(t, "bird")
	r := &bird{host: h, control: filepath.Join(dir, "ctl")}
	write(t, filepath.Join(dir, "bird.conf"), fmt.Sprintf(`
router id 198.19.1.2;
protocol device { }
protocol bfd {
	interface "lan0" { min rx interval 50 ms; min tx interval 50 ms; idle tx interval 1 s; multiplier 3; };
	multihop { min rx interval 50 ms; min tx interval 50 ms; idle tx interval 1 s; multiplier 3; };
	neighbor 198.19.1.1 dev "lan0" local 198.19.1.2;
	neighbor fd00:19:1::1 dev "lan0" local fd00:19:1::2;
	neighbor %s dev "lan0" local %s;
	neighbor 198.19.8.1 local 198.19.9.2 multihop on;
}
`, nodeLinkLocal, h.linkLocal(t)))
	h.start(t, "bird", "-f", "-c", filepath.Join(dir, "bird.conf"), "-s", r.control, "-P", filepath.Join(dir, "pid"))
	await(t, "BIRD is there", func() bool { return exists(r.control) })
	return r
}

func (*bird) leastTTL() uint8 { return 63 }

// view reads a line like "198.19.1.1  lan0  Up  12:00:00.000  0.050  0.150".
func (r *bird) view(t *testing.T, node string) peerView {
	t.Helper()
	out := r.run(t, "birdc", "-s", r.control, "show", "bfd", "sessions")
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 6 || f[0] != node {
			continue
		}
		v := peerView{up: f[2] == "Up"}
		for _, one := range []struct {
			text string
			into *time.Duration
		}{{f[len(f)-2], &v.remoteRx}, {f[len(f)-1], &v.detection}} {
			seconds, err := strconv.ParseFloat(one.text, 64)
			if err != nil {
				t.Fatalf("birdc says %q: %v", line, err)
			}
			*one.into = time.Duration(seconds * float64(time.Second)).Round(ms)
		}
		return v
	}
	t.Fatalf("BIRD has no session with %s:\n%s", node, out)
	return peerView{}
}

// routers are the others that sessions are tried with.
func routers() map[string]func(*testing.T, *host, string) router {
	return map[string]func(*testing.T, *host, string) router{"FRR": newFRR, "BIRD": newBIRD}
}

// peers are the node's ends of the sessions that the routers have.
func peers(t *testing.T, node, router *host) map[string]Peer {
	t.Helper()
	linkLocal := func(h *host) netip.Addr { return addr(h.linkLocal(t)).WithZone("lan0") }
	return map[string]Peer{
		"198.19.1.1":                          {Remote: addr("198.19.1.2"), Local: addr("198.19.1.1")},
		"fd00:19:1::1":                        {Remote: addr("fd00:19:1::2"), Local: addr("fd00:19:1::1")},
		linkLocal(node).WithZone("").String(): {Remote: linkLocal(router), Local: linkLocal(node)},
		"198.19.8.1":                          {Remote: addr("198.19.9.2"), Local: addr("198.19.8.1"), Multihop: true},
	}
}

func all(peers map[string]Peer, cfg Config) map[Peer]Config {
	want := map[Peer]Config{}
	for _, p := range peers {
		want[p] = cfg
	}
	return want
}

func TestSessionsWithOtherImplementations(t *testing.T) {
	for name, start := range routers() {
		t.Run(name, func(t *testing.T) {
			node, far := segment(t)
			r := start(t, far, node.linkLocal(t))
			peers := peers(t, node, far)
			e, stop := node.sessions(t)
			set := func(cfg Config) {
				t.Helper()
				cfg.MinimumTTL = r.leastTTL()
				if err := e.Set(all(peers, cfg)); err != nil {
					t.Fatal(err)
				}
			}
			every := func(what string, is func(Status, peerView) bool) {
				t.Helper()
				for own, p := range peers {
					await(t, what+": "+p.String(), func() bool { return is(e.Have()[p], r.view(t, own)) })
				}
			}

			set(config(100*ms, 60*ms, 5))
			every("both ends are Up, with the timers that they agreed on", func(s Status, v peerView) bool {
				return s.State == Up && v.up && s.Interval == 100*ms && s.Detection == 180*ms && v.detection == 500*ms && v.remoteRx == 60*ms
			})

			set(config(200*ms, 400*ms, 3))
			every("edited timers are taken over", func(s Status, v peerView) bool {
				return s.Interval == 200*ms && s.Detection == 1200*ms && v.detection == 600*ms && v.remoteRx == 400*ms
			})
			set(config(50*ms, 50*ms, 3))
			every("and back", func(s Status, v peerView) bool {
				return s.Interval == 50*ms && s.Detection == 150*ms && v.detection == 150*ms && v.remoteRx == 50*ms
			})
			for own, p := range peers {
				if s, v := e.Have()[p], r.view(t, own); s.Transitions != 1 || v.downs > 0 {
					t.Errorf("%s: editing took the session down: %d transitions here, %d there", p, s.Transitions, v.downs)
				}
			}

			down := config(50*ms, 50*ms, 3)
			down.AdminDown = true
			set(down)
			every("AdminDown is heard", func(s Status, v peerView) bool { return s.State == AdminDown && !v.up })
			set(config(50*ms, 50*ms, 3))
			every("and taken back", func(s Status, v peerView) bool { return s.State == Up && v.up })

			stop()
			for own, p := range peers {
				await(t, "the router finds out that the node is gone: "+p.String(), func() bool { return !r.view(t, own).up })
			}
		})
	}
}

func TestALinkThatGoesDownIsFoundOut(t *testing.T) {
	for name, start := range routers() {
		t.Run(name, func(t *testing.T) {
			node, far := segment(t)
			r := start(t, far, node.linkLocal(t))
			peers := peers(t, node, far)
			e, _ := node.sessions(t)
			cfg := config(50*ms, 50*ms, 3)
			cfg.MinimumTTL = r.leastTTL()
			if err := e.Set(all(peers, cfg)); err != nil {
				t.Fatal(err)
			}
			for _, p := range peers {
				await(t, p.String()+" is Up", e.is(p, Up))
				await(t, p.String()+" has agreed on its timers", func() bool { return e.Have()[p].Detection == 150*ms })
			}
			cut := time.Now()
			far.ip(t, "link set lan0 down")
			for _, p := range peers {
				await(t, p.String()+" is Down", e.is(p, Down))
				s := e.Have()[p]
				if s.Diagnostic != ControlDetectionTimeExpired {
					t.Errorf("%s says %q", p, s.Diagnostic)
				}
				t.Logf("%s: Down after %s", p, s.Since.Sub(cut).Round(ms))
			}
		})
	}
}
