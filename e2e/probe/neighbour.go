package probe

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// Neighbour is an entry of a kernel's neighbour cache.
type Neighbour struct {
	Addr  netip.Addr
	MAC   string // empty while incomplete or failed
	State string // as "ip neigh" calls it: REACHABLE, STALE, FAILED ...
}

// Neighbours reads the neighbour cache of a link, both families.
func Neighbours(netns, link string) ([]Neighbour, error) {
	var list []Neighbour
	err := lab.InNetNS(netns, func() error {
		ln, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		entries, err := netlink.NeighList(ln.Attrs().Index, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if addr, ok := netip.AddrFromSlice(e.IP); ok {
				list = append(list, Neighbour{addr.Unmap(), e.HardwareAddr.String(), stateName(e.State)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the neighbour cache of %s in %s: %w", link, netns, err)
	}
	return list, nil
}

// NeighbourOf reads one entry; false when the cache has none.
func NeighbourOf(netns, link string, addr netip.Addr) (Neighbour, bool, error) {
	list, err := Neighbours(netns, link)
	for _, n := range list {
		if n.Addr == addr {
			return n, true, nil
		}
	}
	return Neighbour{}, false, err
}

func stateName(state int) string {
	for bit, name := range map[int]string{
		netlink.NUD_INCOMPLETE: "INCOMPLETE", netlink.NUD_REACHABLE: "REACHABLE", netlink.NUD_STALE: "STALE",
		netlink.NUD_DELAY: "DELAY", netlink.NUD_PROBE: "PROBE", netlink.NUD_FAILED: "FAILED",
		netlink.NUD_NOARP: "NOARP", netlink.NUD_PERMANENT: "PERMANENT",
	} {
		if state&bit != 0 {
			return name
		}
	}
	return "NONE"
}
