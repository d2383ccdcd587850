// Command webserver answers HTTP with who it is and whom it saw, so that a demo
// or a scenario can tell which backend a connection reached and whether the
// client's address survived the way there.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "webserver:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("asking for the hostname: %w", err)
	}
	flags := flag.NewFlagSet("webserver", flag.ContinueOnError)
	listen := flags.String("listen", ":8080", "addresses to listen on, comma separated; without a host it is IPv4 and IPv6")
	name := flags.String("name", cmp.Or(os.Getenv("POD_NAME"), hostname), "name to answer with (default: $POD_NAME, else the hostname)")
	node := flags.String("node", os.Getenv("NODE_NAME"), "node to answer with (default: $NODE_NAME)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return serve(ctx, strings.Split(*listen, ","), routes(identity{hostname, *name, *node}), out)
}

// identity is what the server says about itself.
type identity struct {
	hostname, name, node string
}

// routes answers / with one "key: value" a line, and /healthz with ok.
func routes(id identity) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		var local net.Addr = &net.TCPAddr{}
		if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			local = a
		}
		// A failed write means that the client is gone; there is nobody to tell.
		_, _ = fmt.Fprintf(w, "name: %s\nnode: %s\nhostname: %s\nclient: %s\nserver: %s\nforwarded-for: %s\n",
			id.name, id.node, id.hostname, r.RemoteAddr, local, r.Header.Get("X-Forwarded-For"))
	})
	return mux
}

// serve listens on every address before it answers on any, and returns once all
// have shut down or one has failed.
func serve(ctx context.Context, addrs []string, routes http.Handler, out io.Writer) error {
	server := &http.Server{Handler: routes, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, len(addrs))
	var listeners []net.Listener
	for _, addr := range addrs {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return errors.Join(fmt.Errorf("listening on %s: %w", addr, err), closeAll(listeners))
		}
		listeners = append(listeners, l)
	}
	for _, l := range listeners {
		_, _ = fmt.Fprintln(out, "listening on", l.Addr())
		go func() { failed <- server.Serve(l) }()
	}
	select {
	case err := <-failed:
		return errors.Join(fmt.Errorf("serving: %w", err), server.Close())
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return fmt.Errorf("shutting down: %w", err)
	}
	return nil
}

func closeAll(listeners []net.Listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
