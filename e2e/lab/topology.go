package lab

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// place is one namespace on the segment.
type place struct {
	name  string
	host  int // its number on the segment
	addrs []netip.Addr
}

// places lists every namespace that has an address on the segment.
func (l *Lab) places() []place {
	list := l.opts.besideNodes()
	for _, n := range l.Nodes() {
		list = append(list, place{n.Name, firstNode + n.Index - 1, n.Addrs})
	}
	return list
}

// besideNodes lists those that are no nodes.
func (o Options) besideNodes() []place {
	at := func(name string, n int) place { return place{name, n, families(o, lan4(n), lan6(n))} }
	return []place{at(Router, routerHost), at(Control, controlHost), at(Client, clientHost), at(Second, secondHost)}
}

// buildNetwork makes the namespaces, the switch, and what hangs on it.
func (l *Lab) buildNetwork() error {
	if err := createNS(nsName(l.opts.Name, Switch)); err != nil {
		return err
	}
	err := InNetNS(l.NetNS(Switch), func() error {
		// The switch has no stack of its own: nothing on the segment comes from it.
		if err := setSysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
			return err
		}
		off := false
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}, MulticastSnooping: &off}
		if err := netlink.LinkAdd(br); err != nil {
			return fmt.Errorf("make the bridge: %w", err)
		}
		return netlink.LinkSetUp(br)
	})
	if err != nil {
		return err
	}
	return l.connect(l.places())
}

// connect plugs machines into the switch.
func (l *Lab) connect(places []place) error {
	for _, p := range places {
		if err := l.addPlace(p); err != nil {
			return fmt.Errorf("connect %s: %w", p.name, err)
		}
	}
	return nil
}

const bridge = "br0"

// Bridge is the switch's: Docker's goes by the cluster's name.
func (l *Lab) Bridge() string {
	if l.opts.Kind {
		return l.cluster().Name
	}
	return bridge
}

// port is the switch's end of a place's link. Docker's bridge is among the machine's own links, where names have to tell whose they are.
func (l *Lab) port(where string) (string, error) {
	switch {
	case !l.opts.Kind:
		return where, nil
	case l.isWorker(where):
		return l.kindPort(where)
	default:
		return "bwp-" + where, nil
	}
}

// addPlace makes a namespace and plugs it into the switch.
func (l *Lab) addPlace(p place) error {
	if err := createNS(nsName(l.opts.Name, p.name)); err != nil {
		return err
	}
	forward := p.name == Router || p.name == Second || strings.HasPrefix(p.name, nodePrefix)
	if err := InNetNS(l.NetNS(p.name), func() error { return prepareStack(l.opts, forward) }); err != nil {
		return err
	}
	port, err := l.port(p.name)
	if err != nil {
		return err
	}
	if err := l.plug(Switch, p.name, port, hardwareAddr(p.host)); err != nil {
		return err
	}
	return InNetNS(l.NetNS(p.name), func() error {
		if err := addAddrs(link, p.addrs, lanBits4, lanBits6); err != nil {
			return err
		}
		return l.addRoutes(p.name)
	})
}

// Prefix lengths of LAN4 and LAN6.
const lanBits4, lanBits6 = 16, 64

// hardwareAddr gives host n on the segment a MAC that shows its IPv4 address:
// 02:00 and then 198.18.0.n in hexadecimal.
func hardwareAddr(n int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x00, 198, 18, byte(n >> 8), byte(n)}
}

// prepareStack sets what a namespace's stack needs before its first address:
// no waiting for duplicate address detection, no router discovery.
func prepareStack(o Options, forward bool) error {
	set := map[string]string{"net/ipv4/ip_forward": "0"}
	if forward {
		set["net/ipv4/ip_forward"] = "1"
	}
	for _, scope := range []string{"all", "default"} {
		if o.IPv4Only {
			set["net/ipv6/conf/"+scope+"/disable_ipv6"] = "1"
			continue
		}
		set["net/ipv6/conf/"+scope+"/accept_dad"] = "0"
		set["net/ipv6/conf/"+scope+"/accept_ra"] = "0"
		set["net/ipv6/conf/"+scope+"/router_solicitations"] = "0"
		set["net/ipv6/conf/"+scope+"/forwarding"] = set["net/ipv4/ip_forward"]
	}
	for key, value := range set {
		if err := setSysctl(key, value); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// plug joins two places by a veth pair, created with both ends in their
// namespaces so that nothing of it is ever seen on the host. The end in "from"
// is called port (and joins the bridge when from is the switch), the end in
// "to" is eth0.
func (l *Lab) plug(from, to, port string, mac net.HardwareAddr) error {
	peer, err := netns.GetFromPath(l.NetNS(to))
	if err != nil {
		return fmt.Errorf("open namespace of %s: %w", to, err)
	}
	defer func() { _ = peer.Close() }()
	err = InNetNS(l.NetNS(from), func() error {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: port},
			PeerName:  link, PeerNamespace: netlink.NsFd(peer), PeerHardwareAddr: mac,
		}
		if from == Switch {
			br, err := netlink.LinkByName(l.Bridge())
			if err != nil {
				return fmt.Errorf("find the bridge: %w", err)
			}
			veth.MasterIndex = br.Attrs().Index
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("make veth pair %s: %w", port, err)
		}
		return netlink.LinkSetUp(veth)
	})
	if err != nil {
		return err
	}
	return InNetNS(l.NetNS(to), func() error { return setLink(link, true) })
}

// setLink brings a link of the calling thread's namespace up or down.
func setLink(name string, up bool) error {
	ln, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if up {
		return netlink.LinkSetUp(ln)
	}
	return netlink.LinkSetDown(ln)
}

// addAddrs gives a link its addresses. IPv6 ones skip duplicate address
// detection: the plan has no duplicates, and nothing should wait for a second.
func addAddrs(name string, addrs []netip.Addr, bits4, bits6 int) error {
	ln, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, bits4))}
		if a.Is6() {
			addr = &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, bits6)), Flags: unix.IFA_F_NODAD}
		}
		if err := netlink.AddrReplace(ln, addr); err != nil {
			return fmt.Errorf("add %s to %s: %w", addr, name, err)
		}
	}
	return nil
}

// addRoutes gives a place its default route over the router, and nodes and the
// router the way to every pod range.
func (l *Lab) addRoutes(where string) error {
	if where != Router {
		for _, gw := range families(l.opts, lan4(routerHost), lan6(routerHost)) {
			if err := addRoute(link, netip.PrefixFrom(zero(gw), 0), gw); err != nil {
				return err
			}
		}
	}
	if where == Client || where == Control {
		return nil
	}
	for _, n := range l.Nodes() {
		if n.Name == where {
			continue
		}
		for i, pods := range n.PodNets {
			if err := addRoute(link, pods, n.Addrs[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// addRoute adds a route over a gateway, or straight onto the link when via is
// the zero Addr.
func addRoute(name string, to netip.Prefix, via netip.Addr) error {
	ln, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	r := &netlink.Route{LinkIndex: ln.Attrs().Index, Dst: ipNet(to)}
	if via.IsValid() {
		r.Gw = via.AsSlice()
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("add route to %s: %w", to, err)
	}
	return nil
}

// zero is the unspecified address of a's family.
func zero(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
