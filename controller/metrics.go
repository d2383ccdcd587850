package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bellwether-lb/bellwether/pkg/config"
)

// metrics are the controller's own. Nothing is labelled by address or Service.
type metrics struct {
	leading  prometheus.Gauge
	pass     prometheus.Histogram
	writes   *prometheus.CounterVec
	pools    *prometheus.GaugeVec
	used     *prometheus.GaugeVec
	pending  prometheus.Gauge
	problems *prometheus.GaugeVec
	names    map[string]struct{}
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts{Name: "bellwether_controller_leading", Help: "1 while this replica holds the lease and writes."}),
		pass: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bellwether_assign_duration_seconds",
			Help: "Time of one pass over all Services.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8)}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bellwether_service_status_writes_total",
			Help: "Writes of Service statuses by result."}, []string{"result"}),
		pools: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "bellwether_allocator_addresses_total",
			Help: "Addresses that a pool can give."}, []string{"pool", "family"}),
		used: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "bellwether_allocator_addresses_in_use_total",
			Help: "Addresses of a pool that Services hold."}, []string{"pool", "family"}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{Name: "bellwether_allocator_services_pending", Help: "Services that hold no address."}),
		problems: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "bellwether_config_problems",
			Help: "What is wrong with Bellwether's objects, by kind."}, []string{"kind"}),
		names: map[string]struct{}{},
	}
	for _, result := range []string{"ok", "conflict", "error"} {
		m.writes.WithLabelValues(result) // what has not happened is 0, and not unknown
	}
	r.MustRegister(m.leading, m.pass, m.writes, m.pools, m.used, m.pending, m.problems)
	return m
}

// observe projects what a pass decided onto the gauges.
func (m *metrics) observe(world *snapshot, problems []config.Problem) {
	m.problems.Reset()
	for _, kind := range config.Kinds() {
		m.problems.WithLabelValues(kind) // none is 0, and not unknown
	}
	for _, p := range problems {
		m.problems.WithLabelValues(p.Kind).Inc()
	}
	pending := 0
	for _, o := range world.Assignments.Services {
		if len(o.Addrs) == 0 {
			pending++
		}
	}
	m.pending.Set(float64(pending))
	for name := range m.names {
		if _, exists := world.Assignments.Pools[name]; !exists {
			m.pools.DeletePartialMatch(prometheus.Labels{"pool": name})
			m.used.DeletePartialMatch(prometheus.Labels{"pool": name})
			delete(m.names, name)
		}
	}
	for name, usage := range world.Assignments.Pools {
		m.names[name] = struct{}{}
		m.pools.WithLabelValues(name, "ipv4").Set(float64(usage.V4.Total))
		m.pools.WithLabelValues(name, "ipv6").Set(float64(usage.V6.Total))
		m.used.WithLabelValues(name, "ipv4").Set(float64(usage.V4.Assigned))
		m.used.WithLabelValues(name, "ipv6").Set(float64(usage.V6.Assigned))
	}
}
