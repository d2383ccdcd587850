package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

func TestKubeProxyIsWaitedFor(t *testing.T) {
	soon := proxyWaits{unhealthy: 300 * time.Millisecond, absent: 100 * time.Millisecond, every: 5 * time.Millisecond}
	long := proxyWaits{unhealthy: time.Hour, absent: time.Hour, every: 5 * time.Millisecond}
	var healthy atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	start := func(url string, waits proxyWaits) (p *proxyHealth, said *strings.Builder, done chan error) {
		said, done = &strings.Builder{}, make(chan error, 1)
		p = newProxyHealth(netip.MustParseAddr("127.0.0.1"), 1, slog.New(slog.NewTextHandler(said, nil)), reconcile.NewPoke())
		p.url, p.wait = url, waits
		go func() { done <- p.Run(t.Context()) }()
		return p, said, done
	}

	p, said, done := start(server.URL, long)
	time.Sleep(50 * time.Millisecond)
	if p.over.Load() {
		t.Error("it is unhealthy, and not waited for")
	}
	healthy.Store(true)
	if err := <-done; err != nil || !p.over.Load() || strings.Contains(said.String(), "WARN") {
		t.Errorf("it is healthy: %v, logged %s", err, said)
	}
	healthy.Store(false)

	p, said, done = start(server.URL, soon)
	if err := <-done; err != nil || !p.over.Load() || !strings.Contains(said.String(), "503") {
		t.Errorf("it stays unhealthy: %v, logged %s", err, said)
	}
	p, said, done = start("http://127.0.0.1:1/healthz", proxyWaits{unhealthy: time.Hour, absent: soon.absent, every: soon.every})
	if err := <-done; err != nil || !p.over.Load() || !strings.Contains(said.String(), "refused") {
		t.Errorf("there is none: %v, logged %s", err, said)
	}
	if p := newProxyHealth(netip.MustParseAddr("127.0.0.1"), 0, slog.New(slog.DiscardHandler), reconcile.NewPoke()); !p.over.Load() || p.Run(t.Context()) != nil {
		t.Error("it is waited for though it should not be")
	}
}
