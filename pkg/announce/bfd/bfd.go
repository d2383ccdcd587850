package bfd

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Peer names a session: whom it is with, and by which way.
type Peer struct {
	Remote netip.Addr // with the zone of its link where it is link-local
	// Local is the address to send from. The zero Addr leaves it to the routes.
	Local    netip.Addr
	Multihop bool   // RFC 5883, port 4784; otherwise RFC 5881, port 3784
	Device   string // link or VRF to send and listen on; empty for any
}

func (p Peer) String() string {
	s := p.Remote.String()
	if p.Device != "" && p.Remote.Zone() == "" {
		s += " on " + p.Device
	}
	return s
}

// Config is how a session is run.
type Config struct {
	// TransmitInterval and ReceiveInterval are what this node would send at and be sent to at, at the shortest; whole microseconds.
	TransmitInterval, ReceiveInterval time.Duration
	// DetectMultiplier is how many packets of this node the peer may miss, 1 or more.
	DetectMultiplier uint8
	// Passive waits for the peer to speak first, RFC 5880 section 6.1.
	Passive bool
	// AdminDown holds the session down and says so, RFC 5880 section 6.8.16: peers are to draw no conclusions about the path.
	AdminDown bool
	// EchoInterval is what echo packets are sent at, at the shortest, where the peer returns them over one hop; 0 for none. While they come back,
	// it is they that find out a loss, after DetectMultiplier of them, and the peer is asked to send control packets no more than once a second.
	EchoInterval time.Duration
	// MinimumTTL is what packets must come in with over several hops. Over one it is 255 always, RFC 5881 section 5.
	MinimumTTL uint8
}

func (c Config) check() error {
	for _, d := range []time.Duration{c.TransmitInterval, c.ReceiveInterval} {
		if d < time.Millisecond || d > time.Hour || d%time.Microsecond != 0 {
			return fmt.Errorf("an interval of %s: give whole microseconds, 1ms to 1h", d)
		}
	}
	if c.DetectMultiplier == 0 {
		return fmt.Errorf("a detect multiplier of 0: give 1 to 255")
	}
	if d := c.EchoInterval; d != 0 && (d < time.Millisecond || d > time.Hour) {
		return fmt.Errorf("an echo interval of %s: give 1ms to 1h, or 0 for none", d)
	}
	return nil
}

// Status is how a session stands.
type Status struct {
	State            State
	Diagnostic       Diagnostic // why it went into that state
	Since            time.Time
	Transitions      uint64 // to and from Up
	RemoteState      State
	RemoteDiagnostic Diagnostic
	// Interval is what packets are sent at before jitter, Detection how long the peer may be silent; 0 before it spoke.
	Interval, Detection time.Duration
	// Echo is what echo packets are sent at before jitter, while they come back; otherwise 0.
	Echo time.Duration
	// Problem says why no packets can be sent, as a clause. Empty if they can.
	Problem string
	Packets *Packets
}

// Packets count those of a session.
type Packets struct {
	Sent, Received, Failed atomic.Uint64
}

// Counters count packets that came in and were of no session, by reason.
type Counters struct {
	Malformed  atomic.Uint64 // they break RFC 5880 section 6.8.6
	TTL        atomic.Uint64 // they came from farther away than the session's peer can be
	Unknown    atomic.Uint64 // no session has that discriminator, or that address
	Unreadable atomic.Uint64 // the socket failed
}

// Engine runs sessions. Set and Have are for any goroutine; what is under the line is the goroutine's in Run alone.
type Engine struct {
	log      *slog.Logger
	changed  func()
	counters *Counters

	mu    sync.Mutex
	want  map[Peer]Config
	waker waker

	have atomic.Pointer[map[Peer]Status]

	// ---
	sessions map[Peer]*held
	ears     map[earKey]*ear
	mirrors  map[mirrorKey]int // packet sockets, for echo
	ports    map[uint16]bool   // source ports in use
	buffers  buffers
}

// New returns an Engine without sessions. Changed is called when what Have returns has changed, from Run's goroutine; it must not block.
func New(log *slog.Logger, counters *Counters, changed func()) (*Engine, error) {
	w, err := newWaker()
	if err != nil {
		return nil, err
	}
	return &Engine{log: log, changed: changed, counters: counters, waker: w, want: map[Peer]Config{},
		sessions: map[Peer]*held{}, ears: map[earKey]*ear{}, mirrors: map[mirrorKey]int{}, ports: map[uint16]bool{}, buffers: newBuffers()}, nil
}

// Set has these sessions from now on. One that is there already and gets other settings is told of them in a Poll Sequence and does not go
// down. One that is not among them any more is held AdminDown until its peer must have heard it, and ends.
func (e *Engine) Set(want map[Peer]Config) error {
	for peer, cfg := range want {
		if err := cfg.check(); err != nil {
			return fmt.Errorf("BFD with %s: %w", peer, err)
		}
	}
	e.mu.Lock()
	e.want = maps.Clone(want)
	e.mu.Unlock()
	e.wake()
	return nil
}

func (e *Engine) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waker.wake()
}

// Have returns the sessions as they stand. The map must not be changed.
func (e *Engine) Have() map[Peer]Status {
	if have := e.have.Load(); have != nil {
		return *have
	}
	return nil
}

// Run runs the sessions until ctx ends, and then ends without a word: peers that are to know must be told by AdminDown before.
func (e *Engine) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, e.wake)
	defer stop()
	defer e.close()
	for ctx.Err() == nil {
		if err := e.wait(time.Now()); err != nil {
			return fmt.Errorf("wait for BFD packets: %w", err)
		}
		e.hear()
		e.look()
		e.adjust(time.Now())
		e.turn(time.Now())
	}
	return nil
}

// wait returns when a packet has come in, something is due, or somebody woke the engine.
func (e *Engine) wait(now time.Time) error {
	fds := []unix.PollFd{{Fd: int32(e.waker.fd), Events: unix.POLLIN}}
	for _, ear := range e.ears {
		fds = append(fds, unix.PollFd{Fd: int32(ear.fd), Events: unix.POLLIN})
	}
	for _, fd := range e.mirrors {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	var timeout *unix.Timespec
	for _, h := range e.sessions {
		at, is := h.next()
		if !is {
			continue
		}
		t := unix.NsecToTimespec(max(0, at.Sub(now).Nanoseconds()))
		if timeout == nil || t.Nano() < timeout.Nano() {
			timeout = &t
		}
	}
	_, err := unix.Ppoll(fds, timeout, nil)
	if err == unix.EINTR {
		return nil
	}
	return err
}
