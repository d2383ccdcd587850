// Package links watches the node's network interfaces, by netlink, and publishes those that addresses can be announced on.
package links

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

const (
	// listEvery is the shortest time between two listings: the first change of a burst is seen at once, the rest
	// together. A node on which pods come and go has hundreds of interfaces.
	listEvery = 50 * time.Millisecond
	// relistEvery is the longest: what the kernel failed to tell is found out then.
	relistEvery = time.Minute
	// The backoff between subscriptions that failed.
	retryMin, retryMax = 100 * time.Millisecond, 5 * time.Second
	// listTries is how often a listing that a change has interrupted is begun again at once.
	listTries = 5
)

// Watcher publishes the node's links.
type Watcher struct {
	log     *slog.Logger
	publish func([]cluster.Link)

	// Run's goroutine only.
	last      []cluster.Link
	published bool
}

// New returns a Watcher of the network namespace that Run is called in. The links, sorted by name, are published once when
// they are first known, even if there are none, and then whenever they have changed; a published slice is never changed.
// publish is called from Run's goroutine and must not block.
func New(log *slog.Logger, publish func([]cluster.Link)) *Watcher {
	return &Watcher{log: log, publish: publish}
}

// Run watches until ctx ends and returns nil then. Errors of netlink are logged, and overcome by subscribing anew.
func (w *Watcher) Run(ctx context.Context) error {
	wait := retryMin
	for {
		began := time.Now()
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end, and ended
		}
		if time.Since(began) > retryMax {
			wait = retryMin
		}
		w.log.Warn("watching links failed, will subscribe again", "error", err, "retryIn", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMax)
	}
}

// watch subscribes, and lists whenever it is told of a change, until something fails.
func (w *Watcher) watch(ctx context.Context) error {
	// First subscribe, then list: a change in between is seen twice, and not never.
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("subscribing to netlink: %w", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		events.Close()
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer h.Close()
	poke, failed := reconcile.NewPoke(), make(chan error, 1)
	go func() { failed <- listen(events, poke) }()
	// listen ends once the socket is closed, and nothing of it outlives watch.
	listening := true
	defer func() {
		events.Close()
		if listening {
			w.log.Debug("stopped listening", "error", <-failed)
		}
	}()
	for {
		if err := w.list(h); err != nil {
			return err
		}
		pause := time.NewTimer(listEvery)
		relist := time.NewTimer(relistEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-poke:
		case <-relist.C:
		case err := <-failed:
			listening = false
			return fmt.Errorf("receiving from netlink: %w", err)
		case <-ctx.Done():
			return nil
		}
		relist.Stop()
	}
}

// listen turns netlink messages into pokes: what they say is found out by listing.
func listen(events *nl.NetlinkSocket, poke reconcile.Poke) error {
	for {
		_, _, err := events.Receive()
		// ENOBUFS: the kernel had more to say than fits. Listing makes up for all of it.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		poke.Ring()
	}
}

// list reads all links and addresses and publishes them if they have changed.
func (w *Watcher) list(h *netlink.Handle) error {
	var links []cluster.Link
	var err error
	for range listTries {
		if links, err = current(h); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	if w.published && slices.EqualFunc(w.last, links, equal) {
		return nil
	}
	w.last, w.published = links, true
	w.publish(links)
	return nil
}

func current(h *netlink.Handle) ([]cluster.Link, error) {
	all, err := h.LinkList()
	if err != nil {
		return nil, err
	}
	addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var links []cluster.Link
	for _, l := range all {
		if link, ok := toLink(l.Attrs(), addrs); ok {
			links = append(links, link)
		}
	}
	slices.SortFunc(links, func(a, b cluster.Link) int { return cmp.Compare(a.Name, b.Name) })
	addGateways(h, links)
	return links, nil
}

// addGateways notes the routers that the links lead to. One lookup a family is cheaper than reading a table that may be long; a
// change of the default route alone is found out at the next listing.
func addGateways(h *netlink.Handle, links []cluster.Link) {
	// Global unicast addresses, for which only the default route counts.
	for _, far := range []string{"4.0.0.1", "2600::1"} {
		routes, err := h.RouteGet(net.ParseIP(far))
		if err != nil {
			continue // there is no default route
		}
		for _, r := range routes {
			gateway, ok := netip.AddrFromSlice(r.Gw)
			if i := slices.IndexFunc(links, func(l cluster.Link) bool { return l.Index == r.LinkIndex }); ok && i >= 0 {
				links[i].Gateways = append(links[i].Gateways, gateway.Unmap())
			}
		}
	}
}

// Received counts the frames that have come in on the link of an index since it was made; zero where that cannot be told.
func Received(index int) uint64 {
	l, err := netlink.LinkByIndex(index)
	if err != nil || l.Attrs().Statistics == nil {
		return 0
	}
	return l.Attrs().Statistics.RxPackets
}

func equal(a, b cluster.Link) bool {
	return a.Name == b.Name && a.Index == b.Index && a.MAC == b.MAC && a.Up == b.Up && slices.Equal(a.Prefixes, b.Prefixes) &&
		slices.Equal(a.Gateways, b.Gateways)
}
