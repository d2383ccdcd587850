package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// report is what the statuses of pools and advertisements shall say.
type report struct {
	pools  []v1beta1.IPAddressPool // with the wanted status and finalizers; metadata as last seen
	seen   map[string]v1beta1.IPAddressPool
	others []told
}

// reporter writes the statuses of pools and advertisements, at most once a second.
type reporter struct {
	client *kube.Client
	held   func() bool // whether this replica may write
	poke   reconcile.Poke
	log    *slog.Logger
	box    *reconcile.Latest[report]
}

// reportRetry is how long a report that could not be written in full waits for the next pass, at the latest.
const reportRetry = 5 * time.Second

// Run writes until ctx ends.
func (r *reporter) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case latest := <-r.box.C():
			r.write(ctx, latest)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// write writes what differs. One object that cannot be written delays no other.
func (r *reporter) write(ctx context.Context, latest report) {
	for _, pool := range latest.pools {
		r.check(ctx, r.writePool(ctx, latest.seen[pool.Name], pool))
	}
	for _, other := range latest.others {
		if r.held() {
			r.check(ctx, other.write(ctx))
		}
	}
}

// check sees to it that a write that failed is tried again.
func (r *reporter) check(ctx context.Context, err error) {
	switch {
	case err == nil, ctx.Err() != nil:
		return
	case apierrors.IsConflict(err), apierrors.IsNotFound(err): // it has changed, and the change pokes the loop as well
		r.log.Debug("the object changed before its status was written", "error", err)
	default:
		r.log.Warn("status of a pool or advertisement not written, will retry", "error", err, "retryIn", reportRetry)
	}
	time.AfterFunc(reportRetry, r.poke.Ring)
}

// writePool writes a pool's finalizers, or its status: the status after a change of the finalizers is for the next pass.
func (r *reporter) writePool(ctx context.Context, seen, pool v1beta1.IPAddressPool) error {
	ctx, cancel := context.WithTimeout(ctx, kube.RequestTimeout)
	defer cancel()
	switch {
	case !r.held():
		return nil
	case !slices.Equal(seen.Finalizers, pool.Finalizers):
		return r.client.SetFinalizers(ctx, pool.Name, seen.ResourceVersion, pool.Finalizers)
	case apiequality.Semantic.DeepEqual(seen.Status, pool.Status):
		return nil
	}
	patch, err := kube.StatusPatch(pool.Status, seen.ResourceVersion)
	if err != nil {
		return fmt.Errorf("preparing the status of IPAddressPool %s: %w", pool.Name, err)
	}
	if _, err := r.client.Pools.Patch(ctx, pool.Name, types.JSONPatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("writing the status of IPAddressPool %s: %w", pool.Name, err)
	}
	return nil
}

// report works out what the statuses shall say.
func (s *syncer) report(world *snapshot) report {
	out := report{seen: map[string]v1beta1.IPAddressPool{}}
	now := metav1.Now()
	for _, r := range s.objects.Pools.Records() {
		pool := r.Value
		out.seen[pool.Name] = pool
		usage := world.Assignments.Pools[pool.Name]
		pool.Status = v1beta1.IPAddressPoolStatus{
			IPv4:       v1beta1.Usage(usage.V4),
			IPv6:       v1beta1.Usage(usage.V6),
			Retained:   s.retained(pool.Name),
			Conditions: stamp(pool.Status.Conditions, s.poolConditions(pool, usage), now),
		}
		pool.Finalizers = withFinalizer(pool.Finalizers, usage.Services > 0)
		out.pools = append(out.pools, pool)
	}
	out.others = s.others(now)
	return out
}

// retained lists what a pool keeps for Services that have gone.
func (s *syncer) retained(pool string) []v1beta1.Retained {
	p, _ := s.config.Pool(pool)
	return s.retention.status(p)
}

func withFinalizer(finalizers []string, wanted bool) []string {
	has := slices.Contains(finalizers, v1beta1.FinalizerInUse)
	switch {
	case wanted && !has:
		return append(slices.Clone(finalizers), v1beta1.FinalizerInUse)
	case !wanted && has:
		return slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool { return f == v1beta1.FinalizerInUse })
	}
	return finalizers
}

// stamp keeps the time of conditions whose status stays.
func stamp(old, conditions []metav1.Condition, now metav1.Time) []metav1.Condition {
	for i := range conditions {
		conditions[i].LastTransitionTime = now
		for _, o := range old {
			if o.Type == conditions[i].Type && o.Status == conditions[i].Status {
				conditions[i].LastTransitionTime = o.LastTransitionTime
			}
		}
	}
	return conditions
}

func condition(conditionType string, is bool, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: conditionType, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if is {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func (s *syncer) poolConditions(wire v1beta1.IPAddressPool, usage allocator.PoolUsage) []metav1.Condition {
	accepted := s.accepted(config.KindIPAddressPool, wire.Name)
	pool, _ := s.config.Pool(wire.Name)
	ready := condition("Ready", true, "Ready", "gives addresses to Services")
	switch {
	case wire.DeletionTimestamp != nil:
		ready = condition("Ready", false, "Deleting", fmt.Sprintf("gives nothing more; goes when the %d Services that use it have gone", usage.Services))
	case accepted.Status != metav1.ConditionTrue:
		ready = condition("Ready", false, accepted.Reason, "gives nothing more until the object is corrected; what was given is kept")
	}
	exhausted := condition("Exhausted", false, "AddressesFree", "addresses are free")
	switch v4, v6 := usage.V4.Total > 0 && usage.V4.Available <= 0, usage.V6.Total > 0 && usage.V6.Available <= 0; {
	case v4 && v6, v4 && usage.V6.Total == 0, v6 && usage.V4.Total == 0:
		exhausted = condition("Exhausted", true, "AllAssigned", "every address is assigned; add addresses, or delete Services that use them")
	case v4:
		exhausted = condition("Exhausted", true, "IPv4Assigned", "every IPv4 address is assigned; add addresses, or delete Services that use them")
	case v6:
		exhausted = condition("Exhausted", true, "IPv6Assigned", "every IPv6 address is assigned; add addresses, or delete Services that use them")
	}
	overlaps := condition("Overlaps", false, "NoOverlap", "no address is in an elder pool")
	if p, found := s.problem(config.KindIPAddressPool, wire.Name, config.ReasonOverlaps); found {
		overlaps = condition("Overlaps", true, string(p.Reason), p.Message)
	}
	advertised := condition("Advertised", true, "Advertised", "an advertisement announces it")
	if !s.config.Announces(pool) {
		advertised = condition("Advertised", false, "NoAdvertisement", "nobody can reach its addresses: set advertise: [L2], "+
			"or create an L2Advertisement or a BGPAdvertisement that selects it")
	}
	return []metav1.Condition{accepted, ready, exhausted, overlaps, advertised}
}

// accepted collects the problems that make an object, or part of it, inert.
func (s *syncer) accepted(kind, name string) metav1.Condition {
	var rejected, hints []string
	reason := ""
	for _, p := range s.problems {
		switch {
		case p.Kind != kind || p.Name != name:
		case p.Rejects():
			rejected = append(rejected, p.Message)
			reason = string(p.Reason)
		case p.Reason != config.ReasonOverlaps:
			hints = append(hints, p.Message)
		}
	}
	switch kind {
	case config.KindIPAddressPool:
		hints = append(hints, s.inUseHints(name)...)
	case config.KindBGPPeer:
		hints = append(hints, insteadHints(s.config, name, s.nodes.Records())...)
	}
	switch {
	case len(rejected) > 0:
		return condition("Accepted", false, reason, strings.Join(rejected, "; "))
	case len(hints) > 0:
		return condition("Accepted", true, "AcceptedWithHints", strings.Join(hints, "; "))
	}
	return condition("Accepted", true, "Accepted", "the object is in force")
}

func (s *syncer) problem(kind, name string, reason config.ProblemReason) (config.Problem, bool) {
	i := slices.IndexFunc(s.problems, func(p config.Problem) bool { return p.Kind == kind && p.Name == name && p.Reason == reason })
	if i < 0 {
		return config.Problem{}, false
	}
	return s.problems[i], true
}
