// Package probe measures from where a client sits: who answers for an address
// by ARP or NDP, what is announced on the segment, whether HTTP works, and what
// the kernel's neighbour cache holds. Sockets are opened inside a network
// namespace and stay there; the measuring itself runs in the caller's process.
package probe

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

// Kind is what sort of packet told that an address is at a MAC.
type Kind string

// Kinds of sightings.
const (
	ARPReply      Kind = "arp-reply"        // an answer to a who-has
	ARPAnnounce   Kind = "arp-announcement" // gratuitous: sender and target address are the same (RFC 5227 section 3)
	NASolicited   Kind = "na-solicited"     // an answer to a neighbour solicitation
	NAUnsolicited Kind = "na-unsolicited"   // an announcement (RFC 4861 section 7.2.6)
)

// Sighting is one packet that said where an address is.
type Sighting struct {
	Time  time.Time
	Addr  netip.Addr
	MAC   string // what the packet says; 02:00:c6:12:00:0b is node-1 in the lab
	From  string // the MAC of the frame's sender, when it is another
	Kind  Kind
	Asked time.Time // when a Prober asked what this answers; zero otherwise

	to netip.Addr // whom it is sent to
}

// Record is a list of sightings in the order of time.
type Record []Sighting

// Of keeps the sightings of one address.
func (r Record) Of(addr netip.Addr) Record {
	return r.keep(func(s Sighting) bool { return s.Addr == addr })
}

// Between keeps the sightings from one moment up to, not including, another.
func (r Record) Between(from, to time.Time) Record {
	return r.keep(func(s Sighting) bool { return !s.Time.Before(from) && s.Time.Before(to) })
}

// Kinds keeps the sightings of some kinds.
func (r Record) Kinds(kinds ...Kind) Record {
	return r.keep(func(s Sighting) bool { return slices.Contains(kinds, s.Kind) })
}

func (r Record) keep(f func(Sighting) bool) Record {
	var out Record
	for _, s := range r {
		if f(s) {
			out = append(out, s)
		}
	}
	return out
}

// MACs lists the distinct MACs in the order they were first seen.
func (r Record) MACs() []string {
	var out []string
	for _, s := range r {
		if !slices.Contains(out, s.MAC) {
			out = append(out, s.MAC)
		}
	}
	return out
}

// Gap is a stretch of time in which nothing was seen.
type Gap struct {
	From, To time.Time
}

// Length of the gap.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// LongestGap is the longest stretch between two moments without any sighting.
// With a prober it is exact to one interval of asking.
func (r Record) LongestGap(from, to time.Time) Gap {
	longest, last := Gap{from, from}, from
	for _, s := range append(r.Between(from, to), Sighting{Time: to}) {
		if s.Time.Sub(last) > longest.Length() {
			longest = Gap{last, s.Time}
		}
		last = s.Time
	}
	return longest
}

// Slowest is the longest time that an answer took. Only the record of a Prober
// knows when it was asked for.
func (r Record) Slowest() (slowest time.Duration) {
	for _, s := range r {
		slowest = max(slowest, s.Time.Sub(s.Asked))
	}
	return slowest
}

// decode reads an Ethernet frame that may say where an address is.
func decode(frame []byte, at time.Time) (Sighting, bool) {
	var f ethernet.Frame
	if f.UnmarshalBinary(frame) != nil {
		return Sighting{}, false
	}
	s, ok := Sighting{}, false
	switch f.EtherType {
	case ethernet.EtherTypeARP:
		s, ok = decodeARP(f.Payload)
	case ethernet.EtherTypeIPv6:
		s, ok = decodeNA(f.Payload, f.Source)
	default: // says nothing about an address
	}
	if from := f.Source.String(); from != s.MAC {
		s.From = from
	}
	s.Time = at
	return s, ok
}

func decodeARP(payload []byte) (Sighting, bool) {
	var p arp.Packet
	if p.UnmarshalBinary(payload) != nil {
		return Sighting{}, false
	}
	s := Sighting{Addr: p.SenderIP, MAC: p.SenderHardwareAddr.String(), Kind: ARPReply, to: p.TargetIP}
	if p.SenderIP == p.TargetIP {
		s.Kind = ARPAnnounce
	}
	return s, p.Operation == arp.OperationReply || s.Kind == ARPAnnounce
}

// Where things lie in an IPv6 packet without extension headers; neighbour
// discovery has none.
const (
	ipv6HeaderLen  = 40
	nextHeaderAt   = 6
	hopLimitAt     = 7
	destinationAt  = 24
	protocolICMPv6 = 58
	typeNA         = 136
)

func decodeNA(payload []byte, source net.HardwareAddr) (Sighting, bool) {
	// RFC 4861 section 7.1.2: a hop limit other than 255 was forwarded, and is
	// not to be believed.
	if len(payload) <= ipv6HeaderLen || payload[nextHeaderAt] != protocolICMPv6 || payload[hopLimitAt] != 255 {
		return Sighting{}, false
	}
	m, err := ndp.ParseMessage(payload[ipv6HeaderLen:])
	if err != nil {
		return Sighting{}, false
	}
	na, ok := m.(*ndp.NeighborAdvertisement)
	if !ok {
		return Sighting{}, false
	}
	s := Sighting{Addr: na.TargetAddress, MAC: source.String(), Kind: NAUnsolicited, to: netip.AddrFrom16([16]byte(payload[destinationAt:]))}
	if na.Solicited {
		s.Kind = NASolicited
	}
	for _, o := range na.Options {
		if lla, ok := o.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Target {
			s.MAC = lla.Addr.String()
		}
	}
	return s, true
}
