package l2

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Config is what an Announcer is made from. The zero value of every field means its default.
type Config struct {
	Log *slog.Logger // default: discard
	// Open opens a link's socket for one family. Default: PacketOpener(Log).
	Open    Opener
	Timings Timings
	// Seed makes the jitter of this node differ from that of the others.
	Seed uint64
	// Counters is counted into, by the owner and the readers; reading it is safe at any time.
	Counters *Counters
	// Changed is rung after Have has changed, whatever changed it.
	Changed reconcile.Poke
}

// Timings are the delays and rates of announcing.
type Timings struct {
	// Burst holds the gaps between the announcements that follow a gain: len(Burst)+1 of them are made. Each gap is
	// jittered by a quarter. Default: 100 ms, 1 s.
	Burst []time.Duration
	// Refresh is the time between later announcements of one address, jittered by a quarter. Default: 60 s.
	Refresh time.Duration
	// FirstRate and RepeatRate cap the frames per second on one link, over all addresses, of first announcements and of
	// all later ones. An IPv4 announcement takes two frames. Defaults: 4000 and 1000.
	FirstRate, RepeatRate int
	// YieldBound ends a yield that nobody has taken over. Default: 3 s.
	YieldBound time.Duration
	// YieldRecent is how old a foreign claim may be, when a yield begins, to end it at once. Default: 2 s.
	YieldRecent time.Duration
	// AskGap is the time after each of the Asks questions that are put before an address is taken from a node which is
	// believed dead, and AskAgain that time once somebody has answered. Defaults: 15 ms, 2, 250 ms.
	AskGap, AskAgain time.Duration
	Asks             int
	// ProbeGap is the time after each of the Probes questions that are put about an address which is new to the segment, and
	// DoubtAgain the time to the next round while another station has the address. Defaults: 50 ms, 3, 10 s.
	ProbeGap, DoubtAgain time.Duration
	Probes               int
	// Defend is the shortest time between two defences of one address (RFC 5227 2.4). Default: 1 s.
	Defend time.Duration
	// ReopenMin and ReopenMax bound the backoff after a socket failed. Defaults: 100 ms and 10 s.
	ReopenMin, ReopenMax time.Duration
}

// withDefaults fills in what was left zero.
func (t Timings) withDefaults() Timings {
	if t.Burst == nil {
		t.Burst = []time.Duration{100 * time.Millisecond, time.Second}
	}
	or := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	or(&t.Refresh, 60*time.Second)
	or(&t.YieldBound, 3*time.Second)
	or(&t.YieldRecent, 2*time.Second)
	or(&t.AskGap, 15*time.Millisecond)
	or(&t.AskAgain, 250*time.Millisecond)
	or(&t.ProbeGap, 50*time.Millisecond)
	or(&t.DoubtAgain, 10*time.Second)
	or(&t.Defend, time.Second)
	or(&t.ReopenMin, 100*time.Millisecond)
	or(&t.ReopenMax, 10*time.Second)
	if t.FirstRate <= 0 {
		t.FirstRate = 4000
	}
	if t.Asks <= 0 {
		t.Asks = 2
	}
	if t.Probes <= 0 {
		t.Probes = 3
	}
	if t.RepeatRate <= 0 {
		t.RepeatRate = 1000
	}
	return t
}

// Counters count what happened on the wire, by protocol.
type Counters struct {
	ARP, NDP FamilyCounters
}

// FamilyCounters count for one protocol, over all links.
type FamilyCounters struct {
	Requests   atomic.Uint64 // valid requests for an address that is answered
	Replies    atomic.Uint64 // replies sent to them
	Gratuitous atomic.Uint64 // announcement frames sent
	Malformed  atomic.Uint64 // frames that break their RFC
	Late       atomic.Uint64 // requests that were read too late to be answered, or were put to the owner before
	Dropped    atomic.Uint64 // replies and announcement frames that the kernel did not take
	Asks       atomic.Uint64 // questions put about addresses that are announced here, or should be
	Claims     atomic.Uint64 // frames in which somebody else claims an address that is answered
	Failures   atomic.Uint64 // sockets that failed and were closed
	Latency    Latencies     // from a request's arrival in the kernel until the reply was sent
}

func (c *Counters) of(f cluster.Family) *FamilyCounters {
	if f == cluster.IPv4 {
		return &c.ARP
	}
	return &c.NDP
}

// Port is a socket on one link that carries whole Ethernet frames of one family.
type Port interface {
	// Read fills buf with one received frame. It blocks, and fails once the port is closed. One goroutine reads.
	Read(buf []byte) (int, error)
	// Received returns when the network received the frame that Read returned last. Same caller as Read.
	Received() time.Time
	// More reports whether another frame waits to be read. Same caller as Read.
	More() bool
	// Reply sends a frame on behalf of the goroutine that reads: it does not allocate and must not be called by any
	// other.
	Reply(frame []byte) error
	// Send sends a frame, and returns when it left, by the clock of Received. Any goroutine may call it, except concurrently with
	// itself.
	Send(frame []byte) (left time.Time, err error)
	// Only makes Read return what asks for, or claims, one of these addresses; it may return more, and should return little more if
	// exactly is set, which may take some time. A port that has just been opened returns nothing. Same caller as Send.
	Only(addrs []netip.Addr, exactly bool) error
	// Groups makes the link receive exactly these IPv6 multicast groups for this port. Only for IPv6; same caller as
	// Send.
	Groups(want []netip.Addr) error
	// Close ends Read. It may take as long as the kernel needs to let go of the socket.
	Close() error
}

// Opener opens a Port. It is called by the goroutine that runs the Announcer.
type Opener func(link cluster.Link, family cluster.Family) (Port, error)

// Have is what an Announcer does at one instant. It is immutable.
type Have struct {
	// Addrs holds every address that is answered or should be. An address that should be yielded and is no longer
	// answered is not in it.
	Addrs map[netip.Addr]State `json:"addrs,omitempty"`
	// Overtaken counts the addresses that other stations claimed while this node was stopped or starved and did not
	// hear it. It has ceased to answer for them, and asks for them before it does again.
	Overtaken int `json:"overtaken,omitempty"`
}

// State is what is true of one address.
type State struct {
	Links   []string `json:"links,omitempty"`   // answered on these, sorted
	Missing []string `json:"missing,omitempty"` // wanted on these too, but link or socket are not usable, or it is not announced yet
	// Yielding is true while the address is answered only until its new owner is heard.
	Yielding bool `json:"yielding,omitempty"`
	// Contested is the station, which may be another speaker's, that answers for the address while this node should, and which
	// it has therefore not taken or has given way to; zero where there is none.
	Contested cluster.MAC `json:"contested,omitzero"`
	// Conflict is the station of no speaker's that has the address too; zero where there is none. Where Links is empty, the
	// address is not announced because of it.
	Conflict cluster.MAC `json:"conflict,omitzero"`
	// Since is when the first of Links began to be answered or, when yielding, to be yielded; zero without Links.
	Since time.Time `json:"since,omitzero"`
}

// Quiet reports whether nothing is being answered any more: a stopping speaker that yields everything waits for it.
func (h Have) Quiet() bool {
	for _, s := range h.Addrs {
		if len(s.Links) > 0 {
			return false
		}
	}
	return true
}
