package l2

import (
	"bytes"
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

func both() []netip.Addr { return []netip.Addr{vip4, vip6} }

// many returns n addresses of 10.9.0.0/16.
func many(n int) []netip.Addr {
	addrs := make([]netip.Addr, 0, n)
	for i := range n {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}))
	}
	return addrs
}

// frozen is a node that has announced addresses and then does not run any more, until it is thawed.
func frozen(t *testing.T, addrs ...netip.Addr) (seg *lan, s *speaker, thaw func()) {
	t.Helper()
	seg = newLAN()
	n := newNIC(map[string]*lan{"eth0": seg})
	s = startSpeaker(t, n, Timings{})
	s.set(t, say(addrs...))
	time.Sleep(10 * time.Second)
	return seg, s, n.freeze()
}

// TestLateQuestionsAreNotAnswered: what was asked before an address was announced was for its last owner to answer, and what
// was asked long ago may be another's by now.
func TestLateQuestionsAreNotAnswered(t *testing.T) {
	for _, f := range families() {
		for name, c := range map[string]struct {
			ago, announced time.Duration // before now
			answered       bool
		}{
			"asked just now":                          {ago: 0, announced: time.Hour, answered: true},
			"asked after the announcement":            {ago: 20 * time.Millisecond, announced: 30 * time.Millisecond, answered: true},
			"asked before the announcement":           {ago: 30 * time.Millisecond, announced: 20 * time.Millisecond},
			"asked too long ago":                      {ago: tooLate, announced: time.Hour},
			"announced in the future of a set clock":  {ago: 0, announced: -time.Hour, answered: true},
			"the same, and asked an hour before that": {ago: tooLate, announced: -time.Hour},
		} {
			synctest.Test(t, func(t *testing.T) {
				r, s, a := readerOf(f, 1)
				s.ago = c.ago
				r.owned.Load().addrs[a].from.Store(time.Now().Add(-c.announced).UnixNano())
				r.frame(question(t, a, asker))
				if (s.sent == 1) != c.answered || (r.counters.Late.Load() == 1) == c.answered {
					t.Errorf("%s, %s: %d replies, %d too late", f, name, s.sent, r.counters.Late.Load())
				}
			})
		}
	}
}

// TestALateQuestionWaitsForWhatCameInBehindIt: it is answered unless another has claimed the address since.
func TestALateQuestionWaitsForWhatCameInBehindIt(t *testing.T) {
	for _, a := range both() {
		for _, claimed := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				seg, s, thaw := frozen(t, a)
				mark := seg.rewind()
				seg.send(nil, question(t, a, asker)) // the reader has this one when it stops
				time.Sleep(tooLate / 2)
				seg.send(nil, question(t, a, asker))
				if claimed {
					seg.send(nil, claimOf(a, otherMAC))
				}
				time.Sleep(late)
				thaw()
				synctest.Wait()
				replies, c := 0, s.counters.of(cluster.FamilyOf(a))
				for _, f := range seg.tape(mark) {
					if cluster.MAC(f.frame[:6]) == asker && cluster.MAC(f.frame[6:12]) == ourMAC {
						replies++
					}
				}
				if want := map[bool]int{false: 2, true: 0}[claimed]; replies != want || c.Late.Load() != uint64(2-want) {
					t.Errorf("%s, claimed: %t: %d replies to two late questions, %d counted as not answered", a, claimed, replies, c.Late.Load())
				}
			})
		}
	}
}

// TestOvertakenWhileStopped: a node that did not run while another took its addresses over does not fight for them. It asks,
// and announces an address again when nobody answers any more.
func TestOvertakenWhileStopped(t *testing.T) {
	for _, a := range both() {
		synctest.Test(t, func(t *testing.T) {
			seg, s, thaw := frozen(t, a)
			seg.send(nil, question(t, a, asker))
			time.Sleep(time.Second)
			seg.send(nil, claimOf(a, otherMAC))
			time.Sleep(4 * time.Second)
			mark := seg.rewind()
			seg.send(nil, question(t, a, asker))
			thaw()
			synctest.Wait()
			if got := seg.ask(t, a, rest); len(got) != 0 {
				t.Errorf("%s: %v answer", a, got)
			}
			if n := len(seg.announcements(mark, a, ourMAC)); n != 0 {
				t.Errorf("%s: announced %d times", a, n)
			}
			if have := s.Have(); have.Overtaken != 1 {
				t.Errorf("%s: have is %+v", a, have)
			}
			s.set(t, say(a)) // the plan has not changed, as the news of the takeover is slower
			if n := len(seg.announcements(mark, a, ourMAC)); n != 0 {
				t.Errorf("%s: the same plan again, and it is announced", a)
			}
			time.Sleep(time.Second)
			answers(t, seg, a, ourMAC) // nobody answered when it was asked for
		})
	}
}

// TestOvertakenGivesWay: the address that was lost while the node was stopped is given up when the plan says so, and gained like
// any other when it is given back.
func TestOvertakenGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		n := newNIC(map[string]*lan{"eth0": seg})
		s := startSpeaker(t, n, Timings{})
		other := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		link := link0
		link.MAC = otherMAC
		s.set(t, say(vip4, vip6))
		time.Sleep(10 * time.Second)
		thaw := n.freeze()
		time.Sleep(time.Second)
		other.set(t, planOf(link, false, vip4, vip6))
		time.Sleep(4 * time.Second)
		thaw()
		time.Sleep(time.Second)
		for _, a := range both() {
			answers(t, seg, a, otherMAC)
			if got := s.Have().Addrs[a].Contested; got != otherMAC {
				t.Errorf("%s is contested by %s", a, got)
			}
		}
		s.set(t, yield(vip4, vip6))
		time.Sleep(time.Second)
		other.set(t, announce.L2Plan{Links: []cluster.Link{link}, Addrs: yield(vip4, vip6).Addrs})
		s.set(t, say(vip4, vip6))
		for _, a := range both() {
			answers(t, seg, a, ourMAC)
		}
	})
}

// TestManyOvertaken: more of them than there is room to tell are all given up.
func TestManyOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addrs := many(2000)
		seg, s, thaw := frozen(t, addrs...)
		for _, a := range addrs {
			seg.send(nil, claimOf(a, otherMAC))
		}
		time.Sleep(time.Second)
		thaw()
		synctest.Wait()
		time.Sleep(3 * tick)
		if have := s.Have(); have.Overtaken != len(addrs) || !have.Quiet() {
			t.Errorf("%d of %d were overtaken, quiet: %v", have.Overtaken, len(addrs), have.Quiet())
		}
	})
}

// TestReceivedIsWhenTheKernelHadIt: a frame that waits in the socket keeps the time at which it came in. The kernel begins to note
// times a moment after it has been asked to, so the first frames may have none.
func TestReceivedIsWhenTheKernelHadIt(t *testing.T) {
	near, far := newHost(t, "near"), newHost(t, "far")
	segment(t, near, far)
	for _, f := range families() {
		in, err := near.hearAll(near.link(t, "lan0"), f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close() })
		out := far.listen(t, f).port
		claim := claimOf(map[cluster.Family]netip.Addr{cluster.IPv4: real4, cluster.IPv6: real6}[f], far.link(t, "lan0").MAC)
		var told []string
		for noted := false; !noted; {
			before := time.Now()
			send(t, out, claim)
			sent := time.Now()
			time.Sleep(50 * time.Millisecond)
			for buf, n := make([]byte, ndpFrameMax), 0; !bytes.Equal(buf[:n], claim); { // the kernels say things of their own
				if n, err = in.Read(buf); err != nil {
					t.Fatal(err)
				}
			}
			at := in.Received()
			noted = !at.Before(before.Add(-time.Millisecond)) && !at.After(sent.Add(20*time.Millisecond))
			if told = append(told, fmt.Sprintf("sent %v, received %v later", sent, at.Sub(sent))); !noted && len(told) == 20 {
				t.Fatalf("%s: %s", f, strings.Join(told, "; "))
			}
		}
	}
}

// TestMore: a socket says whether there is more to be read.
func TestMore(t *testing.T) {
	near, far := newHost(t, "near"), newHost(t, "far")
	segment(t, near, far)
	in, err := near.hearAll(near.link(t, "lan0"), cluster.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	out := far.listen(t, cluster.IPv4).port
	for range 3 {
		send(t, out, claimOf(real4, far.link(t, "lan0").MAC))
	}
	time.Sleep(50 * time.Millisecond)
	var more []bool
	for range 3 {
		if _, err := in.Read(make([]byte, ndpFrameMax)); err != nil {
			t.Fatal(err)
		}
		more = append(more, in.More())
	}
	if !slices.Equal(more, []bool{true, true, false}) {
		t.Errorf("with two, one and no more: %v", more)
	}
}

// TestWhoWasStarvedAndAnnouncedBeforeItReadKeepsTheAddress: another has taken it over meanwhile, and ceased at the announcement. One of
// them has to answer, and only one.
func TestWhoWasStarvedAndAnnouncedBeforeItReadKeepsTheAddress(t *testing.T) {
	for _, a := range both() {
		synctest.Test(t, func(t *testing.T) {
			seg := newLAN()
			n := newNIC(map[string]*lan{"eth0": seg})
			s, other := startSpeaker(t, n, Timings{}), startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
			ours, theirs := say(a), planOf(otherLink, false, a)
			ours.Others, theirs.Others = []cluster.MAC{otherMAC}, []cluster.MAC{ourMAC}
			s.set(t, ours)
			time.Sleep(10 * time.Second)
			mark, thaw := seg.rewind(), n.freeze()
			seg.send(nil, question(t, a, asker)) // the reader has this one when it stops
			time.Sleep(150 * time.Millisecond)
			other.set(t, theirs)
			time.Sleep(10 * time.Millisecond)
			answers(t, seg, a, otherMAC)
			time.Sleep(late)
			ours.Again = 1
			s.set(t, ours)
			thaw()
			synctest.Wait()
			for _, f := range seg.tape(mark) {
				if cluster.MAC(f.frame[6:12]) == ourMAC && cluster.MAC(f.frame[:6]) == asker {
					t.Errorf("%s: answered what the other had answered", a)
				}
			}
			answers(t, seg, a, ourMAC)
			if have := s.Have(); have.Overtaken != 0 || len(have.Addrs[a].Links) != 1 {
				t.Errorf("have %+v", have)
			}
			time.Sleep(time.Minute)
			answers(t, seg, a, ourMAC)
		})
	}
}

// TestAClaimFromBeforeTheAnnouncementEndsNoYield: who made it has ceased at the announcement, and is about to announce the address anew.
func TestAClaimFromBeforeTheAnnouncementEndsNoYield(t *testing.T) {
	known := func(p announce.L2Plan, again int) announce.L2Plan {
		p.Others, p.Again = []cluster.MAC{otherMAC}, again
		return p
	}
	for _, a := range both() {
		for name, until := range map[string]func(t *testing.T, s *speaker, seg *lan){
			"read after it": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, known(say(a), 0))
				time.Sleep(10 * time.Second)
				thaw := s.nic.freeze()
				seg.send(nil, question(t, a, asker)) // the reader has this one when it stops
				time.Sleep(10 * time.Millisecond)
				seg.send(nil, claimOf(a, otherMAC))
				time.Sleep(10 * time.Millisecond)
				s.set(t, known(say(a), 1))
				s.set(t, known(yield(a), 1))
				thaw()
			},
			"read before it": func(t *testing.T, s *speaker, seg *lan) {
				s.set(t, known(take(link0, a), 0))
				seg.send(nil, claimOf(a, otherMAC))
				time.Sleep(900 * time.Millisecond)
				s.set(t, known(yield(a), 0))
			},
		} {
			synctest.Test(t, func(t *testing.T) {
				seg := newLAN()
				s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
				until(t, s, seg)
				synctest.Wait()
				for range 2 {
					if got := seg.ask(t, a, rest); !slices.Equal(got, []cluster.MAC{ourMAC}) {
						t.Errorf("%s, %s: answered by %v", a, name, got)
					}
					time.Sleep(time.Second)
				}
				seg.send(nil, claimOf(a, otherMAC))
				rest()
				answers(t, seg, a)
			})
		}
	}
}

// TestAnAnswerToAnOldQuestionTakesNothingAway: an owner that was starved answers what it was asked until another took its address over, and
// ceases then. The other one asked before it announced the address, and those answers are no news to it.
func TestAnAnswerToAnOldQuestionTakesNothingAway(t *testing.T) {
	for _, a := range both() {
		synctest.Test(t, func(t *testing.T) {
			seg, s, thaw := frozen(t, a)
			other := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
			ours, theirs := say(a), take(otherLink, a)
			ours.Others, theirs.Others = []cluster.MAC{otherMAC}, []cluster.MAC{ourMAC}
			s.set(t, ours)
			mark := seg.rewind()
			seg.send(nil, question(t, a, asker)) // the reader has this one when it stops
			other.set(t, theirs)
			time.Sleep(50 * time.Millisecond)
			thaw()
			synctest.Wait()
			late := 0
			for _, f := range seg.tape(mark) {
				if cluster.MAC(f.frame[6:12]) == ourMAC && cluster.MAC(f.frame[:6]) == otherMAC {
					late++
				}
			}
			if late == 0 {
				t.Errorf("%s: its questions were not answered late, so the test shows nothing", a)
			}
			for range 10 {
				answers(t, seg, a, otherMAC)
				time.Sleep(50 * time.Millisecond)
			}
			if have := s.Have().Addrs[a]; have.Contested != otherMAC || len(have.Links) > 0 {
				t.Errorf("the one that was starved has %+v", have)
			}
			if have := other.Have().Addrs[a]; len(have.Links) != 1 {
				t.Errorf("the other has %+v", have)
			}
		})
	}
}

// TestAClaimIsOlderByAnyClock: the kernel notes when a claim came in on a clock that may be set; a yield ends rather too early than not.
func TestAClaimIsOlderByAnyClock(t *testing.T) {
	for _, f := range families() {
		for ago, ends := range map[time.Duration]bool{0: true, 40 * time.Millisecond: true, 60 * time.Millisecond: false, -2 * time.Second: true, 2 * time.Second: true} {
			synctest.Test(t, func(t *testing.T) {
				r, s, a := readerOf(f, 1)
				o := *r.owned.Load()
				o.who.peers = map[cluster.MAC]struct{}{otherMAC: {}}
				r.owned.Store(&o)
				e := o.addrs[a]
				time.Sleep(time.Minute)
				e.mode.Store(ceding)
				e.last.Store(int64(time.Since(r.born) - 50*time.Millisecond))
				s.ago = ago
				r.frame(claimOf(a, otherMAC))
				if ended := e.mode.Load() == mute; ended != ends {
					t.Errorf("%s: announced 50ms ago, claimed %v ago, and the yield ended: %v", f, ago, ended)
				}
			})
		}
	}
}
