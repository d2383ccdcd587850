package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

const (
	// impatience is how often a router is asked for while there is none.
	impatience = time.Second
	// presence is how often this node says that it is there: a router that starts anew has to hear it.
	presence = 10 * time.Second
	// forgotten is how long a router may be silent before another may take its place.
	forgotten = 30 * time.Second
	// answerGap is how soon one router's advertisement is answered after another's.
	answerGap = time.Second
	// hopLimit shows that a message comes from the link itself, RFC 4861 section 6.1.2.
	hopLimit = 255
)

// search looks for the router on one link.
type search struct {
	link string
	log  *slog.Logger
	say  func(Found)
	open func(link string) (*ndp.Conn, *net.Interface, netip.Addr, error)

	own    netip.Addr
	router netip.Addr
	heard  map[netip.Addr]time.Time
}

func (s *search) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		s.log.Debug("a link cannot be searched for its router", "error", err)
		s.say(Found{Problem: fmt.Sprintf("a router cannot be looked for on the link %s: %v", s.link, err)})
		select {
		case <-ctx.Done():
		case <-time.After(impatience):
		}
	}
}

// open listens for router advertisements on a link.
func open(link string) (*ndp.Conn, *net.Interface, netip.Addr, error) {
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		return nil, nil, netip.Addr{}, fmt.Errorf("find the link: %w", err)
	}
	conn, own, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return nil, nil, netip.Addr{}, fmt.Errorf("listen on its link-local address: %w", err)
	}
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	if err := errors.Join(conn.SetICMPFilter(&filter), conn.SetControlMessage(ipv6.FlagHopLimit, true)); err != nil {
		return nil, nil, netip.Addr{}, errors.Join(fmt.Errorf("prepare to listen: %w", err), conn.Close())
	}
	return conn, ifi, own, nil
}

// listen asks and listens until something fails.
func (s *search) listen(ctx context.Context) error {
	conn, ifi, own, err := s.open(s.link)
	if err != nil {
		return err
	}
	closed := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if closed() {
			_ = conn.Close()
		}
	}()
	s.own, s.router, s.heard = own.WithZone(""), netip.Addr{}, map[netip.Addr]time.Time{}
	var saidAt time.Time
	for {
		now := time.Now()
		gap := impatience
		if s.choose(now); s.router.IsValid() {
			gap = presence
		}
		if left := gap - now.Sub(saidAt); left <= 0 {
			if err := s.speak(conn, ifi); err != nil {
				return err
			}
			saidAt = now
		}
		if err := conn.SetReadDeadline(saidAt.Add(gap)); err != nil {
			return fmt.Errorf("set a deadline: %w", err)
		}
		message, control, from, err := conn.ReadFrom()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return fmt.Errorf("listen: %w", err)
		}
		now = time.Now()
		from = from.WithZone("")
		if _, is := message.(*ndp.RouterAdvertisement); !is || control == nil || control.HopLimit != hopLimit || !from.IsLinkLocalUnicast() || from == s.own {
			continue
		}
		s.heard[from] = now
		if now.Sub(saidAt) >= answerGap {
			saidAt = time.Time{} // it may not have heard this node yet
		}
	}
}

// speak asks for a router, and says that this node is there, as no router for anybody: with a lifetime of zero, RFC 4861 section 4.2.
func (s *search) speak(conn *ndp.Conn, ifi *net.Interface) error {
	at := []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: ifi.HardwareAddr}}
	return errors.Join(
		conn.WriteTo(&ndp.RouterSolicitation{Options: at}, nil, netip.IPv6LinkLocalAllRouters()),
		conn.WriteTo(&ndp.RouterAdvertisement{Options: at}, nil, netip.IPv6LinkLocalAllNodes()))
}

// choose has the router that there is stay while it is heard, and nobody in its place while there is a choice.
func (s *search) choose(now time.Time) {
	maps.DeleteFunc(s.heard, func(a netip.Addr, at time.Time) bool {
		return now.Sub(at) > forgotten && (a != s.router || len(s.heard) > 1)
	})
	found := Found{Own: s.own}
	if _, still := s.heard[s.router]; !still {
		s.router = netip.Addr{}
		if len(s.heard) == 1 {
			for s.router = range s.heard {
				s.log.Info("found the router on a link", "router", s.router)
			}
		}
	}
	switch {
	case s.router.IsValid():
		found.Router = s.router.WithZone(s.link)
	case len(s.heard) == 0:
		found.Problem = fmt.Sprintf("no router is heard on the link %s: have it send router advertisements there, or set peerAddress", s.link)
	default:
		var all []string
		for _, a := range slices.SortedFunc(maps.Keys(s.heard), netip.Addr.Compare) {
			all = append(all, a.String())
		}
		found.Problem = fmt.Sprintf("several routers are heard on the link %s (%s): set peerAddress to the one that is meant", s.link, strings.Join(all, ", "))
	}
	s.say(found)
}
