package l2

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

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
	window := func(from, n int) {
		t.Helper()
		var addrs []netip.Addr
		for i := from; i < from+n; i++ {
			addrs = append(addrs, netip.AddrFrom16([16]byte{0x20, 0x01, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}))
		}
		if err := port.Groups(solicitedNodes(addrs)); err != nil {
			t.Fatal(err)
		}
	}
	window(0, 1000)
	before := sockets()
	if before < 2 {
		t.Fatalf("%d sockets: the test has lost its point", before)
	}
	for from := 50; from <= 5000; from += 50 {
		window(from, 1000)
	}
	if got := sockets(); got > before+1 {
		t.Errorf("%d sockets after 5,000 other groups, %d before", got, before)
	}
	window(0, 1)
	if got := sockets(); got != 1 {
		t.Errorf("%d sockets for one group", got)
	}
	window(0, 0)
	if got := sockets(); got != 0 {
		t.Errorf("%d sockets for no group", got)
	}
	if !slices.Equal(solicitedNodes(nil), []netip.Addr{}) {
		t.Error("groups of nothing")
	}
}
