package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

func TestKubeProxyIsWaitedFor(t *testing.T) {
	soon := proxyWaits{unhealthy: 300 * time.Millisecond, absent: 100 * time.Millisecond, every: 5 * time.Millisecond, later: 5 * time.Millisecond}
	long := proxyWaits{unhealthy: time.Hour, absent: time.Hour, every: 5 * time.Millisecond, later: 5 * time.Millisecond}
	var healthy atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	start := func(url string, waits proxyWaits) (p *proxyHealth, said *syncBuilder) {
		said = &syncBuilder{}
		p = newProxyHealth(netip.MustParseAddr("127.0.0.1"), 1, slog.New(slog.NewTextHandler(said, nil)), reconcile.NewPoke())
		p.url, p.wait = url, waits
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return p, said
	}
	await := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited for it %s", what)
			}
		}
	}
	says := func(p *proxyHealth, status metav1.ConditionStatus) func() bool {
		return func() bool {
			c, is := p.condition()
			return is && c.Status == status
		}
	}

	p, said := start(server.URL, long)
	await("to be said to be unhealthy", says(p, metav1.ConditionFalse))
	if p.over.Load() {
		t.Error("it is unhealthy, and not waited for")
	}
	healthy.Store(true)
	await("not to be waited for when it is healthy", p.over.Load)
	await("to be said to be healthy", says(p, metav1.ConditionTrue))
	if strings.Contains(said.String(), "WARN") {
		t.Errorf("it is healthy: logged %s", said)
	}
	healthy.Store(false)
	await("to be said to be unhealthy again", says(p, metav1.ConditionFalse))

	p, said = start(server.URL, soon)
	await("not to be waited for any more", p.over.Load)
	if !strings.Contains(said.String(), "503") {
		t.Errorf("it stays unhealthy: logged %s", said)
	}
	p, said = start("http://127.0.0.1:1/healthz", proxyWaits{unhealthy: time.Hour, absent: soon.absent, every: soon.every, later: soon.later})
	await("not to be waited for, as there is none", p.over.Load)
	await("not to be known", says(p, metav1.ConditionUnknown))
	if !strings.Contains(said.String(), "refused") {
		t.Errorf("there is none: logged %s", said)
	}
	p = newProxyHealth(netip.MustParseAddr("127.0.0.1"), 0, slog.New(slog.DiscardHandler), reconcile.NewPoke())
	if _, is := p.condition(); !p.over.Load() || p.Run(t.Context()) != nil || is {
		t.Error("it is waited for, or said something of, though it should not be")
	}
}

// syncBuilder is a strings.Builder for two goroutines.
type syncBuilder struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
