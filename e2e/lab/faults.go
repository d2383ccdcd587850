package lab

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// SetInterface takes a place's own end of its link down or up, as an administrator would. What the kernel forgets meanwhile,
// Readdress restores.
func (l *Lab) SetInterface(where string, up bool) error {
	if err := InNetNS(l.NetNS(where), func() error { return setLink(link, up) }); err != nil {
		return fmt.Errorf("set the interface of %s: %w", where, err)
	}
	return nil
}

// errNotKind is what a lab of kind's says to faults of a network that is not its own.
var errNotKind = errors.New("the network is Docker's: this can be done to the lab's own nodes only")

// Plug gives a place that was unplugged an interface of the same name, which has another index and this MAC.
func (l *Lab) Plug(where string, mac net.HardwareAddr) error {
	if l.opts.Kind {
		return errNotKind
	}
	if err := l.plug(Switch, where, where, mac); err != nil {
		return err
	}
	return l.Readdress(where)
}

// Unplug takes a place's interface away.
func (l *Lab) Unplug(where string) error {
	if l.opts.Kind {
		return errNotKind
	}
	return InNetNS(l.NetNS(where), func() error {
		old, err := netlink.LinkByName(link)
		if err != nil {
			return fmt.Errorf("find the interface of %s: %w", where, err)
		}
		if err := netlink.LinkDel(old); err != nil {
			return fmt.Errorf("take the interface of %s away: %w", where, err)
		}
		return nil
	})
}

// Readdress gives a place's interface the addresses and routes that it should have, as far as it lacks them.
func (l *Lab) Readdress(where string) error {
	return InNetNS(l.NetNS(where), func() error {
		if err := addAddrs(link, l.Addrs(where), lanBits4, lanBits6); err != nil {
			return err
		}
		return l.addRoutes(where)
	})
}

// FillDisk leaves no space where etcd writes, until free is called. What was written stays.
func (l *Lab) FillDisk() (free func() error, err error) {
	dir := l.storeDir()
	resize := func(size string) error {
		if err := unix.Mount("bellwether-lab", dir, "tmpfs", unix.MS_REMOUNT, "size="+size+",mode=0700"); err != nil {
			return fmt.Errorf("give %s another size: %w", dir, err)
		}
		return nil
	}
	free = func() error { return resize(dataSize) }
	var now unix.Statfs_t
	if err := unix.Statfs(dir, &now); err != nil {
		return free, fmt.Errorf("look at %s: %w", dir, err)
	}
	return free, resize(strconv.FormatUint((now.Blocks-now.Bfree)*uint64(now.Bsize), 10))
}

// other is the switch that part of the places is moved to.
const other = "br1"

// Part moves places to another switch, which is not connected to the first, until heal is called.
func (l *Lab) Part(places ...string) (heal func() error, err error) {
	if l.opts.Kind {
		return nil, errNotKind
	}
	move := func(to string) error {
		return InNetNS(l.NetNS(Switch), func() error {
			br, err := netlink.LinkByName(to)
			if err != nil {
				return fmt.Errorf("find %s: %w", to, err)
			}
			var errs []error
			for _, p := range places {
				port, err := netlink.LinkByName(p)
				if err == nil {
					err = netlink.LinkSetMaster(port, br)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		})
	}
	err = InNetNS(l.NetNS(Switch), func() error {
		off := false
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: other}, MulticastSnooping: &off}
		if err := netlink.LinkAdd(br); err != nil {
			return fmt.Errorf("make a second switch: %w", err)
		}
		return netlink.LinkSetUp(br)
	})
	if err != nil {
		return nil, err
	}
	heal = func() error {
		err := move(bridge)
		return errors.Join(err, InNetNS(l.NetNS(Switch), func() error {
			br, err := netlink.LinkByName(other)
			if err != nil {
				return fmt.Errorf("find the second switch: %w", err)
			}
			return netlink.LinkDel(br)
		}))
	}
	if err := move(other); err != nil {
		return nil, errors.Join(err, heal())
	}
	return heal, nil
}
