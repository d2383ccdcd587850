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
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// renumberingCondition says that a Service holds an old and a new address. When it began is when the window did: that is all
// the memory there is of it.
func (s *syncer) renumberingCondition(o *allocator.Outcome) metav1.Condition {
	var news, olds []string
	for _, a := range o.Addrs {
		if slices.Contains(o.Old, a) {
			olds = append(olds, a.String())
		} else if slices.ContainsFunc(o.Old, func(old netip.Addr) bool { return cluster.FamilyOf(old) == cluster.FamilyOf(a) }) {
			news = append(news, a.String())
		}
	}
	return metav1.Condition{Type: v1beta1.ConditionRenumbering, Status: metav1.ConditionTrue, Reason: "MakeBeforeBreak",
		Message: fmt.Sprintf("moves to %s; %s is held as well for %v, and for as long as only the old one is announced",
			strings.Join(news, " and "), strings.Join(olds, " and "), s.renumberWindow)}
}

// windowLeft returns how much longer the old addresses of a Service are held at least.
func (s *syncer) windowLeft(conditions []metav1.Condition, now time.Time) time.Duration {
	for _, c := range conditions {
		if c.Type == v1beta1.ConditionRenumbering {
			return c.LastTransitionTime.Add(s.renumberWindow).Sub(now)
		}
	}
	return 0
}

// poolOf names the pool of an address that a Service holds, as announcing has it: the one that gave it, where that is on record and still
// there, or else the one that has it.
func (s *syncer) poolOf(v *kube.Service, i int) string {
	if i < len(v.HeldFrom) {
		if _, exists := s.config.Pool(v.HeldFrom[i]); exists {
			return v.HeldFrom[i]
		}
	}
	if at := s.config.PoolIndex(v.Held[i]); at >= 0 {
		return s.config.Pools[at].Name
	}
	return ""
}

// windowOver reports whether the old addresses of a Service may go.
func (s *syncer) windowOver(v *kube.Service, owned map[netip.Addr]struct{}, now time.Time) bool {
	return s.windowLeft(v.Conditions, now) <= 0 &&
		allocator.OldMayGo(v.Held, func(i int) bool { return s.announced(v, v.Held[i], s.poolOf(v, i), owned) })
}
