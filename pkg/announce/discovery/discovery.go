package discovery

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/mdlayher/ndp"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// Found is what is known of a link.
type Found struct {
	// Router is its router's link-local address, with the link as its zone; invalid while there is none.
	Router netip.Addr
	// Own is this node's link-local address on the link, without a zone.
	Own netip.Addr
	// Problem says why there is no router, as a clause. Empty while there is one.
	Problem string
}

// Engine looks for routers.
type Engine struct {
	log     *slog.Logger
	changed func()
	open    func(link string) (*ndp.Conn, *net.Interface, netip.Addr, error)
	want    *reconcile.Latest[[]string]

	mu   sync.Mutex
	have map[string]Found
}

// New returns an Engine that looks on no link. It calls changed when what Have returns has changed; changed must not wait.
func New(log *slog.Logger, changed func()) *Engine {
	return &Engine{log: log, changed: changed, open: open, want: reconcile.NewLatest[[]string](), have: map[string]Found{}}
}

// Set has these links looked on, and no others. While Run runs, this node says on them that it is there.
func (e *Engine) Set(links []string) { e.want.Put(slices.Clone(links)) }

// Have returns what is known of every link that is looked on.
func (e *Engine) Have() map[string]Found {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.have)
}

// Run looks until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	searches := map[string]context.CancelFunc{}
	for {
		var links []string
		select {
		case <-ctx.Done():
		case links = <-e.want.C():
		}
		for link, stop := range searches {
			if !slices.Contains(links, link) {
				stop()
				delete(searches, link)
				e.forget(link)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		for _, link := range links {
			if _, is := searches[link]; is {
				continue
			}
			searching, stop := context.WithCancel(ctx)
			searches[link] = stop
			s := &search{link: link, log: e.log.With("link", link), open: e.open, say: func(f Found) { e.found(searching, link, f) }}
			tasks.Go(func() { s.run(searching) })
		}
	}
}

func (e *Engine) forget(link string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.have, link)
}

// found takes what a search says, unless it has been stopped.
func (e *Engine) found(searching context.Context, link string, f Found) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if searching.Err() != nil || e.have[link] == f {
		return
	}
	e.have[link] = f
	e.changed()
}
