package main

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// retainedAtMost bounds what one pool's status says to be retained; the API server allows no more.
const retainedAtMost = 4096

// retention remembers which addresses are kept for Services that have gone. Every replica watches the Services go, so that
// one which takes over knows what the last leader had no time to write down; what both missed stands in the pools' statuses.
type retention struct {
	until map[allocator.Retention]time.Time
	last  map[cluster.Key]lastHeld // the Services that held addresses when last looked
}

type lastHeld struct {
	uid   types.UID
	addrs []netip.Addr
}

func newRetention() *retention {
	return &retention{until: map[allocator.Retention]time.Time{}, last: map[cluster.Key]lastHeld{}}
}

// needed reports whether there is anything to retain, or to forget.
func (r *retention) needed(c config.Config) bool {
	return len(r.until)+len(r.last) > 0 || slices.ContainsFunc(c.Pools, func(p config.Pool) bool { return p.RetainFor > 0 })
}

// watch looks for Services that have gone since the last call, and lets time pass.
func (r *retention) watch(c config.Config, records []*serviceRecord, now time.Time) {
	holding := make(map[cluster.Key]lastHeld, len(records))
	for _, record := range records {
		if v := &record.Value; v.Wanted && len(v.Held) > 0 {
			holding[v.Key] = lastHeld{record.UID, v.Held}
			for _, a := range v.Held {
				delete(r.until, allocator.Retention{Addr: a, Service: v.Key})
			}
		}
	}
	for key, was := range r.last {
		if is, there := holding[key]; there && is.uid == was.uid {
			continue
		}
		for _, a := range was.addrs {
			if pool, covered := c.PoolOf(a); covered && pool.RetainFor > 0 && !slices.Contains(holding[key].addrs, a) {
				r.until[allocator.Retention{Addr: a, Service: key}] = now.Add(pool.RetainFor)
			}
		}
	}
	r.last = holding
	for kept, until := range r.until {
		if pool, covered := c.PoolOf(kept.Addr); !covered || pool.RetainFor == 0 || !now.Before(until) {
			delete(r.until, kept)
		}
	}
}

// learn takes in what the last leader wrote down.
func (r *retention) learn(pools []v1beta1.IPAddressPool) {
	for _, pool := range pools {
		for _, entry := range pool.Status.Retained {
			a, err := netip.ParseAddr(entry.Address)
			if err != nil {
				continue // not ours: we write none that cannot be read
			}
			kept := allocator.Retention{Addr: a, Service: cluster.Key(entry.Service)}
			if _, known := r.until[kept]; !known {
				r.until[kept] = entry.Until.Time
			}
		}
	}
}

// list returns what is kept, and how long until the first of it is kept no more; 0 is never.
func (r *retention) list(now time.Time) (all []allocator.Retention, next time.Duration) {
	for kept, until := range r.until {
		all = append(all, kept)
		if left := until.Sub(now); next == 0 || left < next {
			next = left
		}
	}
	return all, next
}

// status is what the status of a pool says to be retained: what is kept longest comes first, and stays if there is too much.
func (r *retention) status(pool config.Pool) []v1beta1.Retained {
	var out []v1beta1.Retained
	for kept, until := range r.until {
		if pool.Covers != nil && pool.Covers.Contains(kept.Addr) {
			out = append(out, v1beta1.Retained{Address: kept.Addr.String(), Service: v1beta1.ServiceName(kept.Service),
				Until: metav1.NewTime(until.Truncate(time.Second))})
		}
	}
	slices.SortFunc(out, func(a, b v1beta1.Retained) int {
		return cmp.Or(b.Until.Compare(a.Until.Time), cmp.Compare(a.Address, b.Address),
			cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name))
	})
	return out[:min(len(out), retainedAtMost)]
}
