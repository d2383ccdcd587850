package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// loaded is a route as a server has it.
type loaded struct {
	*announce.Route
	hop      netip.Addr
	own      uint32 // AS number
	internal bool   // the peer has the same
}

func (l *loaded) is(o loaded) bool {
	return l != nil && l.hop == o.hop && l.own == o.own && l.internal == o.internal && l.Equal(o.Route)
}

// load makes the server's routes those that are wanted, and returns when one of them has been drained.
func (s *session) load(now time.Time) (again time.Duration) {
	again = time.Hour
	for prefix := range s.loaded {
		if _, wanted := s.want.Routes[prefix]; !wanted {
			again = min(again, s.withdraw(prefix))
		}
	}
	for prefix := range s.drains {
		if r, is := s.want.Routes[prefix]; !is || !r.Drain {
			delete(s.drains, prefix)
		}
	}
	for prefix, route := range s.want.Routes {
		if route.Drain {
			since, is := s.drains[prefix]
			if !is {
				since = now
				s.drains[prefix] = now
			}
			left := s.a.cfg.DrainTime - now.Sub(since)
			if left <= 0 || s.state != Established {
				again = min(again, s.withdraw(prefix))
				continue
			}
			again = min(again, left)
			route = draining(route)
		}
		again = min(again, s.announce(prefix, route))
	}
	return again
}

// draining is a route that the peer is to prefer others to, RFC 8326 section 4.
func draining(r *announce.Route) *announce.Route {
	least := uint32(0)
	out := *r
	out.LocalPref, out.Drain = &least, false
	out.Communities = append(slices.Clone(r.Communities), config.GracefulShutdown())
	slices.SortFunc(out.Communities, config.BGPCommunity.Compare)
	out.Communities = slices.Compact(out.Communities)
	return &out
}

func (s *session) announce(prefix netip.Prefix, route *announce.Route) (again time.Duration) {
	want := loaded{Route: route, hop: s.hop(prefix), own: s.want.Session.Own(), internal: s.want.Session.Internal}
	if s.loaded[prefix].is(want) {
		return time.Hour
	}
	if !s.newest.is(want) {
		s.newest = &loaded{}
		*s.newest = want
	}
	p, err := path(prefix, s.newest)
	if err == nil {
		_, err = s.server.AddPath(s.ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: p})
	}
	if err != nil {
		s.problem = fmt.Sprintf("%s is not announced: %v", prefix, err)
		return retry
	}
	s.loaded[prefix] = s.newest
	return time.Hour
}

// hop is what a route leads to. Both families may lead to an IPv6 address, RFC 8950.
func (s *session) hop(prefix netip.Prefix) netip.Addr {
	hop := s.want.NextHop4
	if prefix.Addr().Is6() {
		hop = s.want.NextHop6
	}
	if !hop.IsValid() && (s.own.Is6() || prefix.Addr().Is4()) {
		hop = s.own
	}
	return hop
}

func (s *session) withdraw(prefix netip.Prefix) (again time.Duration) {
	have, is := s.loaded[prefix]
	if !is {
		return time.Hour
	}
	p, err := path(prefix, have)
	if err == nil {
		err = s.server.DeletePath(s.ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Path: p})
	}
	if err != nil {
		s.problem = fmt.Sprintf("%s is not withdrawn: %v", prefix, err)
		return retry
	}
	delete(s.loaded, prefix)
	return time.Hour
}
