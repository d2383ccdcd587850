package l2

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// FuzzARP throws frames at the ARP path: it never panics, never answers for what is not owned, and what it says is what
// the arp package takes for a reply to what the arp package takes for the question.
func FuzzARP(f *testing.F) {
	f.Add(question(f, vip4, asker))
	f.Add(claimOf(vip4, otherMAC))
	f.Add(must(announcement(vip4, otherMAC))[1])
	f.Add(arpPacket(arp.OperationRequest, ourMAC, asker, addr("0.0.0.0"), zeroMAC, vip4)[:arpFrameLen])
	f.Fuzz(func(t *testing.T, frame []byte) {
		own := ownedBy(ourMAC, vip4, vip6)
		before, out := slices.Clone(frame), make([]byte, ndpFrameMax)
		reply, h := own.answerARP(frame, out)
		if !bytes.Equal(before, frame) {
			t.Fatal("the frame was written to")
		}
		checkHeard(t, own, reply, h)
		if reply == nil {
			return
		}
		var q, r arp.Packet
		var qf, rf ethernet.Frame
		for _, err := range []error{qf.UnmarshalBinary(frame), rf.UnmarshalBinary(reply), q.UnmarshalBinary(frame[ethLen:]), r.UnmarshalBinary(reply[ethLen:])} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(reply) != arpFrameLen || q.Operation != arp.OperationRequest || q.TargetIP != vip4 || q.HardwareType != 1 || q.ProtocolType != 0x0800 {
			t.Fatalf("answered %+v", q)
		}
		if r.Operation != arp.OperationReply || r.SenderIP != vip4 || !bytes.Equal(r.SenderHardwareAddr, ourMAC[:]) ||
			r.TargetIP != q.SenderIP || !bytes.Equal(r.TargetHardwareAddr, q.SenderHardwareAddr) ||
			!bytes.Equal(rf.Destination, q.SenderHardwareAddr) || !bytes.Equal(rf.Source, ourMAC[:]) || rf.Destination[0]&1 == 1 {
			t.Fatalf("answered %+v with %+v in %+v", q, r, rf)
		}
	})
}

// FuzzNDP does the same for Neighbor Discovery. Half of the inputs get their checksum, lengths and hop limit put right, as
// nearly none would get past those otherwise.
func FuzzNDP(f *testing.F) {
	f.Add(question(f, vip6, asker), true)
	f.Add(claimOf(vip6, otherMAC), false)
	f.Add(solicit(func(p *ndpPacket) { p.src, p.message = anyAddr, ns(vip6) }).frame(), true)
	f.Add(solicit(func(p *ndpPacket) { p.dst, p.dstMAC, p.message = vip6, ourMAC, ns(vip6) }).frame(), true)
	f.Add(advert(nil).frame(), true)
	f.Fuzz(func(t *testing.T, frame []byte, mend bool) {
		if mend && len(frame) >= ndpFrameMin && len(frame) < ndpFrameMax {
			n := len(frame) - ethLen - ipv6Len
			frame[12], frame[13], frame[14], frame[18], frame[19], frame[20], frame[21] = 0x86, 0xdd, 0x60, byte(n>>8), byte(n), 58, 255
			frame[56], frame[57] = 0, 0
			sum := ^slowChecksum(frame[ethLen:])
			frame[56], frame[57] = byte(sum>>8), byte(sum)
		}
		own := ownedBy(ourMAC, vip4, vip6)
		before, out := slices.Clone(frame), make([]byte, ndpFrameMax)
		reply, h := own.answerNDP(frame, out)
		if !bytes.Equal(before, frame) {
			t.Fatal("the frame was written to")
		}
		checkHeard(t, own, reply, h)
		if reply == nil {
			return
		}
		ip := reply[ethLen:]
		m, err := ndp.ParseMessage(ip[ipv6Len:])
		na, ok := m.(*ndp.NeighborAdvertisement)
		if err != nil || !ok || na.TargetAddress != vip6 || !na.Override || na.Router || len(na.Options) != 1 {
			t.Fatalf("answered with %+v: %v", m, err)
		}
		if lla, ok := na.Options[0].(*ndp.LinkLayerAddress); !ok || lla.Direction != ndp.Target || !bytes.Equal(lla.Addr, ourMAC[:]) {
			t.Fatalf("answered with option %+v", na.Options[0])
		}
		src, dst := netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		asked := netip.AddrFrom16([16]byte(frame[ethLen+8:]))
		if src != vip6 || ip[7] != 255 || cluster.MAC(reply[6:12]) != ourMAC || slowChecksum(ip) != 0xffff {
			t.Fatalf("header %x", reply[:ethLen+ipv6Len])
		}
		if asked.IsUnspecified() != (dst == allNode) || na.Solicited == asked.IsUnspecified() || (!asked.IsUnspecified() && dst != asked) {
			t.Fatalf("asked by %s, answered to %s, solicited %v", asked, dst, na.Solicited)
		}
		if (reply[0]&1 == 1) != asked.IsUnspecified() {
			t.Fatalf("asked by %s, answered to %x", asked, reply[:6])
		}
	})
}

// checkHeard holds for both protocols.
func checkHeard(t *testing.T, own *owned, reply []byte, h heard) {
	t.Helper()
	if (reply != nil) != (h.asked != nil) || (h.malformed && (reply != nil || h.claims != nil)) {
		t.Fatalf("replied %v, heard %+v", reply != nil, h)
	}
	if h.claims != nil && (h.claims != own.addrs[h.claimed] || h.by == ourMAC || !station(h.by)) {
		t.Fatalf("heard %+v", h)
	}
}
