package main

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/l2"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// metrics are the speaker's own. Nothing is labelled by address.
type metrics struct {
	pass      prometheus.Histogram
	announced prometheus.Gauge
	changes   *prometheus.CounterVec
	conflicts prometheus.Counter
	toWire    prometheus.Histogram
	failover  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, s *speaker) *metrics {
	m := &metrics{
		pass: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bellwether_decide_duration_seconds",
			Help: "Time of one pass over all Services.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8)}),
		announced: prometheus.NewGauge(prometheus.GaugeOpts{Name: "bellwether_speaker_announced_addresses",
			Help: "Addresses that this node answers for."}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bellwether_speaker_owner_changes_total",
			Help: "Times that this node took an address, lost one, or saw one move between others, and why."}, []string{"change", "cause"}),
	}
	m.toWire = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bellwether_event_to_wire_seconds",
		Help: "Time from an event until what it changes on layer 2 is carried out.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)})
	m.failover = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bellwether_failover_duration_seconds",
		Help:    "Time from the news that an owner is lost until its address is answered for here, for each address.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 12)})
	for _, change := range []string{"gained", "lost", "elsewhere"} {
		for _, cause := range []string{"new", "moved", "lost", "ended"} {
			m.changes.WithLabelValues(change, cause) // what has not happened is 0, and not unknown
		}
	}
	m.conflicts = prometheus.NewCounter(prometheus.CounterOpts{Name: "bellwether_speaker_address_conflicts_total",
		Help: "Times that another machine was found to have an address of this node."})
	count := func(name, help string, of *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "bellwether_heartbeat_" + name, Help: help},
			func() float64 { return float64(of.Load()) })
	}
	beat := s.heartbeat.Counters()
	r.MustRegister(m.pass, m.announced, m.changes, m.conflicts, m.toWire, m.failover, wire{s.counters}, announcedServices{s.planned.Load}, routerMetrics{s.bgp.Have, s.dropped},
		count("frames_sent_total", "Heartbeat frames sent, on all links.", &beat.Sent),
		count("frames_received_total", "Heartbeat frames received, on all links.", &beat.Received),
		count("accusations_total", "Times that this node found another's link silent.", &beat.Accusations),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bellwether_speaker_conflicting_addresses",
			Help: "Addresses of this node that other machines have too."}, func() float64 { return conflicting(s.l2.Have()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bellwether_heartbeat_silent_links",
			Help: "Links of other nodes that are not heard where they should be."}, func() float64 { return float64(len(s.found().Silent)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bellwether_heartbeat_cut_links",
			Help: "Links of this node on which nobody is heard any more."}, func() float64 { return float64(len(s.found().Cut)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bellwether_speaker_members",
			Help: "Speakers that this one believes to be alive, itself included."}, func() float64 {
			if alive := s.alive.Load(); alive != nil {
				return float64(len(alive.Alive))
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bellwether_speaker_health_score",
			Help: "memberlist's health score of this node: 0 is healthy, 7 the worst."}, func() float64 { return float64(s.members.Health()) }))
	return m
}

func conflicting(have l2.Have) (n float64) {
	for _, state := range have.Addrs {
		if state.Conflict != (cluster.MAC{}) {
			n++
		}
	}
	return n
}

// tookOver counts takeovers by how long they took.
func (m *metrics) tookOver(took []time.Duration) {
	for _, t := range took {
		m.failover.Observe(t.Seconds())
	}
}

// verdict counts a change of owner.
func (m *metrics) verdict(was, is announce.Verdict, alive map[string]cluster.Member) {
	cause := "moved"
	switch {
	case was.Owner == "":
		cause = "new"
	case is.Owner == "":
		cause = "ended"
	case !handsOver(alive, was.Owner):
		cause = "lost"
	}
	switch {
	case was.Owner == is.Owner || was.Owner == "" && is.Reason != announce.Announced:
	case is.Reason == announce.Announced:
		m.changes.WithLabelValues("gained", cause).Inc()
	case was.Reason == announce.Announced:
		m.changes.WithLabelValues("lost", cause).Inc()
	default:
		m.changes.WithLabelValues("elsewhere", cause).Inc()
	}
}

// announcedServices shows what a plan has this node announce of each Service.
type announcedServices struct{ plan func() *announce.Plan }

func (a announcedServices) Describe(ch chan<- *prometheus.Desc) {
	ch <- announcedDesc()
}

func announcedDesc() *prometheus.Desc {
	return prometheus.NewDesc("bellwether_speaker_announced", "Addresses of the Service that this node announces.", []string{"namespace", "service", "protocol"}, nil)
}

func (a announcedServices) Collect(ch chan<- prometheus.Metric) {
	plan := a.plan()
	if plan == nil {
		return
	}
	desc := announcedDesc()
	for key, verdicts := range plan.Why {
		var n [2]float64
		for _, v := range verdicts {
			if v.Reason == announce.Announced {
				n[0]++
			}
			if v.BGP != nil && v.BGP.Reason == announce.Announced {
				n[1]++
			}
		}
		for i, protocol := range []string{"layer2", "bgp"} {
			if n[i] > 0 {
				ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, n[i], key.Namespace, key.Name, protocol)
			}
		}
	}
}

// wire shows the layer 2 counters as metrics.
type wire struct{ counters *l2.Counters }

func (w wire) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(w, ch) }

func (w wire) Collect(ch chan<- prometheus.Metric) {
	for family, c := range map[string]*l2.FamilyCounters{"arp": &w.counters.ARP, "ndp": &w.counters.NDP} {
		for name, v := range map[string]uint64{
			"requests_received": c.Requests.Load(), "responses_sent": c.Replies.Load(), "gratuitous_sent": c.Gratuitous.Load(),
			"malformed_received": c.Malformed.Load(), "dropped": c.Dropped.Load(), "late": c.Late.Load(), "asked": c.Asks.Load(), "claims_heard": c.Claims.Load(),
			"socket_failures": c.Failures.Load(),
		} {
			desc := prometheus.NewDesc("bellwether_layer2_"+name+"_total", "Frames of this protocol, as the name says.", []string{"protocol"}, nil)
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), family)
		}
		below, count, sum := c.Latency.Read()
		desc := prometheus.NewDesc("bellwether_layer2_reply_duration_seconds", "Time from a question's arrival until its answer was sent.", []string{"protocol"}, nil)
		ch <- prometheus.MustNewConstHistogram(desc, count, sum, below, family)
	}
}
