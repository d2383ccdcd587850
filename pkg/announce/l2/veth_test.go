package l2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

var (
	real4 = addr("192.0.2.100")
	real6 = addr("2001:db8::a:b0c")
)

func bothFamilies() []netip.Addr { return []netip.Addr{real4, real6} }

// onLAN is a plan for lan0 of a host.
func onLAN(t testing.TB, h *host, yield bool, addrs ...netip.Addr) announce.L2Plan {
	t.Helper()
	return planOf(h.link(t, "lan0"), yield, addrs...)
}

func TestKernelResolves(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	segment(t, node, client)
	s, counters := node.speak(t, Timings{})
	setReal(t, s, onLAN(t, node, false, real4, real6))
	for _, a := range bothFamilies() {
		client.poke(t, a)
		eventually(t, a.String()+" is REACHABLE at the node's MAC", func() bool {
			state, at := client.neighbour(t, a)
			return state == netlink.NUD_REACHABLE && at == node.link(t, "lan0").MAC
		})
		if n := counters.of(cluster.FamilyOf(a)).Replies.Load(); n == 0 {
			t.Errorf("%s: no reply counted", a)
		}
	}
}

func TestUnreachabilityDetection(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	segment(t, node, client)
	s, counters := node.speak(t, Timings{Burst: []time.Duration{}, Refresh: time.Hour}) // only answers refresh an entry
	setReal(t, s, onLAN(t, node, false, real4, real6))
	for _, a := range bothFamilies() {
		t.Run(cluster.FamilyOf(a).String(), func(t *testing.T) {
			family := strings.ToLower(cluster.FamilyOf(a).String())
			client.sysctl(t, family+"/neigh/lan0/base_reachable_time_ms", "4000")
			client.sysctl(t, family+"/neigh/lan0/delay_first_probe_time", "1")
			client.sysctl(t, family+"/neigh/lan0/mcast_solicit", "3")
			var states []int
			note := func() int {
				state, at := client.neighbour(t, a)
				if len(states) == 0 || states[len(states)-1] != state {
					states = append(states, state)
				}
				if state&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE) != 0 && at != node.link(t, "lan0").MAC {
					t.Fatalf("%s is at %s", a, at)
				}
				return state
			}
			probed := make(chan bool, 1)
			watchNeighbour(t, client, a, netlink.NUD_PROBE, probed)
			client.poke(t, a)
			eventually(t, "REACHABLE", func() bool { return note() == netlink.NUD_REACHABLE })
			eventually(t, "STALE", func() bool { return note() == netlink.NUD_STALE })
			asked := counters.of(cluster.FamilyOf(a)).Requests.Load()
			client.poke(t, a)
			eventually(t, "DELAY", func() bool { return note() == netlink.NUD_DELAY })
			select {
			case <-probed:
			case <-time.After(10 * time.Second):
				t.Fatal("no PROBE within 10 s")
			}
			eventually(t, "REACHABLE again", func() bool { return note() == netlink.NUD_REACHABLE })
			if got := counters.of(cluster.FamilyOf(a)).Requests.Load() - asked; got != 1 {
				t.Errorf("%d requests between STALE and REACHABLE, want the one unicast probe", got)
			}
		})
	}
}

// watchNeighbour tells when the kernel reports an address to be in a state.
func watchNeighbour(t *testing.T, h *host, a netip.Addr, state int, seen chan<- bool) {
	t.Helper()
	updates, done := make(chan netlink.NeighUpdate, 100), make(chan struct{})
	t.Cleanup(func() { close(done) })
	h.do(t, func() error { return netlink.NeighSubscribe(updates, done) })
	go func() {
		for u := range updates {
			if got, ok := netip.AddrFromSlice(u.IP); ok && got.Unmap() == a && u.State == state {
				select {
				case seen <- true:
				default:
				}
			}
		}
	}()
}

func TestTools(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	segment(t, node, client)
	s, _ := node.speak(t, Timings{})
	setReal(t, s, onLAN(t, node, false, real4, real6))
	at := node.link(t, "lan0").MAC.String()
	for _, c := range []struct {
		name, command string
		fails         bool
		prints        string
	}{
		{"arping, broadcast", "arping -b -c 3 -w 5 -I lan0 192.0.2.100", false, at},
		{"arping, then unicast", "arping -c 3 -w 5 -I lan0 192.0.2.100", false, at},
		{"arping, duplicate address detection", "arping -D -c 2 -w 3 -I lan0 192.0.2.100", true, at},
		{"arping of an address that is not ours", "arping -c 1 -w 1 -I lan0 192.0.2.101", true, "Received 0 response"},
		{"ndisc6", "ndisc6 -1 -r 2 2001:db8::a:b0c lan0", false, at},
		{"ndisc6 of an address that is not ours", "ndisc6 -1 -r 1 2001:db8::a:b0d lan0", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := strings.Fields(c.command)
			out, err := client.run(t, args[0], args[1:]...)
			if (err != nil) != c.fails || !strings.Contains(strings.ToLower(out), strings.ToLower(c.prints)) {
				t.Errorf("%s: %v\n%s", c.command, err, out)
			}
		})
	}
	// The kernel's own duplicate address detection: RFC 4862 5.4.
	client.sysctl(t, "ipv6/conf/lan0/accept_dad", "1")
	client.ip(t, "addr add 2001:db8::a:b0c/64 dev lan0")
	eventually(t, "the kernel of the other side finds its address taken", func() bool {
		out, _ := client.run(t, "ip", "-6", "addr", "show", "dev", "lan0")
		return strings.Contains(out, "dadfailed")
	})
}

// TestRawSolicitations sends what no tool at hand does.
func TestRawSolicitations(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	segment(t, node, client)
	s, counters := node.speak(t, Timings{})
	setReal(t, s, onLAN(t, node, false, real4, real6))
	from, to := client.link(t, "lan0"), node.link(t, "lan0")
	in := client.listen(t, cluster.IPv6)
	bsd := ndpPacket{dstMAC: to.MAC, srcMAC: from.MAC, src: addr("2001:db8::2"), dst: real6, message: ns(real6)}
	for range 3 {
		send(t, in.port, bsd.frame())
		in.expect(t, "the answer to a unicast solicitation without options", func(f []byte) bool {
			m, err := ndp.ParseMessage(f[ethLen+ipv6Len:])
			na, ok := m.(*ndp.NeighborAdvertisement)
			return err == nil && ok && na.Solicited && na.Override && !na.Router && na.TargetAddress == real6 &&
				cluster.MAC(f[:6]) == from.MAC && cluster.MAC(f[6:12]) == to.MAC && len(na.Options) == 1
		})
	}
	// Nothing of this has an answer or ends the responder.
	eventually(t, "three answers counted", func() bool { return counters.NDP.Replies.Load() == 3 })
	before := counters.NDP.Replies.Load()
	far := bsd
	far.hopLimit = 64
	bad := bsd
	bad.badChecksum = true
	send(t, in.port, far.frame())
	send(t, in.port, bad.frame())
	send(t, in.port, ethernetFrame(to.MAC, from.MAC, 0x86dd, make([]byte, 60)))
	eventually(t, "two malformed ones", func() bool { return counters.NDP.Malformed.Load() == 2 })
	if n := counters.NDP.Replies.Load(); n != before {
		t.Errorf("%d answers to malformed solicitations", n-before)
	}
	send(t, in.port, bsd.frame())
	in.expect(t, "an answer after all that", func(f []byte) bool { return cluster.MAC(f[6:12]) == to.MAC })
}

// tap is a host's raw socket and what it receives.
type tap struct {
	port   Port
	frames chan []byte
}

func (h *host) listen(t testing.TB, f cluster.Family) *tap {
	t.Helper()
	port, err := h.hearAll(h.link(t, "lan0"), f)
	if err != nil {
		t.Fatal(err)
	}
	in := &tap{port: port, frames: make(chan []byte, 10000)}
	t.Cleanup(func() { _ = port.Close() })
	go func() {
		var buf [ndpFrameMax]byte
		for {
			n, err := port.Read(buf[:])
			if err != nil {
				return
			}
			in.frames <- slices.Clone(buf[:n])
		}
	}()
	return in
}

func (in *tap) expect(t testing.TB, what string, is func(f []byte) bool) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		select {
		case f := <-in.frames:
			if is(f) {
				return
			}
		case <-deadline:
			t.Fatalf("not received: %s", what)
		}
	}
}

func send(t testing.TB, p Port, frame []byte) {
	t.Helper()
	if _, err := p.Send(frame); err != nil {
		t.Fatal(err)
	}
}

// TestHandoverOnABridge moves addresses between two nodes while a client asks for them all the time, each question in
// another name so that answers can be told apart, and while its kernel holds neighbour entries.
func TestHandoverOnABridge(t *testing.T) {
	left, right, client := newHost(t, "left"), newHost(t, "right"), newHost(t, "client")
	segment(t, left, right, client)
	l, _ := left.speak(t, Timings{})
	r, _ := right.speak(t, Timings{})
	leftMAC, rightMAC, ours := left.link(t, "lan0").MAC, right.link(t, "lan0").MAC, client.link(t, "lan0").MAC
	setReal(t, l, onLAN(t, left, false, bothFamilies()...))
	for _, a := range bothFamilies() {
		client.poke(t, a)
		eventually(t, "resolved", func() bool { _, at := client.neighbour(t, a); return at == leftMAC })
	}
	in4, in6 := client.listen(t, cluster.IPv4), client.listen(t, cluster.IPv6)
	const questions, moveAt, moveTo = 3000, 1000, 1010
	var asked atomic.Int64
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := range questions + 1 { // the answer to the one too many is behind all others
			asked.Store(int64(i))
			_, _ = in4.port.Send(arpPacket(arp.OperationRequest, castMAC, ours, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), zeroMAC, real4))
			g, gm := groupOf(real6)
			_, _ = in6.port.Send(ndpPacket{dstMAC: gm, srcMAC: ours, src: netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)}), dst: g,
				message: ns(real6, sourceLink(ours))}.frame())
			time.Sleep(500 * time.Microsecond)
		}
	}()
	eventually(t, "some questions", func() bool { return asked.Load() > moveAt })
	setReal(t, l, onLAN(t, left, true, bothFamilies()...))
	eventually(t, "some more questions", func() bool { return asked.Load() > moveTo })
	setReal(t, r, onLAN(t, right, false, bothFamilies()...))
	<-done
	for _, c := range []struct {
		in   *tap
		name int // where an answer says what it answers
	}{{in4, ethLen + 26}, {in6, ethLen + 38}} {
		countAnswers(t, c.in, c.name, questions, leftMAC, rightMAC)
	}
	eventually(t, "the old owner says that it is quiet", func() bool { return l.Have().Quiet() })
	for _, a := range bothFamilies() {
		if _, at := client.neighbour(t, a); at != rightMAC {
			t.Errorf("the client still has %s at %s", a, at)
		}
	}
}

// countAnswers checks that every question had one answer, first from left and then from right. The one question that is
// on the wire in the same instant as the announcement may get two or none.
func countAnswers(t *testing.T, in *tap, name, questions int, left, right cluster.MAC) {
	t.Helper()
	by := make([][]cluster.MAC, questions)
	in.expect(t, "the answer to the last question", func(f []byte) bool {
		i := int(f[name])<<8 | int(f[name+1])
		if f[0]&1 == 0 && i < questions {
			by[i] = append(by[i], cluster.MAC(f[6:12]))
		}
		return f[0]&1 == 0 && i == questions
	})
	odd, lefts, switched := 0, 0, 0
	for i, macs := range by {
		switch {
		case len(macs) != 1:
			odd++
			t.Logf("question %d is answered by %v", i, macs)
		case macs[0] == left:
			lefts++
			if switched > 0 {
				t.Errorf("question %d is answered by the old owner, %d ones after the new one did", i, i-switched)
			}
		case macs[0] != right:
			t.Errorf("question %d is answered by %v, which is neither owner", i, macs[0])
		case switched == 0:
			switched = i
		}
	}
	if odd > 1 || lefts == 0 || switched == 0 {
		t.Errorf("%d questions without exactly one answer, %d answered by the old owner, the new one from question %d on", odd, lefts, switched)
	}
	t.Logf("%d questions, %d without exactly one answer, moved at question %d", questions, odd, switched)
}

func TestRealLinkChanges(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	sw := segment(t, node, client)
	s, counters := node.speak(t, Timings{})
	resolves := func(what string) {
		t.Helper()
		for _, a := range bothFamilies() {
			eventually(t, what+": "+a.String(), func() bool {
				client.ip(t, "neigh flush all")
				client.poke(t, a)
				time.Sleep(20 * time.Millisecond)
				state, at := client.neighbour(t, a)
				return state == netlink.NUD_REACHABLE && at == node.link(t, "lan0").MAC
			})
		}
	}
	setReal(t, s, onLAN(t, node, false, bothFamilies()...))
	resolves("at first")

	// A flap that nobody tells the Announcer of.
	said := counters.NDP.Gratuitous.Load()
	node.ip(t, "link set lan0 down")
	eventually(t, "the sockets have noticed", func() bool { return s.Have().Quiet() && counters.ARP.Failures.Load() > 0 })
	node.ip(t, "link set lan0 up")
	node.ip(t, "addr add 2001:db8::1/64 dev lan0 nodad")
	resolves("after a flap")
	if counters.NDP.Gratuitous.Load() == said {
		t.Error("not announced again after the flap")
	}

	// One that it is told of.
	node.ip(t, "link set lan0 down")
	if have := setReal(t, s, onLAN(t, node, false, bothFamilies()...)); !have.Quiet() {
		t.Errorf("have on a link that is down: %+v", have)
	}
	node.ip(t, "link set lan0 up")
	eventually(t, "up", func() bool { return node.link(t, "lan0").Up })
	setReal(t, s, onLAN(t, node, false, bothFamilies()...))
	resolves("after down and up")

	// Re-created under the same name, with another MAC and index.
	old := node.link(t, "lan0")
	sw.ip(t, "link del port1")
	eventually(t, "the sockets have noticed", func() bool { return s.Have().Quiet() })
	sw.do(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "port1"}, PeerName: "lan0", PeerNamespace: netlink.NsFd(node.fd)})
	})
	sw.ip(t, "link set port1 master br0 up")
	node.configure(t, 1)
	if now := node.link(t, "lan0"); now.Index == old.Index && now.MAC == old.MAC {
		t.Fatalf("lan0 is the same link: %+v", now)
	}
	setReal(t, s, onLAN(t, node, false, bothFamilies()...))
	resolves("re-created")

	// Another MAC on the same link; a plan that does not know yet must not be believed.
	stale := onLAN(t, node, false, bothFamilies()...)
	setReal(t, s, announce.L2Plan{})
	node.ip(t, "link set lan0 address 02:00:00:00:77:01")
	if have, err := s.Set(t.Context(), stale); err == nil || !have.Quiet() {
		t.Errorf("have %v, error %v: a MAC that the link does not have is announced", have, err)
	}
	setReal(t, s, onLAN(t, node, false, bothFamilies()...))
	resolves("with another MAC")
}

// TestPortDoesNotAllocate holds the real socket to what the reader's loop promises.
func TestPortDoesNotAllocate(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	segment(t, node, client)
	port, err := node.hearAll(node.link(t, "lan0"), cluster.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = port.Close() }()
	out := client.listen(t, cluster.IPv4)
	request := arpPacket(arp.OperationRequest, castMAC, client.link(t, "lan0").MAC, addr("192.0.2.2"), zeroMAC, real4)
	for range 120 {
		send(t, out.port, request)
	}
	var buf [ndpFrameMax]byte
	if n := testing.AllocsPerRun(100, func() {
		n, err := port.Read(buf[:])
		if err != nil || port.Received().IsZero() || port.Reply(buf[:n]) != nil {
			t.Error("the port fails")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a frame received and one sent", n)
	}
}

func TestOpenErrors(t *testing.T) {
	node := newHost(t, "node")
	_, err := node.opener(cluster.Link{Name: "nowhere", Index: 999, MAC: ourMAC, Up: true}, cluster.IPv4)
	if err == nil || severityOf(err) != final {
		t.Errorf("opening a socket on no link: %v", err)
	}
	if fmt.Sprint(err) == "" {
		t.Error("without a reason")
	}
}
