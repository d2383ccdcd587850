package main

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// localHealth asks the node's kube-proxy whether it forwards to the endpoints that Services of externalTrafficPolicy Local have here, at
// their healthCheckNodePort: it hears of a new endpoint when the speaker does, and takes a moment. Routers are told after it.
type localHealth struct {
	node netip.Addr
	log  *slog.Logger
	poke reconcile.Poke // rung when a Service is ready
	wait proxyWaits
	want *reconcile.Latest[map[cluster.Key]uint16]

	mu    sync.Mutex // guards what follows
	asked map[cluster.Key]uint16
	ready map[cluster.Key]bool
}

func newLocalHealth(node netip.Addr, log *slog.Logger, poke reconcile.Poke) *localHealth {
	return &localHealth{node: node, log: log, poke: poke, wait: proxyWaits{absent: 10 * time.Second, every: 50 * time.Millisecond},
		want: reconcile.NewLatest[map[cluster.Key]uint16](), asked: map[cluster.Key]uint16{}, ready: map[cluster.Key]bool{}}
}

// follow has these Services asked for, by their healthCheckNodePorts: those that have endpoints here. Who was ready and is still among
// them is not asked again.
func (h *localHealth) follow(want map[cluster.Key]uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if maps.Equal(want, h.asked) {
		return
	}
	h.asked = want
	maps.DeleteFunc(h.ready, func(key cluster.Key, _ bool) bool { _, still := want[key]; return !still })
	h.want.Put(want)
}

// isReady reports whether a Service's traffic is known to arrive.
func (h *localHealth) isReady(key cluster.Key) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready[key]
}

// Run asks until ctx ends.
func (h *localHealth) Run(ctx context.Context) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	defer client.CloseIdleConnections()
	pending, since := map[cluster.Key]uint16{}, map[cluster.Key]time.Time{}
	for {
		var again <-chan time.Time
		if len(pending) > 0 {
			again = time.After(h.wait.every)
		}
		select {
		case <-ctx.Done():
			return nil
		case want := <-h.want.C():
			pending = h.unready(want)
			maps.DeleteFunc(since, func(key cluster.Key, _ time.Time) bool { _, still := pending[key]; return !still })
		case <-again:
		}
		for key, port := range pending {
			if _, known := since[key]; !known {
				since[key] = time.Now()
			}
			p := proxyHealth{url: "http://" + netip.AddrPortFrom(h.node, port).String() + "/healthz"}
			err := p.ask(ctx, client)
			waited := time.Since(since[key])
			if err != nil && waited < h.wait.absent {
				continue
			}
			if err != nil {
				h.log.Warn("announcing a Service to routers although kube-proxy does not say that it forwards to its endpoints here", "service", key, "error", err)
			}
			delete(pending, key)
			h.mu.Lock()
			if _, still := h.asked[key]; still {
				h.ready[key] = true
			}
			h.mu.Unlock()
			h.poke.Ring()
		}
	}
}

// unready returns those that are not ready.
func (h *localHealth) unready(want map[cluster.Key]uint16) map[cluster.Key]uint16 {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := map[cluster.Key]uint16{}
	for key, port := range want {
		if !h.ready[key] {
			left[key] = port
		}
	}
	return left
}
