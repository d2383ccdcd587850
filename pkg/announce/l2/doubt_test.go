package l2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// detecting makes a plan heed strangers; first: of addresses that nobody has had before.
func detecting(p announce.L2Plan, how cluster.Detection, first bool) announce.L2Plan {
	p.AllKnown = true
	for a, w := range p.Addrs {
		w.Detect, w.First = how, first
		p.Addrs[a] = w
	}
	return p
}

var otherLink = cluster.Link{Name: "eth0", Index: 9, MAC: otherMAC, Up: true}

// stationWith is another machine that has an address, and defends it.
func stationWith(t *testing.T, seg *lan, a netip.Addr) *speaker {
	t.Helper()
	s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
	s.set(t, planOf(otherLink, false, a))
	time.Sleep(time.Minute)
	return s
}

func TestStrangers(t *testing.T) {
	none := cluster.MAC{}
	for _, a := range both() {
		for name, body := range map[string]func(t *testing.T, s *speaker, seg *lan){
			"Warn: nobody has it, and asking costs no time": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, detecting(say(a), cluster.DetectWarn, true))
				answers(t, seg, a, ourMAC)
				time.Sleep(time.Minute)
				if n := seg.probes(0, a, ourMAC); n != 3 || s.Have().Addrs[a].Conflict != none {
					t.Errorf("asked %d times, have %+v", n, s.Have())
				}
			},
			"Warn: a stranger has it": func(t *testing.T, s *speaker, seg *lan) {
				stranger := stationWith(t, seg, a)
				s.set(t, detecting(say(a), cluster.DetectWarn, true))
				time.Sleep(200 * time.Millisecond)
				if st := s.Have().Addrs[a]; st.Conflict != otherMAC || len(st.Links) != 1 || st.Contested != none {
					t.Errorf("have %+v", st)
				}
				if log := s.logged.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, otherMAC.String()) {
					t.Errorf("logged %s", log)
				}
				time.Sleep(time.Minute)
				answers(t, seg, a, slices.SortedFunc(slices.Values([]cluster.MAC{ourMAC, otherMAC}), cluster.MAC.Compare)...)
				stranger.stop()
				time.Sleep(15 * time.Second)
				if st := s.Have().Addrs[a]; st.Conflict != none || len(st.Links) != 1 {
					t.Errorf("the stranger is gone, have %+v", st)
				}
				mark := seg.rewind()
				time.Sleep(time.Minute)
				if n := seg.probes(mark, a, ourMAC); n != 0 {
					t.Errorf("asked %d times more", n)
				}
			},
			"Warn: a stranger comes later": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, detecting(say(a), cluster.DetectWarn, true))
				time.Sleep(time.Minute)
				seg.send(nil, claimOf(a, otherMAC))
				synctest.Wait()
				time.Sleep(tick)
				if st := s.Have().Addrs[a]; st.Conflict != otherMAC || len(st.Links) != 1 {
					t.Errorf("have %+v", st)
				}
				time.Sleep(15 * time.Second)
				if st := s.Have().Addrs[a]; st.Conflict != none {
					t.Errorf("it does not answer, have %+v", st)
				}
			},
			"Enforce: nobody has it": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, detecting(say(a), cluster.DetectEnforce, true))
				time.Sleep(149 * time.Millisecond)
				answers(t, seg, a)
				time.Sleep(2 * time.Millisecond)
				answers(t, seg, a, ourMAC)
				if n := seg.probes(0, a, ourMAC); n != 3 {
					t.Errorf("asked %d times", n)
				}
			},
			"Enforce: a stranger has it": func(t *testing.T, s *speaker, seg *lan) {
				stranger := stationWith(t, seg, a)
				mark := seg.rewind()
				s.set(t, detecting(say(a), cluster.DetectEnforce, true))
				for range 100 {
					time.Sleep(100 * time.Millisecond)
					answers(t, seg, a, otherMAC)
				}
				if n := len(seg.announcements(mark, a, ourMAC)); n != 0 {
					t.Errorf("announced %d times", n)
				}
				if st := s.Have().Addrs[a]; st.Conflict != otherMAC || len(st.Links) > 0 || st.Contested != none {
					t.Errorf("have %+v", st)
				}
				stranger.stop()
				time.Sleep(600 * time.Millisecond)
				answers(t, seg, a, ourMAC)
				if st := s.Have().Addrs[a]; st.Conflict != none {
					t.Errorf("have %+v", st)
				}
			},
			"Off: nothing is asked and nothing said": func(t *testing.T, s *speaker, seg *lan) {
				stationWith(t, seg, a)
				s.set(t, detecting(say(a), cluster.DetectOff, true))
				time.Sleep(time.Minute)
				if n := seg.probes(0, a, ourMAC); n != 0 || s.Have().Addrs[a].Conflict != none || strings.Contains(s.logged.String(), "WARN") {
					t.Errorf("asked %d times, have %+v, logged %s", n, s.Have(), s.logged.String())
				}
			},
			"an address that is taken over from the dead is not left to a stranger": func(t *testing.T, s *speaker, seg *lan) {
				stationWith(t, seg, a)
				s.set(t, detecting(take(link0, a), cluster.DetectWarn, false))
				time.Sleep(100 * time.Millisecond)
				if st := s.Have().Addrs[a]; st.Conflict != otherMAC || len(st.Links) != 1 {
					t.Errorf("have %+v", st)
				}
			},
			"who may be a speaker is no stranger": func(t *testing.T, s *speaker, seg *lan) {
				stationWith(t, seg, a)
				plan := detecting(take(link0, a), cluster.DetectWarn, false)
				plan.AllKnown = false
				s.set(t, plan)
				time.Sleep(time.Second)
				if st := s.Have().Addrs[a]; st.Contested != otherMAC || st.Conflict != none || len(st.Links) != 0 {
					t.Errorf("have %+v", st)
				}
			},
			"a stranger ends no yield": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, detecting(say(a), cluster.DetectWarn, false))
				time.Sleep(time.Minute)
				s.set(t, detecting(yield(a), cluster.DetectWarn, false))
				seg.send(nil, claimOf(a, otherMAC))
				time.Sleep(time.Second)
				answers(t, seg, a, ourMAC)
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

// TestTwoSpeakersDoNotFight: two that each take themselves for the owner, as their views differ. The one that announces the address
// last has it, the other asks until that is gone, and at no time do both answer.
func TestTwoSpeakersDoNotFight(t *testing.T) {
	for _, a := range both() {
		synctest.Test(t, func(t *testing.T) {
			seg := newLAN()
			s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
			other := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
			knows := func(p announce.L2Plan, others ...cluster.MAC) announce.L2Plan {
				p = detecting(p, cluster.DetectWarn, false)
				p.Others = others
				return p
			}
			s.set(t, knows(say(a), otherMAC))
			time.Sleep(time.Minute)
			other.set(t, knows(planOf(otherLink, false, a), ourMAC))
			mark := seg.rewind()
			for range 300 {
				answers(t, seg, a, otherMAC)
				time.Sleep(time.Second)
			}
			if st := s.Have().Addrs[a]; st.Contested != otherMAC || st.Conflict != (cluster.MAC{}) || s.Have().Overtaken != 0 {
				t.Errorf("have %+v", s.Have())
			}
			if n := len(seg.announcements(mark, a, ourMAC)); n != 0 {
				t.Errorf("the one that gave way announced it %d times", n)
			}
			other.stop()
			time.Sleep(500 * time.Millisecond)
			answers(t, seg, a, ourMAC)
		})
	}
}

// TestDoubtsDelayNothing: a thousand new addresses are all announced as soon as ever, and asked for afterwards.
func TestDoubtsDelayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		addrs := many(1000)
		s.set(t, detecting(say(addrs...), cluster.DetectWarn, true))
		time.Sleep(600 * time.Millisecond)
		for _, a := range addrs {
			answers(t, seg, a, ourMAC)
		}
		mark := seg.rewind()
		time.Sleep(time.Second)
		if n := len(seg.tape(mark)); n > 1100 {
			t.Errorf("%d frames in a second", n)
		}
		time.Sleep(20 * time.Second)
		if n := s.counters.ARP.Asks.Load(); n != 3*uint64(len(addrs)) {
			t.Errorf("%d questions about %d addresses", n, len(addrs))
		}
	})
}

// TestAPartitionHeals: both have answered on their half. The one that keeps the addresses announces them again, and the other, which
// yields by then or will in a moment, ceases at that.
func TestAPartitionHeals(t *testing.T) {
	for _, yieldsFirst := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			addrs := many(50)
			s, other, left, ours, theirs := halves(t, addrs)
			mark := left.rewind()
			ours.Again = 1
			give := func() {
				other.set(t, announce.L2Plan{Links: theirs.Links, Others: theirs.Others, Addrs: yield(addrs...).Addrs})
			}
			if yieldsFirst {
				give()
			}
			s.set(t, ours)
			time.Sleep(tick)
			if !yieldsFirst {
				give()
			}
			time.Sleep(200 * time.Millisecond)
			for _, a := range addrs {
				answers(t, left, a, ourMAC)
				if n := len(left.announcements(mark, a, otherMAC)); n != 0 {
					t.Errorf("%s was announced %d times by the one that gives it up", a, n)
				}
			}
			s.set(t, ours) // the same once more
			time.Sleep(10 * time.Second)
			if n := len(left.announcements(mark, addrs[0], ourMAC)); n != 3 {
				t.Errorf("announced %d times", n)
			}
		})
	}
}
