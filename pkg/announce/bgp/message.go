package bgp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// longestMessage is the longest that RFC 4271 section 4.1 allows.
const longestMessage = 4096

var errHeader = errors.New("not the header of a BGP message")

// readMessage reads one message. It returns errHeader if what comes is none.
func readMessage(from io.Reader) ([]byte, error) {
	m := make([]byte, bgp.BGP_HEADER_LENGTH, 64)
	if _, err := io.ReadFull(from, m); err != nil {
		return nil, err
	}
	marker, length := m[:16], int(binary.BigEndian.Uint16(m[16:]))
	if !bytes.Equal(marker, bytes.Repeat([]byte{0xff}, 16)) || length < len(m) || length > longestMessage {
		return nil, errHeader
	}
	m = slices.Grow(m, length-len(m))[:length]
	_, err := io.ReadFull(from, m[bgp.BGP_HEADER_LENGTH:])
	return m, err
}

// message is one of this type with this body.
func message(kind byte, body ...byte) []byte {
	m := append(bytes.Repeat([]byte{0xff}, 16), 0, 0, kind)
	m = append(m, body...)
	binary.BigEndian.PutUint16(m[16:], uint16(len(m)))
	return m
}

func kindOf(message []byte) byte { return message[bgp.BGP_HEADER_LENGTH-1] }

// wrongHeader is a header whose length is wrong, to which gobgp says what RFC 4271 section 6.1 has it say.
func wrongHeader() []byte {
	m := message(bgp.BGP_MSG_KEEPALIVE)
	clear(m[16:18])
	return m
}

// endOfRIB is the UPDATE that says that all routes of a family have been sent, RFC 4724 section 2.
func endOfRIB(afi byte) []byte {
	if afi == bgp.AFI_IP {
		return message(bgp.BGP_MSG_UPDATE, 0, 0, 0, 0)
	}
	return message(bgp.BGP_MSG_UPDATE, 0, 0, 0, 6, byte(bgp.BGP_ATTR_FLAG_OPTIONAL), byte(bgp.BGP_ATTR_TYPE_MP_UNREACH_NLRI), 3, 0, afi, bgp.SAFI_UNICAST)
}

// endsRIB returns the family whose routes have all been sent according to an UPDATE, 0 if it does not say that. Some say so of IPv4 as of the
// others, and the length of an attribute may be of two octets.
func endsRIB(update []byte) (afi byte) {
	if bytes.Equal(update, endOfRIB(bgp.AFI_IP)) {
		return bgp.AFI_IP
	}
	const kind, optional, long = byte(bgp.BGP_ATTR_TYPE_MP_UNREACH_NLRI), byte(bgp.BGP_ATTR_FLAG_OPTIONAL), byte(bgp.BGP_ATTR_FLAG_EXTENDED_LENGTH)
	for _, begin := range [][]byte{{0, 0, 0, 6, optional, kind, 3}, {0, 0, 0, 7, optional | long, kind, 0, 3}} {
		family, is := bytes.CutPrefix(update[bgp.BGP_HEADER_LENGTH:], begin)
		if is && (bytes.Equal(family, []byte{0, bgp.AFI_IP, bgp.SAFI_UNICAST}) || bytes.Equal(family, []byte{0, bgp.AFI_IP6, bgp.SAFI_UNICAST})) {
			return family[1]
		}
	}
	return 0
}

// agreed is what an established session can carry.
type agreed struct {
	hold   time.Duration // the peer's hold time. With 0, which is no keepalives, gobgp fails at its first write
	v4, v6 bool          // the peer takes routes of this family
}

func (a agreed) carries(prefix netip.Prefix) bool {
	return prefix.Addr().Is4() && a.v4 || prefix.Addr().Is6() && a.v6
}

// lacks names the families that the peer does not take.
func (a agreed) lacks() string {
	switch {
	case a.v4:
		return "IPv6"
	case a.v6:
		return "IPv4"
	}
	return "IPv4 and IPv6"
}

// agree returns what an OPEN agrees to. One that cannot be read is answered by gobgp.
func agree(message []byte) (a agreed, is bool) {
	parsed, err := bgp.ParseBGPMessage(message)
	if err != nil {
		return agreed{}, false
	}
	open, is := parsed.Body.(*bgp.BGPOpen)
	if !is {
		return agreed{}, false
	}
	a.hold = time.Duration(open.HoldTime) * time.Second
	said := false
	for _, p := range open.OptParams {
		capabilities, is := p.(*bgp.OptionParameterCapability)
		if !is {
			continue
		}
		for _, c := range capabilities.Capability {
			if c, is := c.(*bgp.CapMultiProtocol); is {
				said = true
				a.v4 = a.v4 || c.CapValue == bgp.RF_IPv4_UC
				a.v6 = a.v6 || c.CapValue == bgp.RF_IPv6_UC
			}
		}
	}
	a.v4 = a.v4 || !said // RFC 4760 section 8
	return a, true
}

// inbound is what a router says on one connection.
type inbound struct {
	*relay
	to io.Writer // gobgp

	opened, up bool      // the router has sent an OPEN, and a KEEPALIVE after it
	alive      time.Time // when gobgp was told last that the router is alive
}

// run passes on what gobgp is to hear, until one of the two ends it.
func (in inbound) run(from io.Reader) {
	for {
		m, err := readMessage(from)
		if errors.Is(err, errHeader) {
			_, _ = in.to.Write(wrongHeader())
			_, _ = io.Copy(io.Discard, from) // until gobgp has said so and hung up
			return
		}
		if err != nil {
			return
		}
		in.counts.received.count(m)
		if m = in.admit(m, time.Now()); m == nil {
			continue
		}
		if _, err := in.to.Write(m); err != nil {
			return
		}
	}
}

// admit returns what gobgp hears for a message of the router; nil is nothing.
func (in *inbound) admit(m []byte, now time.Time) []byte {
	switch kindOf(m) {
	case bgp.BGP_MSG_OPEN:
		in.opened = true
		if says, is := agree(m); is {
			in.heard.Store(&says)
		}
	case bgp.BGP_MSG_KEEPALIVE:
		in.up, in.alive = in.opened, now
	case bgp.BGP_MSG_UPDATE:
		return in.update(m, now)
	}
	return m
}

// update makes of an UPDATE what is left without its routes. One that comes too early remains an UPDATE, so that gobgp refuses it; the
// others say that the router is alive (RFC 4271 section 4.4), which is enough now and then.
func (in *inbound) update(m []byte, now time.Time) []byte {
	if afi := endsRIB(m); afi != 0 {
		return endOfRIB(afi)
	}
	if !in.up {
		return endOfRIB(bgp.AFI_IP)
	}
	if now.Sub(in.alive) < time.Second/4 {
		return nil
	}
	in.alive = now
	return message(bgp.BGP_MSG_KEEPALIVE)
}

// counters count the messages of a session. They are for any goroutine.
type counters struct{ sent, received tally }

// tally counts messages by their types.
type tally [bgp.BGP_MSG_ROUTE_REFRESH + 1]atomic.Uint64

func (t *tally) count(message []byte) {
	if kind := int(kindOf(message)); kind < len(t) {
		t[kind].Add(1)
	}
}

func (t *tally) byType() map[string]uint64 {
	return map[string]uint64{"open": t[bgp.BGP_MSG_OPEN].Load(), "update": t[bgp.BGP_MSG_UPDATE].Load(),
		"notification": t[bgp.BGP_MSG_NOTIFICATION].Load(), "keepalive": t[bgp.BGP_MSG_KEEPALIVE].Load(),
		"route-refresh": t[bgp.BGP_MSG_ROUTE_REFRESH].Load()}
}

// Messages counts the messages of the session since it has been configured: "sent" and "received", each by type (RFC 4271 section 4.1,
// RFC 2918).
func (s State) Messages() map[string]map[string]uint64 {
	if s.counts == nil {
		return nil
	}
	return map[string]map[string]uint64{"sent": s.counts.sent.byType(), "received": s.counts.received.byType()}
}
