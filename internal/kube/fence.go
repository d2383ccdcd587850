package kube

import (
	"context"
	"errors"
	"net"
	"time"

	"k8s.io/client-go/rest"
)

// Fenced returns a client of the same API server whose requests leave the process only while held says so. The question is
// put at the last moment, when bytes go to the kernel: a replica that is frozen in the middle of a write, and thawed when
// another is the writer, must not finish it.
func (c *Client) Fenced(held func() bool) (*Client, error) {
	cfg := rest.CopyConfig(c.Config)
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: RequestTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return fencedConn{Conn: conn, held: held}, nil
	}
	return NewClient(cfg)
}

var errFenced = errors.New("not sent: another replica may hold the lease by now")

type fencedConn struct {
	net.Conn
	held func() bool
}

// Write refuses to send without the lease; the transport then closes the connection.
func (f fencedConn) Write(b []byte) (int, error) {
	if !f.held() {
		return 0, errFenced
	}
	return f.Conn.Write(b)
}
