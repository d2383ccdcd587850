package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// proxyHealth waits, when a speaker starts, for the kube-proxy of its node: an address that is announced before would lead to a node
// that forwards nothing yet. Once it has been healthy, or there seems to be none, it is not asked any more: the rules that a kube-proxy
// made outlive it.
type proxyHealth struct {
	url  string // empty: not waited for
	log  *slog.Logger
	poke reconcile.Poke
	wait proxyWaits
	over atomic.Bool
}

// proxyWaits are how long a kube-proxy is waited for that is there and not healthy, and how long one of which there is no sign.
type proxyWaits struct{ unhealthy, absent, every time.Duration }

func newProxyHealth(node netip.Addr, port uint, log *slog.Logger, poke reconcile.Poke) *proxyHealth {
	p := &proxyHealth{log: log, poke: poke, wait: proxyWaits{unhealthy: 30 * time.Second, absent: 10 * time.Second, every: 200 * time.Millisecond}}
	if port > 0 {
		p.url = "http://" + netip.AddrPortFrom(node, uint16(port)).String() + "/healthz"
	}
	p.over.Store(port == 0)
	return p
}

// Run asks until the wait is over.
func (p *proxyHealth) Run(ctx context.Context) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	defer client.CloseIdleConnections()
	for began := time.Now(); !p.over.Load(); {
		err := p.ask(ctx, client)
		bound := p.wait.unhealthy
		if errors.Is(err, syscall.ECONNREFUSED) {
			bound = p.wait.absent
		}
		switch waited := time.Since(began); {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			p.log.Info("the kube-proxy of this node is healthy", "waited", waited.Round(time.Millisecond))
			p.end()
		case waited >= bound:
			p.log.Warn("going on without a healthy kube-proxy on this node; set --kube-proxy-healthz-port=0 if there is none", "url", p.url,
				"error", err, "waited", waited.Round(time.Millisecond))
			p.end()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(p.wait.every):
		}
	}
	return nil
}

func (p *proxyHealth) end() {
	p.over.Store(true)
	p.poke.Ring()
}

// ask returns nil if the kube-proxy says that it is healthy.
func (p *proxyHealth) ask(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}
