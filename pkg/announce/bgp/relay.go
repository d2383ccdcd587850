package bgp

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"golang.org/x/sys/unix"
)

// relay stands between the gobgp of one session and its router. It dials the router, and passes on what the two say, message by message,
// but for the routes of the router: a speaker needs none, and what gobgp makes of them happens in its own goroutines, where a fault of its
// parser would end the speaker.
type relay struct {
	to       endpoint
	counts   *counters
	changed  func() // rung when progress is another
	listener *net.TCPListener
	end      context.CancelFunc

	retry atomic.Int64           // how long a router may take to answer, and how often it is tried at least, as a time.Duration
	heard atomic.Pointer[agreed] // what the router's last OPEN says
	busy  atomic.Bool            // gobgp and the router have something to say to each other

	mu  sync.Mutex
	own netip.Addr // the address of this node that the router is dialled from
	now progress
}

// progress says how far the connection to a router is.
type progress struct {
	away    bool   // there is none yet
	problem string // why the last attempt failed
}

// newRelay waits for gobgp at a port of the loopback interface.
func newRelay(ctx context.Context, to endpoint, own netip.Addr, counts *counters, changed func()) (*relay, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("make a port for a session: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &relay{to: to, own: own, now: progress{away: true}, counts: counts, changed: changed, listener: l, end: cancel}
	r.heard.Store(&agreed{})
	context.AfterFunc(ctx, func() { _ = l.Close() })
	go r.accept(ctx)
	return r, nil
}

func (r *relay) port() uint16 {
	addr, _ := netip.ParseAddrPort(r.listener.Addr().String())
	return addr.Port()
}

// accept serves one connection of gobgp at a time: a new one ends the one before. What is under way when ctx ends is said to its end.
func (r *relay) accept(ctx context.Context) {
	before := func() {}
	defer func() { time.AfterFunc(parted, before) }()
	for {
		own, err := r.listener.AcceptTCP()
		if ctx.Err() != nil {
			return
		}
		if err != nil { // there are too many open files
			time.Sleep(time.Second)
			continue
		}
		if !ours(own) {
			_ = own.Close() // any process of this node can get here
			continue
		}
		before()
		both := &pair{own: own}
		before = both.abort
		r.busy.Store(true)
		go r.serve(ctx, both)
	}
}

// pair is the two connections of a session.
type pair struct {
	mu      sync.Mutex
	own     *net.TCPConn // to gobgp
	router  *net.TCPConn // nil before it is there
	aborted bool
}

func (p *pair) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.aborted = true
	_ = p.own.Close()
	if p.router != nil {
		_ = p.router.Close()
	}
}

// connect adds the connection to the router.
func (p *pair) connect(router *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.router = router
	if p.aborted {
		_ = router.Close()
	}
}

func (r *relay) serve(ctx context.Context, p *pair) {
	defer r.busy.Store(false)
	defer p.abort()
	from := bufio.NewReaderSize(p.own, 2*longestMessage)
	router := r.reach(ctx, p.own, from)
	if router == nil {
		return
	}
	p.connect(router)
	go func() {
		inbound{relay: r, to: p.own}.run(router)
		_ = p.own.CloseWrite() // gobgp reads what is left, and closes
	}()
	if err := r.outbound(from, router); err != nil { // whatever the router said before it went is still to be read
		_ = router.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, from)
	}
}

// reach connects to the router, however often it takes, until gobgp hangs up or ctx ends. It returns nil then.
func (r *relay) reach(ctx context.Context, own *net.TCPConn, from *bufio.Reader) *net.TCPConn {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if _, err := from.Peek(from.Size()); !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel()
		}
	}()
	defer func() {
		cancel()
		_ = own.SetReadDeadline(time.Now())
		<-watched
		_ = own.SetReadDeadline(time.Time{})
	}()
	r.note(progress{away: true, problem: r.progress().problem})
	for wait := time.Second; ; wait *= 2 {
		most := time.Duration(r.retry.Load())
		addr := r.from(netip.Addr{})
		conn, err := r.to.dial(ctx, addr, max(most, time.Second))
		if err == nil && r.arrive(addr) {
			return conn
		}
		if err == nil {
			_ = conn.Close() // this node has another address towards the router by now
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		wait = max(min(wait, most), time.Second)
		r.note(progress{away: true, problem: err.Error()})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait - rand.N(wait/4)): // jitter, RFC 4271 section 10
		}
	}
}

func (r *relay) progress() progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *relay) note(p progress) {
	r.mu.Lock()
	same := r.now == p
	r.now = p
	r.mu.Unlock()
	if !same {
		r.changed()
	}
}

// from has the router dialled from an address, if it is valid and there is no connection, and returns the one that counts.
func (r *relay) from(own netip.Addr) netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if own.IsValid() && r.now.away {
		r.own = own
	}
	return r.own
}

// arrive notes that there is a connection, unless it is to be from another address by now.
func (r *relay) arrive(from netip.Addr) bool {
	r.mu.Lock()
	is := r.own == from
	if is {
		r.now = progress{}
	}
	r.mu.Unlock()
	r.changed()
	return is
}

// outbound passes on what gobgp says. It returns nil when that has ended, and an error when the router does not take it.
func (r *relay) outbound(from *bufio.Reader, router *net.TCPConn) error {
	to := bufio.NewWriterSize(router, 16*longestMessage)
	hold := 90 * time.Second // RFC 4271 section 10
	for {
		m, err := readMessage(from)
		if err != nil {
			return to.Flush() // gobgp has hung up
		}
		r.counts.sent.count(m)
		if kindOf(m) == bgp.BGP_MSG_OPEN {
			says, _ := agree(m)
			hold = cmp.Or(says.hold, hold)
		}
		_ = router.SetWriteDeadline(time.Now().Add(min(hold, cmp.Or(r.heard.Load().hold, hold))))
		if _, err := to.Write(m); err != nil {
			return err
		}
		if from.Buffered() > 0 {
			continue
		}
		if err := to.Flush(); err != nil {
			return err
		}
	}
}

// ours reports whether the other end of a connection within this node is of this process.
func ours(c *net.TCPConn) bool {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return false
	}
	is := func(a unix.Sockaddr, want net.Addr) bool {
		in4, is := a.(*unix.SockaddrInet4)
		return is && netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)).String() == want.String()
	}
	for _, f := range files {
		fd, err := strconv.Atoi(f.Name())
		if err != nil {
			continue
		}
		near, errNear := unix.Getsockname(fd)
		far, errFar := unix.Getpeername(fd)
		if errNear == nil && errFar == nil && is(near, c.RemoteAddr()) && is(far, c.LocalAddr()) {
			return true
		}
	}
	return false
}
