package l2

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/vishvananda/netlink"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// TestOtherSegmentsOnTheSameLink: the kernel gives a link's packet sockets also what it takes off that link for another
// device on top of it, a VLAN or a macvlan, and what belongs to a VLAN that nobody has. Neither is a question or a claim on
// the segment of the link itself. (A macvlan stands for both kinds of device: they take the same way through the kernel,
// and not every kernel that this runs on has VLANs.)
func TestOtherSegmentsOnTheSameLink(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	segment(t, node, client)
	node.ip(t, "link add link lan0 name upper type macvlan mode bridge")
	node.ip(t, "link set upper up")
	eventually(t, "up", func() bool { return node.link(t, "upper").Up })
	from, upper := client.link(t, "lan0").MAC, node.link(t, "upper").MAC
	for _, a := range bothFamilies() {
		in, out := node.listen(t, cluster.FamilyOf(a)), client.listen(t, cluster.FamilyOf(a))
		before := onUpper(question(t, a, from), upper)
		send(t, out.port, before)
		send(t, out.port, tagged(question(t, a, from), 20))
		send(t, out.port, tagged(claimOf(a, from), 20))
		last := question(t, a, from)
		send(t, out.port, last)
		for got := []byte(nil); !slices.Equal(got, last); {
			select {
			case got = <-in.frames:
				if slices.Equal(got, before) || (!slices.Equal(got, last) && cluster.MAC(got[6:12]) == from && isAbout(got, a)) {
					t.Errorf("%s: a frame of another segment came through:\n%x", a, got)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%s: the question on the link itself did not come through", a)
			}
		}
	}
}

// onUpper addresses a frame to another device's MAC.
func onUpper(frame []byte, to cluster.MAC) []byte {
	copy(frame, to[:])
	return frame
}

// tagged puts a frame into a VLAN (IEEE 802.1Q).
func tagged(frame []byte, id byte) []byte { return slices.Insert(frame, 12, 0x81, 0, 0, id) }

// isAbout tells the test's frames from the kernel's own.
func isAbout(frame []byte, a netip.Addr) bool { return bytes.Contains(frame, a.AsSlice()) }

// TestGroups looks at the memberships as the kernel and a snooping switch see them.
func TestGroups(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	sw := segment(t, node, client)
	sw.ip(t, "link set br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_query_response_interval 50 mcast_startup_query_interval 50")
	sw.ip(t, "addr add fe80::ffff/64 dev br0 nodad")
	s, _ := node.speak(t, Timings{})
	setReal(t, s, onLAN(t, node, false, real6))
	if got := node.proc(t, "igmp6"); !strings.Contains(got, "ff0200000000000000000001ff0a0b0c") {
		t.Errorf("the group of %s is not joined:\n%s", real6, got)
	}
	eventually(t, "the switch hears of the group", func() bool {
		out, err := sw.run(t, "bridge", "mdb", "show", "dev", "br0")
		return err == nil && strings.Contains(out, "ff02::1:ff0a:b0c")
	})
	// Once the bridge trusts its querier, it withholds what nobody reported.
	in, out := node.listen(t, cluster.IPv6), client.listen(t, cluster.IPv6)
	unreported, reported := question(t, addr("2001:db8::99:9999"), asker), question(t, real6, asker)
	eventually(t, "the switch withholds what nobody reported", func() bool {
		send(t, out.port, unreported)
		send(t, out.port, reported)
		for {
			select {
			case f := <-in.frames:
				if slices.Equal(f, unreported) || slices.Equal(f, reported) {
					return slices.Equal(f, reported)
				}
			case <-time.After(time.Second):
				return false
			}
		}
	})
	client.poke(t, real6)
	eventually(t, "resolved through a switch that snoops", func() bool {
		state, at := client.neighbour(t, real6)
		return state == netlink.NUD_REACHABLE && at == node.link(t, "lan0").MAC
	})

	// Thousands, with the memory per socket that older kernels have.
	node.sysctl(t, "core/optmem_max", "20480")
	var many []netip.Addr
	for i := range 2000 {
		many = append(many, netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 13: 7, 14: byte(i >> 8), 15: byte(i)}))
	}
	count := func() int { return strings.Count(node.proc(t, "igmp6"), "ff0200000000000000000001ff07") }
	start := time.Now()
	setReal(t, s, onLAN(t, node, false, many...))
	t.Logf("Set with %d new IPv6 addresses took %v", len(many), time.Since(start))
	if got := count(); got != len(many) {
		t.Errorf("%d groups joined, want %d", got, len(many))
	}
	setReal(t, s, onLAN(t, node, false, many[:10]...))
	if got := count(); got != 10 {
		t.Errorf("%d groups left, want 10", got)
	}
	setReal(t, s, announce.L2Plan{})
	eventually(t, "no group left", func() bool { return count() == 0 })

	// Where IPv6 is disabled on the link, and where there is none because its MTU is too small, solicitations are answered all
	// the same; in the latter case the NIC is told instead.
	sw.ip(t, "link set br0 type bridge mcast_snooping 0")
	inFilter := func(memberships int) bool {
		return regexp.MustCompile(fmt.Sprintf(`lan0 +%d +0 +3333ff0a0b0c`, memberships)).MatchString(node.proc(t, "dev_mcast"))
	}
	for _, without := range []struct{ off, on func() }{
		{func() { node.sysctl(t, "ipv6/conf/lan0/disable_ipv6", "1") }, func() { node.sysctl(t, "ipv6/conf/lan0/disable_ipv6", "0") }},
		{func() { node.ip(t, "link set lan0 mtu 1200") }, func() { node.ip(t, "link set lan0 mtu 1500") }},
	} {
		without.off()
		setReal(t, s, onLAN(t, node, false, real6))
		if !inFilter(1) {
			t.Errorf("the NIC does not let the group in:\n%s", node.proc(t, "dev_mcast"))
		}
		client.ip(t, "neigh flush all")
		client.poke(t, real6)
		eventually(t, "resolved without IPv6 on the node", func() bool {
			state, _ := client.neighbour(t, real6)
			return state == netlink.NUD_REACHABLE
		})
		// With IPv6 back, the next Set reports the group, and leaves the NIC's filter to the kernel.
		without.on()
		setReal(t, s, onLAN(t, node, false, real6))
		if got := node.proc(t, "igmp6"); !strings.Contains(got, "ff0200000000000000000001ff0a0b0c") || !inFilter(1) {
			t.Errorf("after IPv6 came back:\n%s\n%s", got, node.proc(t, "dev_mcast"))
		}
		setReal(t, s, announce.L2Plan{})
		eventually(t, "the group is left", func() bool { return !strings.Contains(node.proc(t, "dev_mcast"), "3333ff0a0b0c") })
	}
}

// TestGroupSocketsDoNotPileUp lets a set of groups change for long, with the memory per socket of older kernels: sockets
// with room are used again, and those without a group go.
func TestGroupSocketsDoNotPileUp(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	segment(t, node, client)
	node.sysctl(t, "core/optmem_max", "20480")
	port, err := node.opener(node.link(t, "lan0"), cluster.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = port.Close() }()
	sockets := func() int { return len(port.(hostPort).groups.sockets) }
	window := func(from, n, step int) {
		t.Helper()
		var addrs []netip.Addr
		for i := from; i < from+n*step; i += step {
			addrs = append(addrs, netip.AddrFrom16([16]byte{0x20, 0x01, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}))
		}
		if err := port.Groups(solicitedNodes(addrs)); err != nil {
			t.Fatal(err)
		}
	}
	window(0, 1000, 1)
	before := sockets()
	if before < 2 {
		t.Fatalf("%d sockets: the test has lost its point", before)
	}
	window(0, 500, 2)
	window(0, 1000, 2) // as many as before: half of them old, in all sockets
	if got := sockets(); got != before {
		t.Errorf("%d sockets for as many groups as filled %d before", got, before)
	}
	for from := 50; from <= 5000; from += 50 {
		window(from, 1000, 1)
	}
	if got := sockets(); got > before+1 {
		t.Errorf("%d sockets after 5,000 other groups, %d before", got, before)
	}
	window(0, 1, 1)
	if got := sockets(); got != 1 {
		t.Errorf("%d sockets for one group", got)
	}
	window(0, 0, 1)
	if got := sockets(); got != 0 {
		t.Errorf("%d sockets for no group", got)
	}
	if !slices.Equal(solicitedNodes(nil), []netip.Addr{}) {
		t.Error("groups of nothing")
	}
}

// TestFilter sends what the kernel has to keep from the readers, and after each a frame that it has to let through.
func TestFilter(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	// No bridge and no addresses, so that nothing but the test's frames is on the wire.
	node.do(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan0"}, PeerName: "lan0", PeerNamespace: netlink.NsFd(client.fd)})
	})
	for _, h := range []*host{node, client} {
		h.sysctl(t, "ipv6/conf/lan0/disable_ipv6", "1")
		h.ip(t, "link set lan0 up")
	}
	eventually(t, "up", func() bool { return node.link(t, "lan0").Up })
	from, to := client.link(t, "lan0").MAC, node.link(t, "lan0").MAC
	host4 := addr("192.0.2.2")
	kind := func(k byte) []byte {
		return solicit(func(p *ndpPacket) { p.mangle = func(m []byte) []byte { m[0] = k; return m } }).frame()
	}
	for family, frames := range map[cluster.Family]struct{ keep, pass [][]byte }{
		cluster.IPv4: {
			keep: [][]byte{
				arpPacket(arp.OperationRequest, otherMAC, from, host4, zeroMAC, real4), // to another station
				arpPacket(3, castMAC, from, host4, zeroMAC, real4),
				question(t, addr("192.0.2.201"), from), claimOf(addr("192.0.2.199"), from), // about other addresses
				ethernetFrame(castMAC, from, 0x0800, make([]byte, 60)),
			},
			pass: [][]byte{question(t, real4, from), arpPacket(arp.OperationRequest, to, from, host4, zeroMAC, real4), claimOf(real4, from)},
		},
		cluster.IPv6: {
			keep: [][]byte{
				solicit(func(p *ndpPacket) { p.dstMAC = otherMAC }).frame(),
				question(t, addr("2001:db8::ffff:1"), from), claimOf(addr("2001:db8::ffff:1"), from),
				kind(128), kind(133), kind(134), kind(137), // echo request, router solicitation and advertisement, redirect
				ethernetFrame(castMAC, from, 0x86dd, append([]byte{0x60, 0, 0, 0, 0, 20, 6, 64}, make([]byte, 60)...)), // TCP
			},
			pass: [][]byte{solicit(nil).frame(), solicit(func(p *ndpPacket) { p.dst, p.dstMAC = vip6, to }).frame(), claimOf(real6, from)},
		},
	} {
		sender, err := client.opener(client.link(t, "lan0"), family)
		if err != nil {
			t.Fatal(err)
		}
		in := node.listen(t, family)
		if err := in.port.Only([]netip.Addr{real4, real6, vip6}, true); err != nil {
			t.Fatal(err)
		}
		for _, f := range frames.keep {
			send(t, sender, f)
		}
		for i, f := range frames.pass {
			send(t, sender, f)
			select {
			case got := <-in.frames:
				if !slices.Equal(got, f) {
					t.Errorf("%s: received\n%x, want %d:\n%x", family, got, i, f)
				}
			case <-time.After(5 * time.Second):
				t.Errorf("%s: not received: %d", family, i)
			}
		}
		_ = sender.Close()
	}
}
