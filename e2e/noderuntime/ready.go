package noderuntime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// containerdReady is nil once containerd takes connections: it loads all its
// plugins before.
func (n Node) containerdReady(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", n.socket())
	if err != nil {
		return fmt.Errorf("node %s: connecting to containerd: %w", n.Name, err)
	}
	return conn.Close()
}

// kubeletReady is nil once the kubelet says that it is healthy. Whether the node
// is ready is for the API server to say, later.
func (n Node) kubeletReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10248/healthz", http.NoBody)
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: n.dial}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("node %s: asking the kubelet for its health: %w", n.Name, err)
	}
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("node %s: asking the kubelet for its health: %w", n.Name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("node %s: the kubelet says %s", n.Name, resp.Status)
	}
	return nil
}

// dial connects from inside the node's network namespace. The address must be a
// literal: looking a name up would leave the thread that is inside.
func (n Node) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The goroutine ends locked to its thread, so the runtime ends the
		// thread too and nobody else ever runs inside the namespace.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot be ended, and others would take its
			// namespace for the process's. While this one holds it, the next
			// goroutine gets another.
			defer runtime.UnlockOSThread()
			conn, err := n.dial(ctx, network, addr)
			done <- result{conn, err}
			return
		}
		conn, err := dialInside(ctx, n.NetNS, network, addr)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func dialInside(ctx context.Context, netns, network, addr string) (_ net.Conn, err error) {
	file, err := os.Open(netns)
	if err != nil {
		return nil, fmt.Errorf("opening the network namespace: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("entering %s: %w", netns, err)
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}
