package l2

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// take is a plan to take addresses over from a node that is believed dead.
func take(link cluster.Link, addrs ...netip.Addr) announce.L2Plan {
	p := planOf(link, false, addrs...)
	for _, a := range addrs {
		w := p.Addrs[a]
		w.Ask = true
		p.Addrs[a] = w
	}
	return p
}

// probes counts how often a station asked for an address without claiming it.
func (l *lan) probes(mark int, a netip.Addr, by cluster.MAC) int {
	want, n := string(must(probe(a, by))), 0
	for _, f := range l.tape(mark) {
		if string(f.frame) == want {
			n++
		}
	}
	return n
}

func TestTakingOver(t *testing.T) {
	right := otherLink
	for _, a := range []netip.Addr{vip4, vip6} {
		for name, body := range map[string]func(t *testing.T, s *speaker, seg *lan){
			"asks, and announces when nobody answers": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, take(link0, a))
				answers(t, seg, a)
				time.Sleep(29 * time.Millisecond)
				answers(t, seg, a)
				if n := seg.probes(0, a, ourMAC); n != 2 || len(seg.announcements(0, a, ourMAC)) != 0 {
					t.Errorf("asked %d times, announced %d times", n, len(seg.announcements(0, a, ourMAC)))
				}
				time.Sleep(2 * time.Millisecond)
				answers(t, seg, a, ourMAC)
				if n := s.counters.of(cluster.FamilyOf(a)).Asks.Load(); n != 2 {
					t.Errorf("%d questions are counted", n)
				}
				if n := len(seg.announcements(0, a, ourMAC)); n != 1 {
					t.Errorf("announced %d times", n)
				}
			},
			"leaves alone what somebody has": func(t *testing.T, s *speaker, seg *lan) {
				owner := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
				owner.set(t, planOf(right, false, a))
				time.Sleep(time.Minute)
				mark := seg.rewind()
				s.set(t, take(link0, a))
				for range 100 {
					time.Sleep(100 * time.Millisecond)
					answers(t, seg, a, otherMAC)
				}
				if n := len(seg.announcements(mark, a, ourMAC)); n != 0 {
					t.Errorf("announced %d times", n)
				}
				if st := s.Have().Addrs[a]; st.Contested != otherMAC || len(st.Links) > 0 || len(st.Missing) != 1 {
					t.Errorf("have %+v", st)
				}
				if n := len(owner.Have().Addrs[a].Links); n != 1 {
					t.Errorf("the owner gave it up")
				}
				owner.stop()
				time.Sleep(800 * time.Millisecond)
				answers(t, seg, a, ourMAC)
				if st := s.Have().Addrs[a]; st.Contested != (cluster.MAC{}) || len(st.Links) != 1 {
					t.Errorf("have %+v", st)
				}
			},
			"leaves alone what somebody has who is late": func(t *testing.T, s *speaker, seg *lan) {
				wire := newNIC(map[string]*lan{"eth0": seg})
				owner := startSpeaker(t, wire, Timings{})
				owner.set(t, planOf(right, false, a))
				time.Sleep(time.Minute)
				mark := seg.rewind()
				s.set(t, take(link0, a))
				rest()
				for range 20 {
					thaw := wire.freeze()
					time.Sleep(190 * time.Millisecond)
					thaw()
					time.Sleep(300 * time.Millisecond)
				}
				if n := len(seg.announcements(mark, a, ourMAC)); n != 0 {
					t.Errorf("announced %d times", n)
				}
				answers(t, seg, a, otherMAC)
			},
			"is over when the owner is heard again and yields": func(t *testing.T, s *speaker, seg *lan) {
				owner := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
				owner.set(t, planOf(right, false, a))
				time.Sleep(time.Minute)
				s.set(t, take(link0, a))
				time.Sleep(time.Second)
				owner.set(t, planOf(right, true, a))
				answers(t, seg, a, otherMAC)
				s.set(t, say(a))
				answers(t, seg, a, ourMAC)
				time.Sleep(2 * tick)
				if !owner.Have().Quiet() || s.Have().Addrs[a].Contested != (cluster.MAC{}) {
					t.Errorf("the old owner has %v, the new one %v", owner.Have(), s.Have())
				}
			},
			"ends when the address is another's": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, take(link0, a))
				s.set(t, yield(a))
				time.Sleep(time.Second)
				answers(t, seg, a)
				if n := len(seg.announcements(0, a, ourMAC)); n != 0 {
					t.Errorf("announced %d times", n)
				}
			},
			"begins anew when the link has failed": func(t *testing.T, s *speaker, seg *lan) {
				s.nic.set(s.nic.noSend, "eth0", fmt.Errorf("no"))
				if _, err := s.Set(t.Context(), take(link0, a)); err == nil {
					t.Error("nothing can be sent, and nobody says so")
				}
				time.Sleep(time.Second)
				answers(t, seg, a)
				s.nic.set(s.nic.noSend, "eth0", nil)
				time.Sleep(20 * time.Second)
				answers(t, seg, a, ourMAC)
				if n := seg.probes(0, a, ourMAC); n != 2 {
					t.Errorf("asked %d times", n)
				}
			},
			"of two that ask at once, one has it": func(t *testing.T, s *speaker, seg *lan) {
				other := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
				s.set(t, take(link0, a))
				other.set(t, take(right, a))
				time.Sleep(time.Second)
				if got := seg.ask(t, a, rest); len(got) != 1 {
					t.Errorf("answered by %v", got)
				}
				if len(s.Have().Addrs[a].Links)+len(other.Have().Addrs[a].Links) != 1 {
					t.Errorf("one has %+v, the other %+v", s.Have(), other.Have())
				}
			},
			"of many goes on while some are held": func(t *testing.T, s *speaker, seg *lan) {
				owner := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
				owner.set(t, planOf(right, false, a))
				time.Sleep(time.Minute)
				many := []netip.Addr{a}
				for i := range 500 {
					many = append(many, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
				}
				s.set(t, take(link0, many...))
				time.Sleep(700 * time.Millisecond)
				for _, b := range many[1:] {
					answers(t, seg, b, ourMAC)
				}
				answers(t, seg, a, otherMAC)
			},
		} {
			t.Run(fmt.Sprintf("%s %s", cluster.FamilyOf(a), name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					seg := newLAN()
					body(t, startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{}), seg)
				})
			})
		}
	}
}

func TestAProbeClaimsNothing(t *testing.T) {
	var frame ethernet.Frame
	if err := frame.UnmarshalBinary(must(probe(vip4, ourMAC))); err != nil {
		t.Fatal(err)
	}
	var p arp.Packet
	if err := p.UnmarshalBinary(frame.Payload); err != nil {
		t.Fatal(err)
	}
	// RFC 5227 2.1.1: "The 'sender IP address' field MUST be set to all zeroes", the target hardware address SHOULD be, and the
	// target IP address is the one probed.
	if p.Operation != arp.OperationRequest || p.SenderIP != netip.IPv4Unspecified() || p.TargetIP != vip4 ||
		p.TargetHardwareAddr.String() != "00:00:00:00:00:00" || p.SenderHardwareAddr.String() != ourMAC.String() ||
		frame.Destination.String() != "ff:ff:ff:ff:ff:ff" {
		t.Errorf("%+v in %+v", p, frame)
	}

	raw := must(probe(vip6, ourMAC))
	n, ok := parseNeighbor(raw)
	group, mac := groupOf(vip6)
	if !ok || n.kind != typeSolicitation || !n.src.IsUnspecified() || n.dst != group || n.target != vip6 || n.hasSource || cluster.MAC(raw[:6]) != mac {
		t.Errorf("%+v, %t", n, ok)
	}
	m, err := ndp.ParseMessage(raw[ethLen+ipv6Len:])
	if ns, is := m.(*ndp.NeighborSolicitation); err != nil || !is || len(ns.Options) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}
