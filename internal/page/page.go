// Package page is the live status page of the controller: read-only, without assets from elsewhere, and off unless it is asked for.
package page

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

//go:embed index.html page.js page.css
var files embed.FS

// Page answers on an address.
type Page struct {
	addr     string
	client   *kube.Client
	reading  kube.Reading
	log      *slog.Logger
	speakers *kube.Source[kube.Said]
	poke     reconcile.Poke
	timeline *timeline

	mu    sync.Mutex // of what was read last, so that many who look cost no more than one
	world *explain.World
	at    time.Time
}

// New prepares a page; it sends and answers nothing yet.
func New(addr string, client *kube.Client, reading kube.Reading, log *slog.Logger) (*Page, error) {
	p := &Page{addr: addr, client: client, reading: reading, log: log, poke: reconcile.NewPoke(), timeline: newTimeline()}
	var err error
	p.speakers, err = kube.NewSource(client.Speakers, &v1beta1.Speaker{}, kube.Speaker, p.poke)
	return p, err
}

// Run answers until ctx ends.
func (p *Page) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.speakers.Run(ctx) })
	group.Go(func() error { return p.follow(ctx) })
	group.Go(func() error { return p.serve(ctx) })
	return group.Wait()
}

// follow keeps the timeline.
func (p *Page) follow(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.poke:
		}
		if !p.speakers.Synced() {
			continue
		}
		var said []kube.Said
		for _, r := range p.speakers.Records() {
			said = append(said, r.Value)
		}
		p.timeline.see(said, time.Now())
	}
}

func (p *Page) serve(ctx context.Context) error {
	mux := http.NewServeMux()
	for path, name := range map[string]string{"GET /{$}": "index.html", "GET /page.js": "page.js", "GET /page.css": "page.css"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, name) })
	}
	mux.HandleFunc("GET /events", p.events)
	mux.HandleFunc("GET /services", func(w http.ResponseWriter, r *http.Request) {
		p.answer(w, r, func(world *explain.World) any { return world.ServiceStates() })
	})
	mux.HandleFunc("GET /explain", func(w http.ResponseWriter, r *http.Request) {
		key := cluster.Key{Namespace: r.FormValue("namespace"), Name: r.FormValue("name")}
		p.answer(w, r, func(world *explain.World) any { return world.Explain(key) })
	})
	server := &http.Server{Handler: guarded(mux), ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.addr)
	if err != nil {
		return fmt.Errorf("listening on %s for the status page (is the port taken? change it with --status-listen): %w", p.addr, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	p.log.Info("the status page is served", "address", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the status page: %w", err)
	}
	return nil
}

// guarded keeps browsers from anything but what is here.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// fresh is how old what is shown may be.
const fresh = 2 * time.Second

// read returns the cluster as it was a moment ago.
func (p *Page) read(ctx context.Context) (*explain.World, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.world != nil && time.Since(p.at) < fresh {
		return p.world, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	world, err := p.client.ReadWorld(ctx, p.reading)
	if err == nil {
		p.world, p.at = world, time.Now()
	}
	return world, err
}

func (p *Page) answer(w http.ResponseWriter, r *http.Request, of func(*explain.World) any) {
	world, err := p.read(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(of(world)); err != nil {
		p.log.Debug("an answer of the status page was not sent", "error", err)
	}
}

// shown is what the page gets whenever something has changed.
type shown struct {
	explain.Overview

	Timeline []Entry `json:"timeline"`
	Error    string  `json:"error,omitempty"` // why nothing new is known
}

// timelineShown is how much of the timeline a page shows.
const timelineShown = 50

// events sends what is shown, and again when it is another (Server-sent events).
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	tick := time.NewTicker(fresh)
	defer tick.Stop()
	last := ""
	for {
		text := p.show(r.Context())
		if text == last {
			text = ": nothing new" // tells that somebody is there
		} else {
			last = text
		}
		if _, err := fmt.Fprintf(w, "%s\n\n", text); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Page) show(ctx context.Context) string {
	now := shown{Timeline: p.timeline.newest(timelineShown)}
	if world, err := p.read(ctx); err != nil {
		now.Error = err.Error()
	} else {
		now.Overview = world.Overview()
	}
	const troublesAtMost = 100
	now.Troubles = now.Troubles[:min(len(now.Troubles), troublesAtMost)]
	text, err := json.Marshal(now)
	if err != nil {
		return ": " + err.Error()
	}
	return "data: " + string(text)
}
