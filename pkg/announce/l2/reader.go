package l2

import (
	"bytes"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// tellEvery is the shortest time between two claims of one address that the owner goroutine hears of. A claim that is not
// told is still noted in the ear, which is where a yield that begins looks.
const tellEvery = 20 * time.Millisecond

// tooManyErrors in a row make passing errors final, so that no kernel quirk can turn a reader into a hot loop.
const tooManyErrors = 100

// late is the age of a frame at which this node was not there when it should have been: stopped, or starved. Nobody takes an
// address over in less. A question of that age is answered when nothing more has come in behind it, as it may be another's by now;
// and a claim of that age is a takeover that happened meanwhile.
const late = 100 * time.Millisecond

// tooLate is the age at which a question is answered no more: whoever asks has asked again (RFC 4861 10: RETRANS_TIMER; the Linux
// kernel's retrans_time_ms for ARP is the same).
const tooLate = time.Second

// belatedMax bounds the late questions that wait for their answers.
const belatedMax = 1024

// belated is the answer to a late question.
type belated struct {
	asked *ear
	at    time.Time
	reply []byte
}

// claim tells the owner goroutine that somebody else claims an address.
type claim struct {
	line *line
	addr netip.Addr
	by   cluster.MAC
}

// death tells the owner goroutine that a port cannot be read any more.
type death struct {
	line   *line
	family cluster.Family
	port   Port
	err    error
}

// reader answers what comes in on one port.
type reader struct {
	port     Port
	line     *line // only as a name in claims and deaths
	family   cluster.Family
	owned    *atomic.Pointer[owned]
	counters *FamilyCounters
	born     time.Time // the ears' epoch
	claims   chan<- claim
	missed   *atomic.Bool // set when answering has ended here and claims was full
	deaths   chan<- death
	quit     <-chan struct{}

	in, out [ndpFrameMax]byte
	belated []belated
}

// run reads until the port fails, and says so unless the Announcer has ended.
func (r *reader) run() {
	failures := 0
	for {
		n, err := r.port.Read(r.in[:])
		if err == nil {
			failures = 0
			r.frame(r.in[:n])
			if len(r.belated) > 0 && !r.port.More() {
				r.pay()
			}
			continue
		}
		if failures++; severityOf(err) == passing && failures < tooManyErrors {
			continue
		}
		select {
		case r.deaths <- death{line: r.line, family: r.family, port: r.port, err: err}:
		case <-r.quit:
		}
		return
	}
}

// frame deals with one frame. It takes no lock, and allocates nothing but for what is late.
func (r *reader) frame(frame []byte) {
	var reply []byte
	var h heard
	own := r.owned.Load()
	if r.family == cluster.IPv4 {
		reply, h = own.answerARP(frame, r.out[:])
	} else {
		reply, h = own.answerNDP(frame, r.out[:])
	}
	if h.malformed {
		r.counters.Malformed.Add(1)
		return
	}
	if h.asked == nil && h.claims == nil {
		return
	}
	at := r.port.Received()
	age := time.Since(at)
	if h.asked != nil && h.asked.ours(at) {
		r.counters.Requests.Add(1)
		switch {
		case age >= tooLate || h.asked.before(at) || len(r.belated) == belatedMax:
			r.counters.Late.Add(1)
		case age >= late:
			r.belated = append(r.belated, belated{asked: h.asked, at: at, reply: bytes.Clone(reply)})
		default:
			r.reply(reply, at)
		}
	}
	if h.claims != nil {
		r.counters.Claims.Add(1)
		peer := own.who.peer(h.by)
		older := peer && r.outdated(&h, age)
		r.tell(&h, sighted{at: at, peer: peer, stranger: own.who.stranger(h.by), older: older, late: age >= late})
	}
}

// reply answers a question that came in at some time.
func (r *reader) reply(frame []byte, at time.Time) {
	if err := r.port.Reply(frame); err != nil {
		r.counters.Dropped.Add(1)
		return
	}
	r.counters.Replies.Add(1)
	r.counters.Latency.add(time.Since(at))
}

// pay answers the late questions about addresses that nobody has been heard to claim since.
func (r *reader) pay() {
	for _, o := range r.belated {
		if o.asked.mode.Load() < answering || o.asked.before(o.at) || time.Since(o.at) >= tooLate {
			r.counters.Late.Add(1)
			continue
		}
		r.reply(o.reply, o.at)
	}
	r.belated = nil
}

// ours reports whether a question that came in at some time is for this node to answer. Frames may overtake each other on their way to
// the reader, and a question the one that ended answering: it is still ours if it came in before that.
func (e *ear) ours(at time.Time) bool {
	return e.settled() >= answering || justBefore(at, e.ceased.Load())
}

// settled returns the mode once no first announcement is on its way out.
func (e *ear) settled() int32 {
	for e.mode.Load() == announcing {
		time.Sleep(10 * time.Microsecond)
	}
	return e.mode.Load()
}

// before reports whether something happened just before the address was announced.
func (e *ear) before(at time.Time) bool { return justBefore(at, e.from.Load()) }

// outdated reports whether this speaker has announced an address since another claimed it, some time ago, or since it asked, just now, what
// the other answers. That one has ceased at the announcement, or does so when it reads it.
func (r *reader) outdated(h *heard, claimed time.Duration) bool {
	if h.claims.settled() < answering {
		return false
	}
	now, last, sought := time.Since(r.born), time.Duration(h.claims.last.Load()), time.Duration(h.claims.sought.Load())
	return now-last < sane(claimed) || h.answer && sought < last && now-sought < tooLate
}

// sane returns an age by the kernel's note, which is on a clock that may be set at any moment; an age that cannot be is none.
func sane(age time.Duration) time.Duration {
	if age < 0 || age >= tooLate {
		return 0
	}
	return age
}

// justBefore reports whether something happened in the second before a moment, in Unix nanoseconds. Where it seems longer ago, it is
// the machine's clock that was set.
func justBefore(at time.Time, moment int64) bool {
	ahead := moment - at.UnixNano()
	return ahead > 0 && ahead < int64(time.Second)
}

// sighted is what there is to know of a claim.
type sighted struct {
	at       time.Time // it came in
	peer     bool      // it is certainly another speaker's
	stranger bool      // it is certainly no speaker's
	older    bool      // it is another speaker's, and this one has announced the address since
	late     bool      // it came in long ago
}

// tell passes a claim on without ever waiting.
func (r *reader) tell(h *heard, s sighted) {
	now := int64(time.Since(r.born)) + 1 // never zero
	ended := false
	switch {
	case s.stranger:
		h.claims.strange.Store(now)
	case s.older: // what was asked until the announcement was the other's to answer
		h.claims.from.Store(time.Now().Add(time.Duration(h.claims.last.Load()) - time.Since(r.born)).UnixNano())
	default:
		h.claims.claimed.Store(now)
		h.claims.speakers.Store(s.peer)
		mode := h.claims.mode.Load()
		if s.late && mode == answering {
			h.claims.late.Store(true)
		}
		if mode == ceding || mode == answering && s.peer {
			h.claims.ceased.Store(s.at.UnixNano())
		}
		// Answering ends here, not when the owner comes to it: the next question may be in the socket already, and the new
		// owner is going to answer it. Of two speakers that have an address, the one that announced it last knows better.
		ended = h.claims.mode.CompareAndSwap(ceding, mute) || (s.late || s.peer) && h.claims.mode.CompareAndSwap(answering, asking)
	}
	if told := h.claims.told.Load(); !ended && told != 0 && now-told < int64(tellEvery) {
		return
	}
	select {
	case r.claims <- claim{line: r.line, addr: h.claimed, by: h.by}:
		h.claims.told.Store(now)
	default:
		// The owner is busy with other claims. The next one of this address tries again; an end has no next one.
		if ended {
			r.missed.Store(true)
		}
	}
}
