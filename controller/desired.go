package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// silence is how long nobody may announce an address before the Service says so: a failover or a planned move is over long
// before, and writes nothing.
const silence = 10 * time.Second

// desired returns what should stand in a Service, whether that differs from what does, and when to look again even if
// nothing happens. outcome is nil for a Service that is not ours to serve.
func (s *syncer) desired(r *serviceRecord, outcome *allocator.Outcome, owned map[netip.Addr]struct{}, now time.Time) (want kube.ServiceStatus, differs bool, recheck time.Duration) {
	v := &r.Value
	if outcome == nil {
		if v.Wanted || !v.Marked {
			return want, false, 0
		}
		// It was ours and is not any more. The API server clears the addresses when the type changes; whatever
		// stands there now is another controller's.
		want.Addrs, want.Remove = v.Ingress, conditionTypes(v.Conditions)
		return want, true, 0
	}
	want.Addrs, want.Pools, want.SharedAs = outcome.Addrs, outcome.Pools, outcome.SharedAs
	want.Conditions = []metav1.Condition{allocatedCondition(outcome)}
	announced, known, recheck := s.announcedCondition(v, outcome, owned, now)
	if known {
		want.Conditions = append(want.Conditions, announced)
	}
	if conflict, is := s.conflicts.condition(outcome.Addrs); is {
		want.Conditions = append(want.Conditions, conflict)
	}
	if len(outcome.Old) > 0 {
		want.Conditions = append(want.Conditions, s.renumberingCondition(outcome))
	}
	for i := range want.Conditions {
		want.Conditions[i].LastTransitionTime = transition(v.Conditions, want.Conditions[i], now)
	}
	if left := s.windowLeft(want.Conditions, now); left > 0 {
		recheck = reconcile.Sooner(recheck, left)
	}
	want.Remove = slices.DeleteFunc(conditionTypes(v.Conditions), func(t string) bool { return hasType(want.Conditions, t) })
	differs = !slices.Equal(want.Addrs, v.Ingress) || v.Hostname || kube.AllocatedFrom(want.Pools) != kube.AllocatedFrom(v.HeldFrom) ||
		want.SharedAs != v.SharedAs || !sameConditions(v.Conditions, want.Conditions)
	return want, differs, recheck
}

func hasType(conditions []metav1.Condition, conditionType string) bool {
	return slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Type == conditionType })
}

func conditionTypes(conditions []metav1.Condition) []string {
	types := make([]string, 0, len(conditions))
	for _, c := range conditions {
		types = append(types, c.Type)
	}
	return types
}

// transition keeps the time of a condition whose status stays. A renumbering is another one when its addresses are others.
func transition(old []metav1.Condition, c metav1.Condition, now time.Time) metav1.Time {
	for _, o := range old {
		if o.Type == c.Type && o.Status == c.Status && (c.Type != v1beta1.ConditionRenumbering || o.Message == c.Message) {
			return o.LastTransitionTime
		}
	}
	return metav1.NewTime(now)
}

// sameConditions compares what users read, not when it was written.
func sameConditions(have, want []metav1.Condition) bool {
	if len(have) != len(want) {
		return false
	}
	for _, w := range want {
		if !slices.ContainsFunc(have, func(h metav1.Condition) bool {
			return h.Type == w.Type && h.Status == w.Status && h.Reason == w.Reason && h.Message == w.Message
		}) {
			return false
		}
	}
	return true
}

func allocatedCondition(o *allocator.Outcome) metav1.Condition {
	status := metav1.ConditionTrue
	if len(o.Addrs) == 0 {
		status = metav1.ConditionFalse
	}
	return metav1.Condition{Type: v1beta1.ConditionAllocated, Status: status, Reason: string(o.Reason), Message: o.Message()}
}

// announcedCondition says whether speakers answer for all of a Service's addresses. known is false where nothing is to be
// said yet. The owner is not named, so that a failover writes nothing.
func (s *syncer) announcedCondition(v *kube.Service, o *allocator.Outcome, owned map[netip.Addr]struct{}, now time.Time) (c metav1.Condition, known bool, recheck time.Duration) {
	c.Type = v1beta1.ConditionAnnounced
	if len(o.Addrs) == 0 {
		delete(s.silent, v.Key)
		return c, false, 0
	}
	var missing, unadvertised []string
	for i, a := range o.Addrs {
		if slices.Contains(o.Old, a) || s.announced(v, a, o.Pools[i], owned) {
			continue
		}
		missing = append(missing, a.String())
		if pool, exists := s.config.Pool(o.Pools[i]); !exists || !s.config.Advertised(pool, v.Labels) {
			unadvertised = append(unadvertised, a.String())
		}
	}
	if len(missing) == 0 {
		delete(s.silent, v.Key)
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Announced", "every address is announced"
		return c, true, 0
	}
	c.Status = metav1.ConditionFalse
	if len(unadvertised) > 0 {
		delete(s.silent, v.Key)
		c.Reason = "NoAdvertisement"
		c.Message = fmt.Sprintf("no advertisement selects %s; set advertise: [L2] on the pool, or create an L2Advertisement or a BGPAdvertisement that selects the pool and this Service", strings.Join(unadvertised, " and "))
		return c, true, 0
	}
	if unusable := s.conflicts.unusable(o.Addrs); len(unusable) > 0 {
		delete(s.silent, v.Key)
		c.Reason = "AddressConflict"
		c.Message = fmt.Sprintf("not announced, as another machine has it: %s", strings.Join(unusable, " and "))
		return c, true, 0
	}
	return s.silentCondition(c, v, missing, now)
}

// announced reports whether a node answers for an address of a Service, or a router has been told of it.
func (s *syncer) announced(v *kube.Service, a netip.Addr, pool string, owned map[netip.Addr]struct{}) bool {
	if _, answered := owned[a]; answered {
		return true
	}
	p, exists := s.config.Pool(pool)
	_, served := s.routedLocal[a]
	return exists && (served || v.TrafficPolicy != cluster.TrafficLocal) && s.routed.reaches(s.config, p, v.Labels, a)
}

// silentCondition lets some time pass before it says that nobody answers.
func (s *syncer) silentCondition(c metav1.Condition, v *kube.Service, missing []string, now time.Time) (metav1.Condition, bool, time.Duration) {
	if s.silent == nil {
		s.silent = map[cluster.Key]time.Time{}
	}
	since, counting := s.silent[v.Key]
	if !counting {
		since = now
		s.silent[v.Key] = now
	}
	if left := silence - now.Sub(since); left > 0 {
		for _, old := range v.Conditions {
			if old.Type == c.Type && old.Reason != "NoAdvertisement" {
				return old, true, left
			}
		}
		return c, false, left
	}
	c.Reason = "NotAnnounced"
	c.Message = fmt.Sprintf("no speaker announces %s; look at kubectl get speakers, and at externalTrafficPolicy and the endpoints of this Service", strings.Join(missing, " and "))
	return c, true, 0
}

// tell records events for what a write changed.
func (s *syncer) tell(w written) {
	key, uid := w.before.Value.Key, w.before.UID
	for _, a := range w.before.Value.Held {
		if !slices.Contains(w.want.Addrs, a) {
			s.events.Service(key, uid, corev1.EventTypeNormal, "IPReleased", fmt.Sprintf("%s was given back%s", a, lossText(w.lost, a)))
		}
	}
	for _, c := range w.want.Conditions {
		if c.Type != v1beta1.ConditionAllocated {
			continue
		}
		gained := slices.DeleteFunc(slices.Clone(w.want.Addrs), func(a netip.Addr) bool { return slices.Contains(w.before.Value.Held, a) })
		if len(gained) > 0 {
			s.events.Service(key, uid, corev1.EventTypeNormal, "IPAllocated", c.Message)
			s.log.Info("allocated", "service", key, "addresses", w.want.Addrs, "pool", kube.AllocatedFrom(w.want.Pools))
		}
		if c.Reason != string(allocator.Allocated) && !hasReason(w.before.Value.Conditions, c.Type, c.Reason) {
			s.events.Service(key, uid, corev1.EventTypeWarning, "AllocationFailed", c.Message)
			s.log.Info("not all allocated", "service", key, "reason", c.Reason, "why", c.Message)
		}
	}
}

// lossText says why a Service could not keep an address that it shared.
func lossText(lost []allocator.Loss, a netip.Addr) string {
	for _, l := range lost {
		if l.Addr == a {
			return fmt.Sprintf(": Service %s holds it, and the two cannot share it any more, since they differ in, or clash on, their %s", l.Other, l.Attribute)
		}
	}
	return ""
}

func hasReason(conditions []metav1.Condition, conditionType, reason string) bool {
	return slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Type == conditionType && c.Reason == reason })
}
