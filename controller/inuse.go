package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// caution is how long an address is given to nobody after a speaker has last said that another machine has it: a speaker asks only
// while it should announce the address.
const caution = time.Minute

// conflicts are the addresses that other machines have, as the speakers say.
type conflicts map[netip.Addr]claimant

type claimant struct {
	station   string
	announced bool
	until     time.Time // zero while a speaker says so
}

// learn takes in what the speakers say, and reports whether that is something new.
func (c conflicts) learn(speakers []*kube.Record[kube.Said], now time.Time) (changed bool) {
	said := map[netip.Addr]claimant{}
	for _, r := range speakers {
		for _, wire := range r.Value.Conflicts {
			a, err := netip.ParseAddr(wire.Address)
			if err != nil {
				continue
			}
			said[a] = claimant{station: wire.Station, announced: wire.Announced || said[a].announced}
		}
	}
	for a, is := range said {
		changed = changed || c[a] != is
		c[a] = is
	}
	for a, was := range c {
		switch _, still := said[a]; {
		case still:
		case was.until.IsZero():
			was.until, changed = now.Add(caution), true
			c[a] = was
		case !now.Before(was.until):
			delete(c, a)
		}
	}
	return changed
}

// among returns what is said of some addresses, as "address (station)".
func (c conflicts) among(addrs []netip.Addr, which func(claimant) bool) (texts []string) {
	for _, a := range addrs {
		if is, known := c[a]; known && is.until.IsZero() && which(is) {
			texts = append(texts, fmt.Sprintf("%s (station %s)", a, is.station))
		}
	}
	return texts
}

// unusable returns those addresses that are not announced because another machine has them.
func (c conflicts) unusable(addrs []netip.Addr) []string {
	return c.among(addrs, func(is claimant) bool { return !is.announced })
}

// condition says that other machines have addresses of a Service.
func (c conflicts) condition(addrs []netip.Addr) (metav1.Condition, bool) {
	all := c.among(addrs, func(claimant) bool { return true })
	return metav1.Condition{Type: v1beta1.ConditionAddressConflict, Status: metav1.ConditionTrue, Reason: "StationAnswers",
		Message: fmt.Sprintf("another machine on the network has %s: find it by its hardware address and give it another address, or take this one out of the pool with excludedAddresses", strings.Join(all, " and ")),
	}, len(all) > 0
}

// elsewhere returns the addresses of the pools that something else than a Service has, sorted, and when there will be fewer.
func elsewhere(c config.Config, nodes []*kube.Record[cluster.Node], said []*kube.Record[kube.Said], known conflicts, now time.Time) (all []allocator.InUse, again time.Duration) {
	by := map[netip.Addr]allocator.InUse{}
	add := func(a netip.Addr, format string, args ...any) {
		if _, named := by[a]; !named && c.PoolIndex(a) >= 0 {
			by[a] = allocator.InUse{Addr: a, By: fmt.Sprintf(format, args...)}
		}
	}
	for _, r := range nodes {
		for _, a := range r.Value.Addrs {
			add(a, "node %s", r.Value.Name)
		}
	}
	for _, r := range said {
		for _, a := range r.Value.Links {
			add(a, "node %s", r.Value.Node)
		}
		for _, a := range r.Value.Gateways {
			add(a, "the default router of node %s", r.Value.Node)
		}
	}
	for a, is := range known {
		pool, covered := c.PoolOf(a)
		if !covered || pool.Detection == cluster.DetectOff {
			continue
		}
		unusable := is.until.IsZero() && !is.announced && pool.Detection == cluster.DetectEnforce
		by[a] = allocator.InUse{Addr: a, By: "another machine, of hardware address " + is.station, Unusable: unusable}
		if !is.until.IsZero() {
			again = reconcile.Sooner(again, is.until.Sub(now))
		}
	}
	for _, u := range by {
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b allocator.InUse) int { return a.Addr.Compare(b.Addr) })
	return all, again
}

// hintsAtMost bounds the addresses that a pool's condition names.
const hintsAtMost = 10

// inUseHints says which addresses of a pool it cannot give, since something else has them.
func (s *syncer) inUseHints(pool string) []string {
	var hints []string
	for _, u := range s.inUse {
		if p, covered := s.config.PoolOf(u.Addr); covered && p.Name == pool && len(hints) < hintsAtMost {
			hints = append(hints, fmt.Sprintf("%s is in use by %s: take it out with excludedAddresses", u.Addr, u.By))
		}
	}
	return hints
}
