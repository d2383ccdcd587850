package obs

import (
	"context"
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
// on loopback: dumps name every Service and node.
type Server struct {
	Addr      string
	DebugAddr string // "" turns the dumps off
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
	public.Handle("GET /metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}))
	public.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	public.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	debug := http.NewServeMux()
	for path, dump := range s.Dumps {
		debug.HandleFunc("GET /debug/"+path, func(w http.ResponseWriter, _ *http.Request) { s.dump(w, dump()) })
	}
	for path, ask := range s.Asks {
		debug.HandleFunc("GET /debug/"+path, func(w http.ResponseWriter, r *http.Request) {
			answer, err := ask(r.URL.Query())
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			s.dump(w, answer)
		})
	}
	debug.HandleFunc("GET /debug/pprof/", pprof.Index)
	debug.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	debug.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	failed := make(chan error, 2)
	stops := []func(){s.serve(ctx, s.Addr, public, failed)}
	if s.DebugAddr != "" {
		stops = append(stops, s.serve(ctx, s.DebugAddr, debug, failed))
	}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func (s *Server) dump(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		s.Log.Warn("dump failed", "error", err)
	}
}

// serve starts to answer and returns how to stop.
func (s *Server) serve(ctx context.Context, addr string, h http.Handler, failed chan<- error) (stop func()) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			failed <- fmt.Errorf("listening on %s (is the port taken? change it by flag): %w", addr, err)
			return
		}
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("answering on %s: %w", addr, err)
		}
	}()
	return func() { _ = server.Close() }
}
