package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bellwether-lb/bellwether/pkg/announce/bfd"
	"github.com/bellwether-lb/bellwether/pkg/announce/bgp"
)

// routerMetrics collects what the sessions with routers count when somebody asks.
type routerMetrics struct {
	have    func() map[string]bgp.State
	dropped *bfd.Counters
}

func routerDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bellwether_"+name, help, labels, nil)
}

// Describe describes nothing: which peers there are is not known before they are asked for.
func (routerMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends one sample for each session and count.
func (m routerMetrics) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	truth := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	for peer, s := range m.have() {
		send(routerDesc("bgp_session_up", "1 where the BGP session with the peer is established.", "peer"), prometheus.GaugeValue, truth(s.State == bgp.Established), peer)
		send(routerDesc("bgp_announced_prefixes", "Routes that the peer has been told.", "peer"), prometheus.GaugeValue, float64(s.Advertised), peer)
		send(routerDesc("bgp_session_losses_total", "Times that an established session ended.", "peer"), prometheus.CounterValue, float64(s.Flaps), peer)
		messages := routerDesc("bgp_messages_total", "BGP messages to and from the peer, by type.", "peer", "direction", "type")
		for direction, types := range s.Messages() {
			for name, n := range types {
				send(messages, prometheus.CounterValue, float64(n), peer, direction, name)
			}
		}
		if s.BFD == nil {
			continue
		}
		send(routerDesc("bfd_session_up", "1 where the BFD session with the peer is Up.", "peer"), prometheus.GaugeValue, truth(s.BFD.State == bfd.Up), peer)
		send(routerDesc("bfd_transitions_total", "Times that the BFD session went to Up, or from it.", "peer"), prometheus.CounterValue, float64(s.BFD.Transitions), peer)
		packets := routerDesc("bfd_packets_total", "BFD packets of the session.", "peer", "direction")
		if p := s.BFD.Packets; p != nil {
			send(packets, prometheus.CounterValue, float64(p.Sent.Load()), peer, "sent")
			send(packets, prometheus.CounterValue, float64(p.Received.Load()), peer, "received")
			send(packets, prometheus.CounterValue, float64(p.Failed.Load()), peer, "failed")
		}
	}
	drops := routerDesc("bfd_dropped_packets_total", "BFD packets that were of no session.", "reason")
	send(drops, prometheus.CounterValue, float64(m.dropped.Malformed.Load()), "malformed")
	send(drops, prometheus.CounterValue, float64(m.dropped.TTL.Load()), "ttl")
	send(drops, prometheus.CounterValue, float64(m.dropped.Unknown.Load()), "unknown")
	send(drops, prometheus.CounterValue, float64(m.dropped.Unreadable.Load()), "unreadable")
}
