package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// samples are what a collector gives, as "label label: value", but for zeros.
func samples(t *testing.T, c prometheus.Collector) (all []string) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if v := m.GetGauge().GetValue() + m.GetCounter().GetValue(); v != 0 {
				all = append(all, fmt.Sprintf("%s: %v", strings.Join(labels, " "), v))
			}
		}
	}
	return all
}

func TestChangesOfOwnersAreCountedByCause(t *testing.T) {
	alive := map[string]cluster.Member{"me": {Ready: true}, "other": {Ready: true}, "third": {Ready: true}}
	ours := func(owner string) announce.Verdict {
		if owner == "me" {
			return announce.Verdict{Owner: owner, Reason: announce.Announced}
		}
		return announce.Verdict{Owner: owner, Reason: announce.NotOwner}
	}
	for _, c := range []struct{ was, is, want string }{
		{"", "me", "new gained: 1"}, {"other", "me", "moved gained: 1"}, {"dead", "me", "lost gained: 1"},
		{"me", "other", "moved lost: 1"}, {"me", "", "ended lost: 1"},
		{"other", "third", "moved elsewhere: 1"}, {"dead", "third", "lost elsewhere: 1"}, {"other", "", "ended elsewhere: 1"},
		{"", "other", ""}, {"me", "me", ""}, {"other", "other", ""},
	} {
		m := &metrics{changes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "changes"}, []string{"change", "cause"})}
		s := &speaker{log: slog.New(slog.DiscardHandler), metrics: m}
		why := func(v announce.Verdict) announce.Plan {
			return announce.Plan{Why: map[cluster.Key][]announce.Verdict{{}: {v}}}
		}
		old := why(ours(c.was))
		s.explain(announce.View{Alive: cluster.Members{Alive: alive}}, &old, why(ours(c.is)))
		if got := strings.Join(samples(t, m.changes), ", "); got != c.want {
			t.Errorf("from %q to %q: %q, want %q", c.was, c.is, got, c.want)
		}
	}
}

func TestAnnouncedServices(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	plan := &announce.Plan{Why: map[cluster.Key][]announce.Verdict{
		{Namespace: "shop", Name: "both"}: {{Addr: a, Reason: announce.Announced, BGP: &announce.Routed{Reason: announce.Announced}},
			{Addr: a.Next(), Reason: announce.NotOwner, BGP: &announce.Routed{Reason: announce.Announced}}},
		{Namespace: "shop", Name: "other"}: {{Addr: a, Reason: announce.NotOwner}},
	}}
	got := samples(t, announcedServices{func() *announce.Plan { return plan }})
	if want := []string{"shop bgp both: 2", "shop layer2 both: 1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := samples(t, announcedServices{func() *announce.Plan { return nil }}); len(got) > 0 {
		t.Errorf("before the first plan: %q", got)
	}
}
