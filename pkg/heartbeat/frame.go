package heartbeat

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// EtherType is 0x88b5, IEEE 802 Local Experimental EtherType 1 (RFC 9542 3.1).
const EtherType = 0x88b5

const (
	ethLen   = 14
	macLen   = 16 // of the message authentication code
	frameMax = 1514
	// version is that of the frames; others are ignored, so a new one needs a time in which both are sent.
	version = 1
)

// kind is what a frame is.
type kind byte

const (
	hello kind = iota + 1 // to all: here I am, this is my state, and these I accuse
	ping                  // to one or all: are you there?
	pong                  // to one: I am
	bye                   // to all: I go; do not look for me
	call                  // to one or all: is anybody there? I do not know whether I am myself
)

// Peer is one link of one node.
type Peer struct {
	Node string `json:"node"`
	Link string `json:"link"`
}

// message is what a frame carries.
type message struct {
	kind  kind
	from  Peer
	epoch uint64 // the run of the sender
	seq   uint64 // grows with every frame of a run on a link
	nonce uint64 // of a question, and of the answer to it

	// Of a hello only.
	accused []accusation
	state   []byte // what the sender says of its node, in membership's form; empty where it is too long
}

// accusation says that a run of a speaker is not heard on a link.
type accusation struct {
	who   Peer
	epoch uint64
	fresh bool // it has just been found out
}

var (
	errFrame = errors.New("not a frame of speakers")
	// errKey: under another key; who sent it is what it says.
	errKey = errors.New("not a frame of this cluster's speakers")
)

// codec writes and reads frames under one key. It belongs to one goroutine.
type codec struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

// newCodec makes a codec from gossip's key; without one, frames are only protected against damage.
func newCodec(key []byte) *codec {
	own := sha256.Sum256(append([]byte("bellwether heartbeat\x00"), key...))
	return &codec{mac: hmac.New(sha256.New, own[:])}
}

// encode writes a frame. Accusations and state that do not fit are left out.
func (c *codec) encode(m *message, from, to cluster.MAC) []byte {
	b := make([]byte, 0, 256)
	b = append(b, to[:]...)
	b = append(b, from[:]...)
	b = binary.BigEndian.AppendUint16(b, EtherType)
	b = append(b, version, byte(m.kind), 0, 0) // the length follows
	b = binary.BigEndian.AppendUint64(b, m.epoch)
	b = binary.BigEndian.AppendUint64(b, m.seq)
	b = binary.BigEndian.AppendUint64(b, m.nonce)
	b = appendPeer(b, m.from)
	if m.kind == hello {
		b = c.appendHello(b, m)
	}
	binary.BigEndian.PutUint16(b[ethLen+2:], uint16(len(b)-ethLen))
	return append(b, c.code(b)...)
}

func (c *codec) appendHello(b []byte, m *message) []byte {
	count := len(b)
	b = append(b, 0)
	for _, a := range m.accused {
		if len(b)+len(a.who.Node)+len(a.who.Link)+11 > frameMax-macLen-2 || b[count] == 255 {
			break
		}
		fresh := byte(0)
		if a.fresh {
			fresh = 1
		}
		b = append(appendPeer(b, a.who), fresh)
		b = binary.BigEndian.AppendUint64(b, a.epoch)
		b[count]++
	}
	state := m.state
	if len(b)+2+len(state) > frameMax-macLen {
		state = nil
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(state)))
	return append(b, state...)
}

func appendPeer(b []byte, p Peer) []byte {
	b = append(b, byte(len(p.Node)))
	b = append(b, p.Node...)
	b = append(b, byte(len(p.Link)))
	return append(b, p.Link...)
}

// code authenticates a frame from its source address on; the destination is not part of it.
func (c *codec) code(frame []byte) []byte {
	c.mac.Reset()
	c.mac.Write(frame[6:])
	return c.mac.Sum(c.sum[:0])[:macLen]
}

// decode reads a frame and says which station sent it. What it returns does not refer to the frame. With errKey only the kind and the
// name of the sender are set, and nobody vouches for them.
func (c *codec) decode(frame []byte) (m message, at cluster.MAC, err error) {
	if len(frame) < ethLen+28+macLen || binary.BigEndian.Uint16(frame[12:]) != EtherType || frame[ethLen] != version {
		return m, at, errFrame
	}
	// Short frames come padded to the minimum of Ethernet.
	end := ethLen + int(binary.BigEndian.Uint16(frame[ethLen+2:]))
	if end+macLen > len(frame) {
		return m, at, errFrame
	}
	r := reader{b: frame[ethLen+1 : end]}
	m.kind = kind(r.byte())
	r.take(2)
	m.epoch, m.seq, m.nonce = r.uint64(), r.uint64(), r.uint64()
	m.from = r.peer()
	if r.failed {
		return message{}, at, errFrame
	}
	if !hmac.Equal(frame[end:end+macLen], c.code(frame[:end])) {
		return message{kind: m.kind, from: m.from}, at, errKey
	}
	if m.kind == hello {
		for range r.byte() {
			m.accused = append(m.accused, accusation{who: r.peer(), fresh: r.byte() == 1, epoch: r.uint64()})
		}
		m.state = append(m.state, r.take(int(r.uint16()))...)
	}
	if r.failed {
		return m, at, errFrame
	}
	return m, cluster.MAC(frame[6:12]), nil
}

// reader takes a frame apart; once it has failed it yields zeros.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || len(r.b) < n {
		r.failed = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) peer() Peer {
	node := string(r.take(int(r.byte())))
	return Peer{Node: node, Link: string(r.take(int(r.byte())))}
}
