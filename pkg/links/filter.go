package links

import (
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Excluded is a kind of interface that no address is ever announced on, whatever an operator's globs say.
type Excluded struct {
	Glob   string // as in path.Match
	Reason string
}

// Exclusions lists interfaces by the names that their makers give them. They look like Ethernet, but what is behind them
// is one pod, one virtual machine, or other nodes through a tunnel: not a segment with clients.
func Exclusions() []Excluded {
	return []Excluded{
		{"veth*", "the host's end of a container's link"},
		{"cali*", "Calico: the host's end of a pod's link"},
		{"vxlan.calico", "Calico: overlay"},
		{"vxlan-v6.calico", "Calico: overlay"},
		{"cilium*", "Cilium: host device or overlay"},
		{"lxc*", "Cilium or LXC: the host's end of a link"},
		{"lxdbr*", "LXD: bridge behind address translation"},
		{"flannel*", "Flannel: overlay"},
		{"cni*", "container network plugin: bridge to the node's own pods"},
		{"cbr0", "kubenet: bridge to the node's own pods"},
		{"docker*", "Docker: bridge behind address translation"},
		// Only what Docker makes: br-lan or br-ex may well be the node's way to the outside.
		{"br-" + strings.Repeat("[0-9a-f]", 12), "Docker: bridge of a user-defined network"},
		{"podman*", "Podman: bridge behind address translation"},
		{"virbr*", "libvirt: bridge behind address translation"},
		{"vnet*", "libvirt: a virtual machine's link"},
		{"kube-*", "kube-proxy or kube-router: holds Service addresses, or bridges to pods"},
		{"nodelocaldns", "NodeLocal DNSCache: holds its addresses"},
		{"dummy*", "leads nowhere"},
		{"ifb*", "traffic shaping"},
		{"tun*", "tunnel"},
		{"tap*", "a virtual machine's or tunnel's link"},
		{"wg*", "WireGuard"},
		{"vxlan*", "overlay"},
		{"geneve*", "overlay"},
		{"genev_sys*", "Open vSwitch: overlay"},
		{"gretap*", "tunnel"},
		{"erspan*", "tunnel"},
		{"ovs*", "Open vSwitch: datapath"},
		{"br-int", "Open vSwitch: integration bridge"},
		{"br-tun", "Open vSwitch: tunnel bridge"},
		{"ovn*", "OVN: management port"},
		{"antrea*", "Antrea: gateway or overlay"},
		{"weave*", "Weave Net: bridge to pods"},
		{"azv*", "Azure CNI: the host's end of a pod's link"},
		{"gke*", "GKE: the host's end of a pod's link"},
		{"eni[0-9a-f]*", "Amazon VPC CNI: the host's end of a pod's link"},
	}
}

// WhyNot returns why no address is announced on a link of this name, or "".
func WhyNot(name string) string {
	for _, e := range Exclusions() {
		if ok, err := path.Match(e.Glob, name); err == nil && ok {
			return e.Reason
		}
	}
	return ""
}

// toLink converts what the kernel says of a link; it reports false for a link that addresses cannot be announced on.
func toLink(a *netlink.LinkAttrs, addrs []netlink.Addr) (cluster.Link, bool) {
	mac, err := cluster.MACFrom(a.HardwareAddr)
	if err != nil || a.EncapType != "ether" || a.Flags&net.FlagLoopback != 0 || a.RawFlags&unix.IFF_NOARP != 0 {
		return cluster.Link{}, false
	}
	if enslaved(a) || WhyNot(a.Name) != "" {
		return cluster.Link{}, false
	}
	link := cluster.Link{Name: a.Name, Index: a.Index, MAC: mac, Up: isUp(a)}
	for i := range addrs {
		if p, ok := toPrefix(&addrs[i]); ok && addrs[i].LinkIndex == a.Index {
			link.Prefixes = append(link.Prefixes, p)
		}
	}
	slices.SortFunc(link.Prefixes, netip.Prefix.Compare)
	link.Prefixes = slices.Compact(link.Prefixes)
	return link, true
}

// enslaved reports whether a link is the port of a bridge, bond or team: frames belong to its master, and arrive twice
// for who listens on both. A link in a VRF has a master too, but is a port of nothing.
func enslaved(a *netlink.LinkAttrs) bool {
	return a.MasterIndex != 0 && (a.Slave == nil || a.Slave.SlaveType() != "vrf")
}

// isUp reports whether frames go through: switched on, with carrier, and not held back by 802.1X or a bond. Drivers that
// know no operational state (RFC 2863) leave it unknown.
func isUp(a *netlink.LinkAttrs) bool {
	const lowerUp = 1 << 16 // IFF_LOWER_UP
	return a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&lowerUp != 0 &&
		(a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown)
}

// toPrefix converts an address that is in use: one that is still being checked for duplicates, or failed that, is not.
func toPrefix(a *netlink.Addr) (netip.Prefix, bool) {
	if a.IPNet == nil || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 || a.Scope == unix.RT_SCOPE_HOST {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(a.IP)
	ones, size := a.Mask.Size()
	if !ok || size == 0 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr.Unmap(), ones), true
}
