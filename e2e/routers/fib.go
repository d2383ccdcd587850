package routers

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Change is one of a kernel's routing table.
type Change struct {
	At      time.Time // when it was heard of
	Prefix  netip.Prefix
	NextHop []netip.Addr // all of the route from then on, sorted; none when it is gone
}

// FIB follows the routes that a routing daemon puts into the kernel of its namespace: what is really forwarded.
type FIB struct {
	mu      sync.Mutex
	now     map[netip.Prefix][]netip.Addr
	changes []Change
	stop    func()
}

// WatchFIB begins to follow the routes of a namespace.
func WatchFIB(ctx context.Context, namespace string) (*FIB, error) {
	ns, err := netns.GetFromPath(namespace)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", namespace, err)
	}
	defer func() { _ = ns.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	updates := make(chan netlink.RouteUpdate, 4096)
	f := &FIB{now: map[netip.Prefix][]netip.Addr{}, stop: cancel}
	// 8 MiB: thousands of routes come at once.
	options := netlink.RouteSubscribeOptions{Namespace: &ns, ReceiveBufferSize: 8 << 20, ErrorCallback: func(error) {}}
	if err := netlink.RouteSubscribeWithOptions(updates, ctx.Done(), options); err != nil {
		cancel()
		return nil, fmt.Errorf("follow the routes of %s: %w", namespace, err)
	}
	go func() {
		for u := range updates {
			f.take(u, time.Now())
		}
	}()
	return f, nil
}

// Stop ends it.
func (f *FIB) Stop() { f.stop() }

func (f *FIB) take(u netlink.RouteUpdate, at time.Time) {
	if u.Dst == nil || u.Table != unix.RT_TABLE_MAIN {
		return
	}
	addr, is := netip.AddrFromSlice(u.Dst.IP)
	if !is {
		return
	}
	bits, _ := u.Dst.Mask.Size()
	c := Change{At: at, Prefix: netip.PrefixFrom(addr.Unmap(), bits)}
	if u.Type == unix.RTM_NEWROUTE {
		hops := []netlink.NexthopInfo{{Gw: u.Gw}}
		for _, hop := range u.MultiPath {
			hops = append(hops, *hop)
		}
		for _, hop := range hops {
			if gateway, is := netip.AddrFromSlice(hop.Gw); is {
				c.NextHop = append(c.NextHop, gateway.Unmap())
			}
		}
		slices.SortFunc(c.NextHop, netip.Addr.Compare)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = append(f.changes, c)
	f.now[c.Prefix] = c.NextHop
}

// Since returns the changes after an instant.
func (f *FIB) Since(at time.Time) []Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.changes, func(c Change) bool { return c.At.After(at) })
	if i < 0 {
		return nil
	}
	return slices.Clone(f.changes[i:])
}

// Rehashed reports whether routes changed in the middle of a short exchange: the kernel shares all connections out anew then, and one that
// is open may come to a node that does not know it. Whatever took a second had a packet lost and sent again, which is not that.
func (f *FIB) Rehashed(from, to time.Time) bool {
	const heardLater = 50 * time.Millisecond
	changes := f.Since(from)
	return to.Sub(from) < time.Second && len(changes) > 0 && changes[0].At.Before(to.Add(heardLater))
}

// Over counts the routes that lead over a next hop now.
func (f *FIB) Over(hop netip.Addr) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, hops := range f.now {
		if slices.Contains(hops, hop) {
			n++
		}
	}
	return n
}
