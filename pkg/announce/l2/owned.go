package l2

import (
	"bytes"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// owned is what a reader needs to know to answer on one line. It is immutable but for the ears' atomics: the owner
// goroutine replaces the whole value.
type owned struct {
	mac   cluster.MAC         // the line's own address: what replies say
	who   stations            // who else there is
	addrs map[netip.Addr]*ear // what may be answered here; the ears say whether it is
}

// stations are the hardware addresses that are known. A value is immutable.
type stations struct {
	ours     []cluster.MAC            // of all of this node's links: they never make a foreign claim
	peers    map[cluster.MAC]struct{} // of other speakers' links
	allKnown bool                     // peers lacks no speaker's
}

func (s *stations) peer(m cluster.MAC) bool {
	_, is := s.peers[m]
	return is
}

// stranger reports whether a station is certainly no speaker's.
func (s *stations) stranger(m cluster.MAC) bool { return s.allKnown && !s.peer(m) }

// ear is what readers and the owner goroutine share of one voice. Times are nanoseconds since the Announcer was made, and
// zero for never.
type ear struct {
	mode     atomic.Int32 // written by the owner; a reader only ever turns ceding into mute, and answering into asking
	from     atomic.Int64 // when it was first announced, in Unix nanoseconds: what was asked before is another's to answer
	last     atomic.Int64 // when it was announced last, on the ears' clock: who claimed it before that has heard so, and ceased
	sought   atomic.Int64 // when the segment was last asked for it, on the ears' clock
	ceased   atomic.Int64 // when the frame came in that ended answering, in Unix nanoseconds: what was asked before is ours to answer
	claimed  atomic.Int64 // last claim of what may be another speaker; written by readers, read and cleared by the owner
	speakers atomic.Bool  // that one was certainly another speaker's; likewise
	strange  atomic.Int64 // last claim of a stranger; likewise
	late     atomic.Bool  // a claim came in long before it was read; set by readers, cleared by the owner
	told     atomic.Int64 // last time that the owner was told of one; readers only
}

// The modes of an ear. That they are apart from the map lets thousands of addresses begin and cease to be answered one by
// one, each in the very moment that it must, without a map being built each time.
const (
	mute       = iota // not announced yet, or not ours any more
	asking            // not ours while somebody else claims it: claims are listened for
	announcing        // ours when the announcement, which is on its way out, is out: questions wait for that
	answering         // ours
	ceding            // ours until somebody else claims it
)

// announced begins to answer, as the announcement has left.
func (e *ear) announced(at time.Time) {
	if e.mode.Load() == announcing {
		e.from.Store(at.UnixNano())
		e.mode.Store(answering)
	}
}

// answered looks up an address that questions are answered for, or were until a moment ago.
func (o *owned) answered(addr netip.Addr) (*ear, bool) {
	e, ok := o.addrs[addr]
	return e, ok && (e.mode.Load() >= announcing || e.ceased.Load() != 0)
}

// listened looks up an address whose claims by others concern us.
func (o *owned) listened(addr netip.Addr) (*ear, bool) {
	e, ok := o.addrs[addr]
	return e, ok && e.mode.Load() != mute
}

// passes reports whether a speaker that asks for an address, to have it, is to find nobody: unless this node
// has it and keeps it, it is being given up, or has been.
func (o *owned) passes(e *ear, by cluster.MAC) bool {
	return e.mode.Load() != answering && o.who.peer(by)
}

// heard is what a frame meant, besides the reply to it.
type heard struct {
	malformed bool
	asked     *ear        // it asks for an address that is answered, or was until a moment ago
	claims    *ear        // it claims an address that is answered, in the name of ...
	answer    bool        // ... to this station alone, as it asked
	claimed   netip.Addr  // ... this address, for ...
	by        cluster.MAC // ... this foreign station
}

// claim notes that a frame says that addr is at mac, if that concerns us.
func (o *owned) claim(h *heard, addr netip.Addr, mac cluster.MAC) {
	e, ok := o.listened(addr)
	if !ok {
		return
	}
	if slices.Contains(o.who.ours, mac) {
		return
	}
	h.claims, h.claimed, h.by = e, addr, mac
}

// rival notes that another station asks for an address that this one asks for too, each to have it. RFC 5227 2.1.1 counts that as a
// conflict for both, as RFC 4862 5.4.3 does; here the station with the lower address goes on, so that one of two does.
func (o *owned) rival(h *heard, addr netip.Addr, mac cluster.MAC) {
	if e, ok := o.addrs[addr]; ok && e.mode.Load() == asking && bytes.Compare(mac[:], o.mac[:]) < 0 {
		o.claim(h, addr, mac)
	}
}

// station reports whether a MAC can be a single station's: not a group address and not zero.
func station(m cluster.MAC) bool { return m[0]&1 == 0 && m != cluster.MAC{} }

// forUs reports whether a frame's destination is this line or a group: what a NIC in promiscuous mode lets through
// besides is other people's mail.
func (o *owned) forUs(frame []byte) bool { return frame[0]&1 == 1 || cluster.MAC(frame[:6]) == o.mac }

const (
	ethLen        = 14
	etherTypeARP  = 0x0806
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
)

// putEthernet writes an Ethernet II header and returns what follows it.
func putEthernet(out []byte, dst, src cluster.MAC, etherType uint16) []byte {
	copy(out[0:6], dst[:])
	copy(out[6:12], src[:])
	out[12], out[13] = byte(etherType>>8), byte(etherType)
	return out[ethLen:]
}
