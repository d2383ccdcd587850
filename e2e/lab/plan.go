package lab

import (
	"fmt"
	"net/netip"
	"strconv"
)

// The lab's address plan. Everything comes from RFC 2544's benchmarking range
// and one ULA prefix, so that nothing here can be mistaken for a real network.
const (
	LAN4  = "198.18.0.0/16"                     // the segment that every namespace but pods sits on
	LAN6  = "fd00:198:18::/64"                  // the same segment
	Pod4  = "198.19.0.0/17"                     // a /24 of it per node
	Pod6  = "fd00:198:19::/56"                  // a /64 of it per node
	Svc4  = "198.19.128.0/20"                   // ClusterIPs
	Svc6  = "fd00:198:1a::/112"                 // ClusterIPs
	BGP4  = "198.19.192.0/18"                   // never used by the lab: for addresses that no segment holds
	BGP6  = "fd00:198:1b::/64"                  // the same
	Pool4 = "198.18.0.200-198.18.0.250"         // on the LAN, never used by the lab: for LoadBalancers
	Pool6 = "fd00:198:18::200-fd00:198:18::250" // the same
	Bulk4 = "198.18.64.0/18"                    // on the LAN, never used by the lab: 16,384 addresses for benchmarks
	Bulk6 = "fd00:198:18:0:1::/112"             // the same
	// 198.18.254.0/24, and fd00:198:18:0:6173:6b69:6e67:0/120, is where probes ask from: no machine has it.
)

// Names of the places in a lab other than its nodes, which are node-1, node-2
// and so on.
const (
	Switch  = "switch"  // holds the bridge, and no addresses
	Control = "control" // etcd, API server, controller manager, scheduler
	Client  = "client"  // a machine on the segment that is no node
	Router  = "router"  // the segment's default gateway
	Second  = "router2" // another router, which nothing leads over by itself
)

// Last octet (IPv4) or last group, in decimal digits (IPv6), of the places on
// the LAN. Nodes count from firstNode, backends on the segment from
// firstBackend.
const (
	routerHost   = 1
	controlHost  = 2
	clientHost   = 3
	secondHost   = 4
	firstNode    = 11
	firstBackend = 120
	maxNodes     = 100
	maxBackends  = 80
)

// link is the name of the one interface in every place but the switch.
const link = "eth0"

// lan4 and lan6 give the addresses of host n on the segment. The IPv6 address
// shows the same digits as the IPv4 one, for people who read packet dumps.
func lan4(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("198.18.0.%d", n)) }
func lan6(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00:198:18::%d", n)) }

// podNet4 and podNet6 give the pod ranges of node i, counted from 1.
func podNet4(i int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("198.19.%d.0/24", i)) }
func podNet6(i int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("fd00:198:19:%x::/64", i))
}

// Node is one machine of the cluster.
type Node struct {
	Name    string         // node-1; the Kubernetes Node is called the same
	Index   int            // counted from 1
	Addrs   []netip.Addr   // on the segment: IPv4, then IPv6 unless the lab is IPv4-only
	PodNets []netip.Prefix // what its pods live in, in the same order
}

// nodeName is the name of node i, counted from 1.
func nodeName(i int) string { return nodePrefix + strconv.Itoa(i) }

const nodePrefix = "node-"

// families returns the IPv4 value, and the IPv6 one after it when the lab has
// IPv6.
func families[T any](o Options, v4, v6 T) []T {
	if o.IPv4Only {
		return []T{v4}
	}
	return []T{v4, v6}
}

// nodes lists the machines of a lab with these options.
func (o Options) nodes() []Node {
	var list []Node
	for i := 1; i <= o.Nodes; i++ {
		list = append(list, Node{
			Name:    nodeName(i),
			Index:   i,
			Addrs:   families(o, lan4(firstNode+i-1), lan6(firstNode+i-1)),
			PodNets: families(o, podNet4(i), podNet6(i)),
		})
	}
	return list
}
