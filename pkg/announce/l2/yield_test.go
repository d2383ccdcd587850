package l2

import (
	"context"
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

func TestYield(t *testing.T) {
	foreign := func(seg *lan, a netip.Addr) {
		seg.send(nil, claimOf(a, otherMAC))
		synctest.Wait()
	}
	for _, a := range []netip.Addr{vip4, vip6} {
		for name, body := range map[string]func(t *testing.T, s *speaker, seg *lan){
			"is never a start": func(t *testing.T, s *speaker, seg *lan) {
				have := s.set(t, yield(a))
				answers(t, seg, a)
				if len(have.Addrs) != 0 || len(s.nic.world()) != 0 {
					t.Errorf("have %v, sockets %v", have, s.nic.world())
				}
			},
			"ends when the new owner is heard": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, say(a))
				time.Sleep(time.Minute)
				mark := seg.rewind()
				have := s.set(t, yield(a))
				if st := have.Addrs[a]; !st.Yielding || len(st.Links) != 1 || !st.Since.Equal(time.Now()) || have.Quiet() {
					t.Errorf("have %+v", st)
				}
				time.Sleep(2900 * time.Millisecond)
				answers(t, seg, a, ourMAC)
				if n := len(seg.announcements(mark, a, ourMAC)); n != 0 {
					t.Errorf("announced %d times while yielding", n)
				}
				<-s.changed
				foreign(seg, a)
				answers(t, seg, a)
				time.Sleep(2 * tick)
				if have := s.Have(); !have.Quiet() || len(have.Addrs) != 0 || len(s.nic.world()) != 0 {
					t.Errorf("have %v, sockets %v", have, s.nic.world())
				}
				<-s.changed // would deadlock the bubble
				s.set(t, yield(a))
				answers(t, seg, a)
			},
			"of what waits for its turn is no start": func(t *testing.T, s *speaker, seg *lan) {
				many := []netip.Addr{}
				for i := range 1000 {
					many = append(many, netip.AddrFrom4([4]byte{1, 1, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{1, 14: byte(i >> 8), 15: byte(i)}))
				}
				p := say(append(many, a)...)
				if have := s.set(t, p); len(have.Addrs[a].Links) > 0 {
					t.Error("it does not wait: the test has lost its point")
				}
				p = say(many...)
				p.Addrs[a] = announce.L2{Links: []string{"eth0"}, Yield: true}
				s.set(t, p)
				time.Sleep(10 * time.Second)
				if n := len(seg.announcements(0, a, ourMAC)); n != 0 {
					t.Errorf("announced %d times", n)
				}
				answers(t, seg, a)
			},
			"says nothing any more": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, say(a))
				s.set(t, yield(a)) // amid the burst
				mark := seg.rewind()
				time.Sleep(2900 * time.Millisecond)
				answers(t, seg, a, ourMAC)
				if n := len(seg.announcements(mark, a, ourMAC)); n != 0 {
					t.Errorf("announced %d times while yielding", n)
				}
			},
			"is bounded": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, say(a))
				s.set(t, yield(a))
				time.Sleep(2 * time.Second)
				s.set(t, yield(a)) // does not begin again
				time.Sleep(999 * time.Millisecond)
				answers(t, seg, a, ourMAC)
				time.Sleep(2 * time.Millisecond)
				answers(t, seg, a)
			},
			"ends at once after a recent claim": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, say(a))
				foreign(seg, a)
				time.Sleep(1900 * time.Millisecond)
				answers(t, seg, a, ourMAC)
				if have := s.set(t, yield(a)); !have.Quiet() {
					t.Errorf("have %v", have)
				}
				answers(t, seg, a)
			},
			"does not end at once after an old claim": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, say(a))
				foreign(seg, a)
				time.Sleep(2100 * time.Millisecond)
				s.set(t, yield(a))
				answers(t, seg, a, ourMAC)
			},
			"is not ended by our own other link": func(t *testing.T, s *speaker, seg *lan) {
				p := say(a)
				p.Links = append(p.Links, cluster.Link{Name: "eth1", Index: 4, MAC: otherMAC, Up: false})
				s.set(t, p)
				q := yield(a)
				q.Links = p.Links
				s.set(t, q)
				foreign(seg, a)
				answers(t, seg, a, ourMAC)
			},
			"taken back": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, say(a))
				time.Sleep(time.Minute)
				s.set(t, yield(a))
				mark := seg.rewind()
				have := s.set(t, say(a))
				if have.Addrs[a].Yielding || len(seg.announcements(mark, a, ourMAC)) != 1 {
					t.Errorf("have %+v, announced %d times", have.Addrs[a], len(seg.announcements(mark, a, ourMAC)))
				}
				time.Sleep(10 * time.Second) // the old deadline must not bite
				answers(t, seg, a, ourMAC)
				if n := len(seg.announcements(mark, a, ourMAC)); n != 3 {
					t.Errorf("announced %d times, want a whole burst", n)
				}
				s.set(t, yield(a))
				time.Sleep(2 * time.Second)
				answers(t, seg, a, ourMAC)
			},
			"without links is on all of them": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, say(a))
				p := yield()
				p.Addrs[a] = announce.L2{Yield: true}
				s.set(t, p)
				answers(t, seg, a, ourMAC)
			},
			"ends with the plan": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, say(a))
				s.set(t, yield(a))
				s.set(t, say())
				answers(t, seg, a)
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

// TestHandover moves addresses between two nodes, whichever hears of it first: never do two answer, and where the old owner
// is told before the new one, never does nobody.
func TestHandover(t *testing.T) {
	for _, oldFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("old owner told first: %v", oldFirst), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seg := newLAN()
				left := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
				right := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
				rightLink := cluster.Link{Name: "eth0", Index: 9, MAC: otherMAC, Up: true}
				var addrs []netip.Addr
				for i := range 200 {
					addrs = append(addrs, netip.AddrFrom4([4]byte{10, 1, 1, byte(i)}), netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}))
				}
				left.set(t, say(addrs...))
				time.Sleep(10 * time.Second)
				if oldFirst {
					left.set(t, yield(addrs...))
				}
				right.set(t, planOf(rightLink, false, addrs...))
				for range 100 {
					for _, a := range addrs {
						if got := seg.ask(t, a, rest); oldFirst && len(got) != 1 {
							t.Fatalf("%s is answered by %v", a, got)
						}
					}
					time.Sleep(tick)
				}
				if !oldFirst {
					left.set(t, yield(addrs...))
				}
				for _, a := range addrs {
					answers(t, seg, a, otherMAC)
				}
				if !left.Have().Quiet() {
					t.Errorf("the old owner still answers")
				}
			})
		})
	}
}

// halves are two speakers that have had the same addresses for a minute, each on its half of a segment that is whole again.
func halves(t *testing.T, addrs []netip.Addr) (s, other *speaker, seg *lan, ours, theirs announce.L2Plan) {
	t.Helper()
	left, right := newLAN(), newLAN()
	s = startSpeaker(t, newNIC(map[string]*lan{"eth0": left}), Timings{})
	parted := newNIC(map[string]*lan{"eth0": right})
	other = startSpeaker(t, parted, Timings{})
	ours, theirs = say(addrs...), planOf(otherLink, false, addrs...)
	ours.Others, theirs.Others = []cluster.MAC{otherMAC}, []cluster.MAC{ourMAC}
	s.set(t, ours)
	other.set(t, theirs)
	time.Sleep(time.Minute + 300*time.Millisecond) // the two refresh at the same time, and not now
	parted.plug(left)
	return s, other, left, ours, theirs
}

// TestAYieldFindsWhoHasBeenThereAllAlong: the new owner knows of no partition, so it announces nothing.
func TestAYieldFindsWhoHasBeenThereAllAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addrs := many(100)
		_, other, seg, _, theirs := halves(t, addrs)
		theirs.Addrs = yield(addrs...).Addrs
		other.set(t, theirs)
		time.Sleep(100 * time.Millisecond)
		for _, a := range addrs {
			answers(t, seg, a, ourMAC)
		}
		if n := other.counters.ARP.Asks.Load() + other.counters.NDP.Asks.Load(); n > uint64(len(addrs)) {
			t.Errorf("asked %d times about %d addresses", n, len(addrs))
		}
	})
}

// TestAYieldIsTakenByWhoAsks: the new owner has given way, as the old one announced the addresses last.
func TestAYieldIsTakenByWhoAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addrs := many(20)
		s, other, seg, _, theirs := halves(t, addrs)
		theirs.Again = 1
		other.set(t, theirs)
		time.Sleep(100 * time.Millisecond)
		for _, a := range addrs {
			answers(t, seg, a, otherMAC)
		}
		theirs.Addrs = yield(addrs...).Addrs
		other.set(t, theirs)
		for range 60 {
			for _, a := range addrs {
				if got := seg.ask(t, a, rest); len(got) != 1 {
					t.Fatalf("%s is answered by %v", a, got)
				}
			}
			time.Sleep(tick)
		}
		for _, a := range addrs {
			answers(t, seg, a, ourMAC)
		}
		if !other.Have().Quiet() || len(s.Have().Addrs) != len(addrs) {
			t.Errorf("have %v and %v", other.Have(), s.Have())
		}
	})
}

func TestDefenceIsRateLimited(t *testing.T) {
	for _, a := range []netip.Addr{vip4, vip6} {
		synctest.Test(t, func(t *testing.T) {
			seg := newLAN()
			s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
			s.set(t, detecting(say(a), cluster.DetectWarn, false))
			time.Sleep(10 * time.Second)
			mark := seg.rewind()
			for range 1000 { // ten seconds of it
				seg.send(nil, claimOf(a, otherMAC))
				time.Sleep(10 * time.Millisecond)
			}
			if n := len(seg.announcements(mark, a, ourMAC)); n < 9 || n > 11 {
				t.Errorf("%s was defended %d times in 10 s", a, n)
			}
			answers(t, seg, a, ourMAC)
			if n := strings.Count(s.logged.String(), otherMAC.String()); n != 1 {
				t.Errorf("logged %d times", n)
			}
			if n := s.counters.of(cluster.FamilyOf(a)).Claims.Load(); n != 1000 {
				t.Errorf("%d claims counted", n)
			}
		})
	}
}

// TestDefenceDoesNotQueue: thousands of repeats are due, and a defence goes before them.
func TestDefenceDoesNotQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		addrs := []netip.Addr{vip4}
		for i := range 5000 {
			addrs = append(addrs, netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}))
		}
		s.set(t, say(addrs...))
		time.Sleep(4 * time.Second)
		mark := seg.rewind()
		seg.send(nil, claimOf(vip4, otherMAC))
		time.Sleep(50 * time.Millisecond)
		if len(seg.tape(mark)) < 20 {
			t.Error("no repeats wait: the test has lost its load")
		}
		if n := len(seg.announcements(mark, vip4, ourMAC)); n != 1 {
			t.Errorf("defended %d times within 50 ms", n)
		}
	})
}

// heldPort waits for the processor in the middle of sending an announcement, before it leaves and after.
type heldPort struct{ *lanPort }

func (p heldPort) Send(frame []byte) (time.Time, error) {
	time.Sleep(5 * time.Millisecond)
	left, err := p.lanPort.Send(frame)
	time.Sleep(5 * time.Millisecond)
	return left, err
}

func (p heldPort) Reply(frame []byte) error { return p.lanPort.Reply(frame) }

// TestEveryQuestionAmidAHandoverHasOneAnswer: what is asked before the announcement leaves is the old owner's, however long the new one
// has been about to send it; what is asked after it, the new one's.
func TestEveryQuestionAmidAHandoverHasOneAnswer(t *testing.T) {
	for _, addr := range []netip.Addr{vip4, vip6} {
		t.Run(addr.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seg := newLAN()
				old := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
				n := newNIC(map[string]*lan{"eth0": seg})
				next := New(Config{Open: func(l cluster.Link, f cluster.Family) (Port, error) {
					p, err := n.opener(l, f)
					return heldPort{p.(*lanPort)}, err
				}})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- next.Run(ctx) }()
				old.set(t, say(addr))
				time.Sleep(time.Minute)
				old.set(t, yield(addr))
				mark := seg.rewind()
				station := func(i int) cluster.MAC { return cluster.MAC{0x02, 0xbb, 0, 0, 0, byte(i)} }
				const questions = 100
				go func() {
					time.Sleep(500 * time.Microsecond)
					for i := range questions {
						seg.send(nil, question(t, addr, station(i)))
						time.Sleep(time.Millisecond)
					}
				}()
				time.Sleep(20 * time.Millisecond)
				link := link0
				link.MAC = otherMAC
				if _, err := next.Set(ctx, planOf(link, false, addr)); err != nil {
					t.Error(err)
				}
				time.Sleep(questions * time.Millisecond)
				answers := map[cluster.MAC][]cluster.MAC{}
				for _, f := range seg.tape(mark) {
					answers[cluster.MAC(f.frame[:6])] = append(answers[cluster.MAC(f.frame[:6])], cluster.MAC(f.frame[6:12]))
				}
				for i := range questions {
					if got := answers[station(i)]; len(got) != 1 {
						t.Errorf("question %d is answered by %v", i, got)
					}
				}
				if first, last := answers[station(0)], answers[station(questions-1)]; slices.Equal(first, last) {
					t.Errorf("it was not handed over: %v", last)
				}
				cancel()
				<-done
			})
		})
	}
}
