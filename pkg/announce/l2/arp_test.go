package l2

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

const (
	reqOp   = arp.OperationRequest
	replyOp = arp.OperationReply
)

// arpCase is one row: a frame, and what has to become of it.
type arpCase struct {
	name      string
	frame     []byte
	answered  bool
	malformed bool
	claimed   netip.Addr // invalid: no claim
}

func TestARP(t *testing.T) {
	host, probe, foreign := addr("192.0.2.200"), addr("0.0.0.0"), addr("192.0.2.99")
	secondLink := mac("02:00:00:00:00:02") // also ours
	request := arpPacket(reqOp, castMAC, asker, host, zeroMAC, vip4)
	mangled := func(at int, v byte) []byte {
		f := slices.Clone(request)
		f[at] = v
		return f
	}
	for _, c := range []arpCase{
		{name: "RFC 826: broadcast request", frame: request, answered: true},
		{name: "RFC 826: unicast request", frame: arpPacket(reqOp, ourMAC, asker, host, ourMAC, vip4), answered: true},
		{name: "RFC 5227 2.1.1: probe is answered", frame: arpPacket(reqOp, castMAC, asker, probe, zeroMAC, vip4), answered: true},
		{name: "request for somebody else", frame: arpPacket(reqOp, castMAC, asker, host, zeroMAC, foreign)},
		{name: "request to another station", frame: arpPacket(reqOp, otherMAC, asker, host, zeroMAC, vip4)},
		{name: "RFC 826: a reply is not answered", frame: arpPacket(replyOp, ourMAC, asker, host, ourMAC, vip4)},
		{name: "an operation that is neither", frame: arpPacket(3, castMAC, asker, host, zeroMAC, vip4)},
		{name: "RFC 5227 2.3: announcement by another is a claim and no question", frame: arpPacket(reqOp, castMAC, otherMAC, vip4, zeroMAC, vip4), claimed: vip4},
		{name: "RFC 5227 2.4: reply form", frame: arpPacket(replyOp, castMAC, otherMAC, vip4, otherMAC, vip4), claimed: vip4},
		{name: "RFC 5227 2.4: unicast reply", frame: arpPacket(replyOp, ourMAC, otherMAC, vip4, ourMAC, host), claimed: vip4},
		{name: "RFC 5227 2.4: request in its name", frame: arpPacket(reqOp, castMAC, otherMAC, vip4, zeroMAC, foreign), claimed: vip4},
		{name: "request in the name of one of ours for another of ours", frame: arpPacket(reqOp, castMAC, otherMAC, addr("192.0.2.11"), zeroMAC, vip4), claimed: addr("192.0.2.11"), answered: true},
		{name: "announced by another link of ours", frame: arpPacket(reqOp, castMAC, secondLink, vip4, zeroMAC, vip4)},
		{name: "our own frame comes back", frame: arpPacket(reqOp, castMAC, ourMAC, vip4, zeroMAC, vip4)},
		{name: "our own question comes back", frame: arpPacket(reqOp, castMAC, ourMAC, host, zeroMAC, vip4)},
		{name: "claim of an address that is not ours", frame: arpPacket(reqOp, castMAC, otherMAC, foreign, zeroMAC, foreign)},
		{name: "RFC 1812 3.3.2: broadcast sender", frame: arpPacket(reqOp, castMAC, castMAC, host, zeroMAC, vip4), malformed: true},
		{name: "multicast sender", frame: arpPacket(reqOp, castMAC, mac("01:00:5e:00:00:01"), host, zeroMAC, vip4), malformed: true},
		{name: "zero sender", frame: arpPacket(reqOp, castMAC, zeroMAC, host, zeroMAC, vip4), malformed: true},
		{name: "RFC 826: hardware type", frame: mangled(15, 6), malformed: true},
		{name: "RFC 826: protocol type", frame: mangled(16, 0x86), malformed: true},
		{name: "RFC 826: hardware length", frame: mangled(18, 8), malformed: true},
		{name: "RFC 826: protocol length", frame: mangled(19, 16), malformed: true},
		{name: "not ARP", frame: mangled(12, 0x86), malformed: true},
		{name: "cut short", frame: request[:arpFrameLen-1], malformed: true},
		{name: "no header", frame: request[:13], malformed: true},
		{name: "empty", frame: nil, malformed: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := ownedBy(ourMAC, vip4, addr("192.0.2.11"))
			own.who.ours = append(own.who.ours, secondLink)
			checkARP(t, own, c)
		})
	}
}

func checkARP(t *testing.T, own *owned, c arpCase) {
	t.Helper()
	var out [ndpFrameMax]byte
	reply, h := own.answerARP(c.frame, out[:])
	if (reply != nil) != c.answered || (h.asked != nil) != c.answered || h.malformed != c.malformed {
		t.Fatalf("replied %v, asked %v, malformed %v; want answered %v, malformed %v", reply != nil, h.asked, h.malformed, c.answered, c.malformed)
	}
	if h.claimed != c.claimed || (h.claims != nil) != c.claimed.IsValid() {
		t.Fatalf("claimed %v, want %v", h.claimed, c.claimed)
	}
	if h.claims != nil && (h.by != otherMAC || h.claims != own.addrs[c.claimed]) {
		t.Fatalf("claimed by %v in the ear of %v", h.by, h.claimed)
	}
	if reply == nil {
		return
	}
	// The library's reply, byte for byte, but for the padding that it adds and that drivers do.
	var q arp.Packet
	if err := q.UnmarshalBinary(c.frame[ethLen:]); err != nil {
		t.Fatal(err)
	}
	want := arpPacket(replyOp, cluster.MAC(q.SenderHardwareAddr), ourMAC, q.TargetIP, cluster.MAC(q.SenderHardwareAddr), q.SenderIP)
	if !bytes.Equal(reply, want[:arpFrameLen]) {
		t.Fatalf("reply\n%x, want\n%x", reply, want[:arpFrameLen])
	}
}

func TestMuteIsNotAnswered(t *testing.T) {
	own := ownedBy(ourMAC, vip4)
	own.addrs[vip4].mode.Store(mute)
	var out [ndpFrameMax]byte
	for _, f := range [][]byte{question(t, vip4, asker), claimOf(vip4, otherMAC)} {
		if reply, h := own.answerARP(f, out[:]); reply != nil || h.asked != nil || h.claims != nil {
			t.Errorf("reply %x, asked %v", reply, h.asked)
		}
	}
}

func TestGratuitousARP(t *testing.T) {
	frames := must(announcement(vip4, ourMAC))
	if len(frames) != 2 || len(frames) != announcementFrames(vip4) {
		t.Fatalf("%d frames", len(frames))
	}
	for i, want := range []arp.Packet{
		{Operation: reqOp, TargetHardwareAddr: zeroMAC[:]}, // RFC 5227 2.3
		{Operation: replyOp, TargetHardwareAddr: ourMAC[:]},
	} {
		var f ethernet.Frame
		var p arp.Packet
		if err := f.UnmarshalBinary(frames[i]); err != nil {
			t.Fatal(err)
		}
		if err := p.UnmarshalBinary(f.Payload); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(f.Destination, castMAC[:]) || !bytes.Equal(f.Source, ourMAC[:]) || p.Operation != want.Operation ||
			!bytes.Equal(p.SenderHardwareAddr, ourMAC[:]) || p.SenderIP != vip4 || p.TargetIP != vip4 ||
			!bytes.Equal(p.TargetHardwareAddr, want.TargetHardwareAddr) {
			t.Errorf("frame %d: %+v in %+v", i, p, f)
		}
		// Another Bellwether takes it as a claim.
		if _, h := ownedBy(otherMAC, vip4).answerARP(frames[i], make([]byte, ndpFrameMax)); h.claimed != vip4 || h.by != ourMAC {
			t.Errorf("frame %d is not heard as a claim: %+v", i, h)
		}
	}
}
