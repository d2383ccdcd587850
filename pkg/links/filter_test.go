package links

import (
	"net"
	"net/netip"
	"path"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

const lowerUp = 1 << 16

// nic returns what the kernel says of an ordinary network card that is up; change edits it.
func nic(change func(*netlink.LinkAttrs)) *netlink.LinkAttrs {
	a := &netlink.LinkAttrs{Name: "eth0", Index: 2, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, EncapType: "ether",
		Flags: net.FlagUp | net.FlagBroadcast, RawFlags: unix.IFF_UP | unix.IFF_BROADCAST | lowerUp, OperState: netlink.OperUp}
	if change != nil {
		change(a)
	}
	return a
}

type slave string

func (s slave) SlaveType() string { return string(s) }

func TestWhichLinksCount(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*netlink.LinkAttrs)
		counts bool
		up     bool
	}{
		{"network card", nil, true, true},
		{"VLAN", func(a *netlink.LinkAttrs) { a.Name, a.ParentIndex = "eth0.100", 1 }, true, true},
		{"bond", func(a *netlink.LinkAttrs) { a.Name = "bond0" }, true, true},
		{"bridge that an operator made", func(a *netlink.LinkAttrs) { a.Name = "br-lan" }, true, true},
		{"Docker's bridge", func(a *netlink.LinkAttrs) { a.Name = "br-0123456789ab" }, false, false},
		{"in a VRF", func(a *netlink.LinkAttrs) { a.MasterIndex, a.Slave = 9, slave("vrf") }, true, true},
		{"port of a bridge", func(a *netlink.LinkAttrs) { a.MasterIndex, a.Slave = 9, slave("bridge") }, false, false},
		{"port of a bond", func(a *netlink.LinkAttrs) { a.MasterIndex, a.Slave = 9, slave("bond") }, false, false},
		{"port of something unknown", func(a *netlink.LinkAttrs) { a.MasterIndex = 9 }, false, false},
		{"loopback", func(a *netlink.LinkAttrs) { a.Flags |= net.FlagLoopback; a.EncapType = "loopback" }, false, false},
		{"without ARP", func(a *netlink.LinkAttrs) { a.RawFlags |= unix.IFF_NOARP }, false, false},
		{"InfiniBand", func(a *netlink.LinkAttrs) { a.HardwareAddr = make([]byte, 20); a.EncapType = "infiniband" }, false, false},
		{"without an address", func(a *netlink.LinkAttrs) { a.HardwareAddr = nil }, false, false},
		{"pod's link", func(a *netlink.LinkAttrs) { a.Name = "veth1234" }, false, false},
		{"kube-proxy's dummy", func(a *netlink.LinkAttrs) { a.Name = "kube-ipvs0" }, false, false},
		{"switched off", func(a *netlink.LinkAttrs) { a.RawFlags, a.OperState = 0, netlink.OperDown }, true, false},
		{"no carrier", func(a *netlink.LinkAttrs) { a.RawFlags &^= lowerUp; a.OperState = netlink.OperDown }, true, false},
		{"dormant", func(a *netlink.LinkAttrs) { a.OperState = netlink.OperDormant }, true, false},
		{"lower layer down", func(a *netlink.LinkAttrs) { a.OperState = netlink.OperLowerLayerDown }, true, false},
		{"switched off, state unknown to the driver", func(a *netlink.LinkAttrs) { a.RawFlags, a.OperState = lowerUp, netlink.OperUnknown }, true, false},
		{"no carrier, state unknown to the driver", func(a *netlink.LinkAttrs) { a.RawFlags, a.OperState = unix.IFF_UP, netlink.OperUnknown }, true, false},
		{"not Ethernet, though its addresses are as long", func(a *netlink.LinkAttrs) { a.EncapType = "netrom" }, false, false},
		{"state unknown to the driver", func(a *netlink.LinkAttrs) { a.OperState = netlink.OperUnknown }, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := toLink(nic(c.change), nil)
			if ok != c.counts || got.Up != c.up {
				t.Errorf("counts %v, up %v; want %v, %v", ok, got.Up, c.counts, c.up)
			}
		})
	}
}

func TestPrefixes(t *testing.T) {
	on := func(index int, prefix string, flags, scope int) netlink.Addr {
		p := netip.MustParsePrefix(prefix)
		return netlink.Addr{LinkIndex: index, Flags: flags, Scope: scope, IPNet: &net.IPNet{
			IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	}
	got, _ := toLink(nic(nil), []netlink.Addr{
		on(2, "fe80::1/64", unix.IFA_F_PERMANENT, unix.RT_SCOPE_LINK),
		on(2, "2001:db8::5/64", 0, unix.RT_SCOPE_UNIVERSE),
		on(2, "192.0.2.5/24", unix.IFA_F_PERMANENT, unix.RT_SCOPE_UNIVERSE),
		on(3, "198.51.100.1/24", 0, unix.RT_SCOPE_UNIVERSE),
		on(2, "2001:db8::6/64", unix.IFA_F_TENTATIVE, unix.RT_SCOPE_UNIVERSE),
		on(2, "2001:db8::7/64", unix.IFA_F_DADFAILED|unix.IFA_F_TENTATIVE, unix.RT_SCOPE_UNIVERSE),
		on(2, "127.0.0.9/8", 0, unix.RT_SCOPE_HOST),
		on(2, "192.0.2.5/24", 0, unix.RT_SCOPE_UNIVERSE),
		{LinkIndex: 2},
		{LinkIndex: 2, IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 5).To16(), Mask: net.CIDRMask(24, 32)}},
	})
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("2001:db8::5/64"), netip.MustParsePrefix("fe80::1/64")}
	if !slices.Equal(got.Prefixes, want) {
		t.Errorf("%v, want %v", got.Prefixes, want)
	}
}

func TestExclusions(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range Exclusions() {
		if _, err := path.Match(e.Glob, "x"); err != nil || e.Reason == "" || seen[e.Glob] {
			t.Errorf("%+v: %v", e, err)
		}
		seen[e.Glob] = true
	}
	for _, name := range []string{"eth0", "eno1", "enp3s0f1np1", "ens192", "enx0123456789ab", "bond0", "team0", "br0", "br-ex", "vmbr0", "wlan0", "eth0.7", "vlan7", "lan"} {
		if why := WhyNot(name); why != "" {
			t.Errorf("%s is left out: %s", name, why)
		}
	}
}

func TestEqual(t *testing.T) {
	base := cluster.Link{Name: "a", Index: 1, MAC: cluster.MAC{2}, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}}
	for i, change := range []func(*cluster.Link){
		func(l *cluster.Link) { l.Name = "b" }, func(l *cluster.Link) { l.Index = 2 }, func(l *cluster.Link) { l.MAC[5] = 1 },
		func(l *cluster.Link) { l.Up = false }, func(l *cluster.Link) { l.Prefixes = nil },
	} {
		other := base
		if change(&other); equal(base, other) || !equal(base, base) {
			t.Errorf("change %d is not seen", i)
		}
	}
}
