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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// proxyHealth asks the kube-proxy of this node how it is. When a speaker starts, it waits for it: an address that is announced before
// would lead to a node that forwards nothing yet. Once it has been healthy, or there seems to be none, it is only reported on: the rules
// that a kube-proxy made outlive it.
type proxyHealth struct {
	url  string // empty: not asked
	log  *slog.Logger
	poke reconcile.Poke
	wait proxyWaits
	over atomic.Bool
	said atomic.Pointer[proxySaid]
}

// proxyWaits are how long a kube-proxy is waited for that is there and not healthy, how long one of which there is no sign, and how often it
// is asked, and asked later.
type proxyWaits struct{ unhealthy, absent, every, later time.Duration }

// proxySaid is what is known of a kube-proxy.
type proxySaid struct {
	ever    bool // it has answered once
	healthy bool
	failed  int    // how often in a row it was not healthy
	why     string // it is not healthy
}

func newProxyHealth(node netip.Addr, port uint, log *slog.Logger, poke reconcile.Poke) *proxyHealth {
	p := &proxyHealth{log: log, poke: poke,
		wait: proxyWaits{unhealthy: 30 * time.Second, absent: 10 * time.Second, every: 200 * time.Millisecond, later: 10 * time.Second}}
	if port > 0 {
		p.url = "http://" + netip.AddrPortFrom(node, uint16(port)).String() + "/healthz"
	}
	p.over.Store(port == 0)
	return p
}

// Run asks until ctx ends.
func (p *proxyHealth) Run(ctx context.Context) error {
	if p.url == "" {
		return nil
	}
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	defer client.CloseIdleConnections()
	for began := time.Now(); ; {
		err := p.ask(ctx, client)
		if ctx.Err() != nil {
			return nil
		}
		p.hear(err)
		every := p.wait.every
		if p.over.Load() {
			every = p.wait.later
		} else {
			p.await(err, time.Since(began))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// await ends the wait if the kube-proxy is healthy, or has been waited for for long.
func (p *proxyHealth) await(err error, waited time.Duration) {
	bound := p.wait.unhealthy
	if errors.Is(err, syscall.ECONNREFUSED) {
		bound = p.wait.absent
	}
	switch {
	case err == nil:
		p.log.Info("the kube-proxy of this node is healthy", "waited", waited.Round(time.Millisecond))
	case waited >= bound:
		p.log.Warn("going on without a healthy kube-proxy on this node; set --kube-proxy-healthz-port=0 if there is none", "url", p.url,
			"error", err, "waited", waited.Round(time.Millisecond))
	default:
		return
	}
	p.over.Store(true)
	p.poke.Ring()
}

// hear takes in an answer, or that there was none.
func (p *proxyHealth) hear(err error) {
	var was, is proxySaid
	if said := p.said.Load(); said != nil {
		was = *said
	}
	is = proxySaid{ever: was.ever || !errors.Is(err, syscall.ECONNREFUSED), healthy: err == nil}
	if err != nil {
		is.failed, is.why = was.failed+1, err.Error()
	}
	p.said.Store(&is)
	if was.healthy != is.healthy || is.failed == unhealthyAfter {
		p.poke.Ring()
	}
}

// unhealthyAfter is how often in a row a kube-proxy must not be healthy for that to be said.
const unhealthyAfter = 2

// condition is the Speaker's about it; is is false where nothing is known.
func (p *proxyHealth) condition() (c metav1.Condition, is bool) {
	said := p.said.Load()
	if said == nil {
		return c, false
	}
	c = metav1.Condition{Type: v1beta1.ConditionKubeProxyHealthy, Status: metav1.ConditionTrue, Reason: "Healthy", Message: "it says that it is healthy"}
	switch {
	case said.failed < unhealthyAfter:
	case said.ever:
		c.Status, c.Reason = metav1.ConditionFalse, "Unhealthy"
		c.Message = "the kube-proxy of this node is not healthy, and what has changed since is not forwarded: " + said.why
	default:
		c.Status, c.Reason = metav1.ConditionUnknown, "NotThere"
		c.Message = "nothing answers on " + p.url + ": set --kube-proxy-healthz-port if there is a kube-proxy, or to 0 if there is none"
	}
	return c, true
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
