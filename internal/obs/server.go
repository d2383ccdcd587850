package obs

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns a registry that has the Go runtime's and the process's own metrics.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Server answers /metrics, /healthz and /readyz on Addr, and dumps and Go's profiles under /debug/ on DebugAddr, which should stay
// on loopback: dumps name every Service and node. With Secure it answers /metrics and /debug/ there, and /metrics not on Addr.
type Server struct {
	Addr      string
	DebugAddr string  // "" turns the dumps off
	Secure    *Secure // nil turns it off
	Registry  *prometheus.Registry
	// Ready says why the process is not ready, or nil when it is.
	Ready func() error
	// Dumps are values to show as JSON, by the path below /debug/.
	Dumps map[string]func() any
	// Asks are questions that are answered as JSON, by the path below /debug/; an error is the asker's.
	Asks map[string]func(url.Values) (any, error)
	Log  *slog.Logger
}

// Run answers until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	public := http.NewServeMux()
	if s.Secure == nil {
		s.metrics(public)
	}
	public.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	public.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	failed := make(chan error, 3)
	stops := []func(){s.serve(ctx, s.Addr, public, nil, failed)}
	if s.DebugAddr != "" {
		local := http.NewServeMux()
		s.debug(local)
		stops = append(stops, s.serve(ctx, s.DebugAddr, local, nil, failed))
	}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	if s.Secure != nil {
		config, err := s.Secure.config()
		if err != nil {
			return err
		}
		guarded := http.NewServeMux()
		s.metrics(guarded)
		s.debug(guarded)
		stops = append(stops, s.serve(ctx, s.Secure.Addr, s.Secure.guard(guarded, s.Log), config, failed))
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func (s *Server) metrics(mux *http.ServeMux) {
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}))
}

func (s *Server) debug(mux *http.ServeMux) {
	for path, dump := range s.Dumps {
		mux.HandleFunc("GET /debug/"+path, func(w http.ResponseWriter, _ *http.Request) { s.dump(w, dump()) })
	}
	for path, ask := range s.Asks {
		mux.HandleFunc("GET /debug/"+path, func(w http.ResponseWriter, r *http.Request) {
			answer, err := ask(r.URL.Query())
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			s.dump(w, answer)
		})
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

func (s *Server) dump(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		s.Log.Warn("dump failed", "error", err)
	}
}

// serve starts to answer, over TLS where there is a configuration for it, and returns how to stop.
func (s *Server) serve(ctx context.Context, addr string, h http.Handler, secure *tls.Config, failed chan<- error) (stop func()) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
	go func() {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			failed <- fmt.Errorf("listening on %s (is the port taken? change it by flag): %w", addr, err)
			return
		}
		if secure != nil {
			listener = tls.NewListener(listener, secure)
		}
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("answering on %s: %w", addr, err)
		}
	}()
	return func() { _ = server.Close() }
}
