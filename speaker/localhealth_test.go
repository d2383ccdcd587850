package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// asking runs a localHealth that asks a proxy until the test ends.
func asking(t *testing.T, proxy netip.Addr, wait proxyWaits) (*localHealth, reconcile.Poke) {
	t.Helper()
	poke := reconcile.NewPoke()
	h := newLocalHealth(proxy, slog.New(slog.DiscardHandler), poke)
	h.wait = wait
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h, poke
}

func TestAServiceIsReadyWhenKubeProxySaysSo(t *testing.T) {
	var healthy atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(proxy.Close)
	at := netip.MustParseAddrPort(proxy.Listener.Addr().String())
	key := cluster.Key{Namespace: "ns", Name: "web"}

	h, poke := asking(t, at.Addr(), proxyWaits{absent: time.Hour, every: time.Millisecond})
	h.follow(map[cluster.Key]uint16{key: at.Port()})
	time.Sleep(50 * time.Millisecond)
	if h.isReady(key) {
		t.Fatal("it is ready before kube-proxy says so")
	}
	healthy.Store(true)
	<-poke
	if !h.isReady(key) {
		t.Fatal("it is not ready though kube-proxy says so")
	}
	h.follow(map[cluster.Key]uint16{})
	if h.isReady(key) {
		t.Error("it is ready after its endpoint has gone")
	}

	healthy.Store(false)
	h, poke = asking(t, at.Addr(), proxyWaits{every: time.Millisecond})
	h.follow(map[cluster.Key]uint16{key: at.Port()})
	<-poke
	if !h.isReady(key) {
		t.Error("a kube-proxy that never says so is waited for without end")
	}
}
