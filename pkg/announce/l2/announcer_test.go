package l2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// speaker is an Announcer with its machine, inside a synctest bubble.
type speaker struct {
	*Announcer
	nic      *nic
	counters *Counters
	logged   bytes.Buffer // read it when all is at rest
	changed  reconcile.Poke
	stop     func()
}

// rest returns once everything in the bubble is at rest. A reader that naps until an announcement is out (ours) is not, though
// synctest.Wait takes it for blocked.
func rest() {
	synctest.Wait()
	time.Sleep(20 * time.Microsecond)
	synctest.Wait()
}

// startSpeaker runs an Announcer until the test ends.
func startSpeaker(t *testing.T, n *nic, timings Timings) *speaker {
	t.Helper()
	s := &speaker{nic: n, counters: &Counters{}, changed: reconcile.NewPoke()}
	s.Announcer = New(Config{Open: n.opener, Timings: timings, Counters: s.counters, Changed: s.changed, Seed: 7,
		Log: slog.New(slog.NewTextHandler(&s.logged, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = func() {
		cancel()
		rest()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
			done <- nil
		default:
			t.Error("Run does not return")
		}
		if w := n.world(); len(w) > 0 {
			t.Errorf("sockets left behind: %v", w)
		}
	}
	t.Cleanup(s.stop)
	return s
}

// set applies a plan that is expected to hold and returns once everything is at rest.
func (s *speaker) set(t *testing.T, p announce.L2Plan) Have {
	t.Helper()
	have, err := s.Set(t.Context(), p)
	if err != nil {
		t.Fatalf("Set: %v", err)
	}
	synctest.Wait()
	return have
}

var link0 = cluster.Link{Name: "eth0", Index: 3, MAC: ourMAC, Up: true}

// say makes a plan for eth0 that answers for the addresses; yield makes one that yields them.
func say(addrs ...netip.Addr) announce.L2Plan { return planOf(link0, false, addrs...) }

func yield(addrs ...netip.Addr) announce.L2Plan { return planOf(link0, true, addrs...) }

func planOf(link cluster.Link, yield bool, addrs ...netip.Addr) announce.L2Plan {
	p := announce.L2Plan{Links: []cluster.Link{link}, Addrs: map[netip.Addr]announce.L2{}}
	for _, a := range addrs {
		p.Addrs[a] = announce.L2{Links: []string{link.Name}, Yield: yield}
	}
	return p
}

// answers fails the test unless exactly these stations answer for the address.
func answers(t *testing.T, l *lan, a netip.Addr, want ...cluster.MAC) {
	t.Helper()
	if got := l.ask(t, a, rest); !slices.Equal(got, want) {
		t.Errorf("%s is answered by %v, want %v", a, got, want)
	}
}

// announcements returns when an address was announced by a station since mark: request forms and advertisements.
func (l *lan) announcements(mark int, a netip.Addr, by cluster.MAC) []time.Time {
	first := claimOf(a, by)
	var out []time.Time
	for _, f := range l.tape(mark) {
		if slices.Equal(f.frame, first) {
			out = append(out, f.at)
		}
	}
	return out
}

func TestGainIsAnnouncedThenAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		start := time.Now()
		have := s.set(t, say(vip4, vip6))
		for _, a := range []netip.Addr{vip4, vip6} {
			if st := have.Addrs[a]; !slices.Equal(st.Links, []string{"eth0"}) || st.Yielding || !st.Since.Equal(start) || st.Missing != nil {
				t.Errorf("have %s: %+v", a, st)
			}
			answers(t, seg, a, ourMAC)
		}
		select {
		case <-s.changed:
		default:
			t.Error("nobody was told of the change")
		}
		if want := []string{"eth0/3 IPv4 " + ourMAC.String() + " []", "eth0/3 IPv6 " + ourMAC.String() + " [ff02::1:ff0a:b0c]"}; !slices.Equal(s.nic.world(), want) {
			t.Errorf("sockets %v, want %v", s.nic.world(), want)
		}
		// A burst of three: at once, after 100 ms, after 1 s, each within a quarter.
		time.Sleep(5 * time.Second)
		for _, a := range []netip.Addr{vip4, vip6} {
			at := seg.announcements(0, a, ourMAC)
			if len(at) != 3 || !at[0].Equal(start) || !within(at[1].Sub(at[0]), 100*time.Millisecond) || !within(at[2].Sub(at[1]), time.Second) {
				t.Errorf("%s was announced at %v, start %v", a, at, start)
			}
		}
		// Then a refresh.
		mark := seg.rewind()
		time.Sleep(10 * time.Minute)
		for _, a := range []netip.Addr{vip4, vip6} {
			at := seg.announcements(mark, a, ourMAC)
			if len(at) < 8 || len(at) > 13 {
				t.Errorf("%s was refreshed %d times in 10 minutes", a, len(at))
			}
			for i := range len(at) - 1 {
				if !within(at[i+1].Sub(at[i]), time.Minute) {
					t.Errorf("%s: refreshes are %v apart", a, at[i+1].Sub(at[i]))
				}
			}
		}
		c := s.counters
		if c.ARP.Requests.Load() != 1 || c.ARP.Replies.Load() != 1 || c.NDP.Requests.Load() != 1 || c.NDP.Replies.Load() != 1 {
			t.Errorf("counted %d/%d ARP and %d/%d NDP requests and replies", c.ARP.Requests.Load(), c.ARP.Replies.Load(), c.NDP.Requests.Load(), c.NDP.Replies.Load())
		}
	})
}

// within reports whether d is want give or take a quarter, and a tick for its turn.
func within(d, want time.Duration) bool { return d >= want*3/4 && d <= want*5/4+tick }

func TestLossEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		s.set(t, say(vip4, vip6))
		have := s.set(t, say(vip4))
		if _, ok := have.Addrs[vip6]; ok {
			t.Errorf("have still names %s", vip6)
		}
		answers(t, seg, vip6)
		answers(t, seg, vip4, ourMAC)
		mark := seg.rewind()
		time.Sleep(5 * time.Minute)
		if at := seg.announcements(mark, vip6, ourMAC); len(at) > 0 {
			t.Errorf("announced %d times after it was withdrawn", len(at))
		}
		if w := s.nic.world(); len(w) != 1 {
			t.Errorf("sockets %v, want the ARP one only", w)
		}
		have = s.set(t, announce.L2Plan{})
		if !have.Quiet() || len(s.nic.world()) != 0 {
			t.Errorf("have %+v, sockets %v", have, s.nic.world())
		}
	})
}

func TestThousandsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5000
		seg := newLAN()
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		var addrs []netip.Addr
		for i := range n {
			addrs = append(addrs, netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}))
		}
		start := time.Now()
		s.set(t, say(addrs...))
		for !s.allAnswered() {
			time.Sleep(tick)
		}
		if took := time.Since(start); took > 2700*time.Millisecond || took < 2*time.Second {
			t.Errorf("it took %v until the last of %d was answered", took, n)
		}
		answers(t, seg, addrs[n-1], ourMAC)
		// A newly gained address does not wait behind the repeats of the others.
		s.set(t, say(append(addrs, vip6)...))
		time.Sleep(2 * tick) // the last of the others may have had the last of the tokens
		answers(t, seg, vip6, ourMAC)
		time.Sleep(3 * time.Minute)
		// No window of 100 ms has more than both rates and their depths allow.
		tape := seg.tape(0)
		worst := 0
		for i, j := 0, 0; j < len(tape); j++ {
			for tape[j].at.Sub(tape[i].at) >= 100*time.Millisecond {
				i++
			}
			worst = max(worst, j-i+1)
		}
		if worst > 400+200+100+50+4 {
			t.Errorf("%d frames in 100 ms", worst)
		}
		if worst < 300 {
			t.Errorf("only %d frames in the busiest 100 ms: the test has lost its load", worst)
		}
		mark := seg.rewind()
		time.Sleep(5 * time.Minute)
		if per := float64(len(seg.tape(mark))) / 300; per < 130 || per > 200 {
			t.Errorf("%.0f frames/s of refresh", per)
		}
	})
}

// TestRefreshesComeTogether: thousands of addresses wake the segment about once a second, and each still comes about once a minute.
func TestRefreshesComeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		addrs := many(400)
		s.set(t, say(addrs...))
		time.Sleep(2 * time.Minute)
		mark := seg.rewind()
		time.Sleep(5 * time.Minute)
		moments, of := map[time.Time]int{}, map[string]int{}
		for _, f := range seg.tape(mark) {
			moments[f.at]++
			of[string(f.frame)]++
		}
		if len(moments) > 300 {
			t.Errorf("%d moments in five minutes", len(moments))
		}
		if len(of) != 2*len(addrs) {
			t.Errorf("%d frames, want two of each of %d addresses", len(of), len(addrs))
		}
		for _, n := range of {
			if n < 3 || n > 7 {
				t.Errorf("a frame came %d times", n)
			}
		}
	})
}

// TestSocketsAreToldExactlyWhenItIsCalm, and at once, if roughly, when addresses come or go.
func TestSocketsAreToldExactlyWhenItIsCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		n := newNIC(map[string]*lan{"eth0": seg})
		s := startSpeaker(t, n, Timings{})
		told := func(addrs int, exactly bool) {
			t.Helper()
			n.mu.Lock()
			defer n.mu.Unlock()
			seg.mu.Lock()
			defer seg.mu.Unlock()
			for p := range n.open {
				if p.family == cluster.IPv4 && (len(p.only) != addrs || p.exactly != exactly) {
					t.Errorf("told of %d addresses, exactly %t; want %d, %t", len(p.only), p.exactly, addrs, exactly)
				}
			}
			if len(n.open) == 0 {
				t.Error("there is no socket")
			}
		}
		addrs := many(3)
		s.set(t, say(addrs[0]))
		told(1, false)
		time.Sleep(calm / 2)
		s.set(t, say(addrs...))
		time.Sleep(calm / 2) // a second after the first one
		told(3, false)
		time.Sleep(calm/2 + tick)
		told(3, true)
		s.set(t, say(addrs[:2]...))
		told(2, false)
		time.Sleep(calm + tick)
		told(2, true)
		s.set(t, say(many(2+manyAtOnce)...))
		time.Sleep(tick)
		told(2+manyAtOnce, true)
	})
}

// TestLinksArePacedApart: what one link's segment can bear does not hold up another's.
func TestLinksArePacedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": newLAN(), "eth1": newLAN()}), Timings{})
		p := say()
		p.Links = append(p.Links, cluster.Link{Name: "eth1", Index: 4, MAC: otherMAC, Up: true})
		for i := range 2000 {
			p.Addrs[netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})] = announce.L2{Links: []string{"eth0", "eth1"}}
		}
		start := time.Now()
		s.set(t, p)
		for !s.allAnswered() {
			time.Sleep(tick)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v until all were answered on both links", took)
		}
	})
}

func (s *speaker) allAnswered() bool {
	for _, st := range s.Have().Addrs {
		if len(st.Missing) > 0 {
			return false
		}
	}
	return true
}

func TestLinkChanges(t *testing.T) {
	down, again, recoloured := link0, link0, link0
	down.Up = false
	again.Index = 17
	recoloured.MAC = mac("02:00:00:00:00:99")
	for name, changed := range map[string]cluster.Link{"up again": link0, "created again": again, "another MAC": recoloured} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seg := newLAN()
				s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
				s.set(t, say(vip4, vip6))
				time.Sleep(time.Minute)
				if name == "up again" {
					have := s.set(t, planOf(down, false, vip4, vip6))
					if st := have.Addrs[vip4]; len(st.Links) != 0 || !slices.Equal(st.Missing, []string{"eth0"}) || !have.Quiet() {
						t.Errorf("have on a link that is down: %+v", st)
					}
					answers(t, seg, vip4)
					if w := s.nic.world(); len(w) != 0 {
						t.Errorf("sockets on a link that is down: %v", w)
					}
				}
				mark := seg.rewind()
				s.set(t, planOf(changed, false, vip4, vip6))
				for _, a := range []netip.Addr{vip4, vip6} {
					answers(t, seg, a, changed.MAC)
					if n := len(seg.announcements(mark, a, changed.MAC)); n != 1 {
						t.Errorf("%s was announced %d times at once", a, n)
					}
				}
				for _, w := range s.nic.world() {
					if want := fmt.Sprintf("eth0/%d", changed.Index); w[:len(want)] != want {
						t.Errorf("socket %s on an old link", w)
					}
				}
			})
		})
	}
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg, seg1 := newLAN(), newLAN()
		n := newNIC(map[string]*lan{"eth0": seg, "eth1": seg1})
		s := startSpeaker(t, n, Timings{})
		p := say(vip4, vip6)
		p.Links = append(p.Links, cluster.Link{Name: "eth1", Index: 4, MAC: otherMAC, Up: true})
		p.Addrs[vip4] = announce.L2{Links: []string{"eth0", "eth1"}}

		// One link's sockets cannot be opened: the other one works, and have says so.
		n.set(n.noOpen, "eth1", errors.New("out of sockets"))
		have, err := s.Set(t.Context(), p)
		if err == nil || err.Error() != "link eth1: IPv4: out of sockets" {
			t.Errorf("Set: %v", err)
		}
		if st := have.Addrs[vip4]; !slices.Equal(st.Links, []string{"eth0"}) || !slices.Equal(st.Missing, []string{"eth1"}) {
			t.Errorf("have %+v", st)
		}
		answers(t, seg, vip4, ourMAC)
		answers(t, seg1, vip4)
		// It is tried again with backoff: a minute is not a hundred tries.
		before := n.opened()
		time.Sleep(time.Minute)
		if tries := n.opened() - before; tries < 5 || tries > 20 {
			t.Errorf("%d tries in a minute", tries)
		}
		n.set(n.noOpen, "eth1", nil)
		time.Sleep(13 * time.Second)
		answers(t, seg1, vip4, otherMAC)
		s.set(t, p)

		// A read error that passes changes nothing; one that does not has the socket opened anew, and announced.
		opened := n.opened()
		n.breakPorts("eth0", unix.ENOBUFS)
		time.Sleep(time.Minute)
		if n.opened() != opened {
			t.Error("a passing error had a socket opened")
		}
		for _, fatal := range []error{unix.ENETDOWN, unix.ENODEV, unix.EBADF, errors.New("no idea")} {
			time.Sleep(time.Minute)
			mark := seg.rewind()
			n.breakPorts("eth0", fatal)
			synctest.Wait()
			time.Sleep(2 * tick) // have is told at most once a tick
			if have := s.Have(); len(have.Addrs[vip6].Links) != 0 || !slices.Equal(have.Addrs[vip4].Links, []string{"eth1"}) {
				t.Errorf("%v: have %+v", fatal, have)
			}
			time.Sleep(200 * time.Millisecond)
			answers(t, seg, vip4, ourMAC)
			answers(t, seg, vip6, ourMAC)
			if len(seg.announcements(mark, vip6, ourMAC)) == 0 {
				t.Errorf("%v: not announced again", fatal)
			}
		}

		// A send that fails for good is as bad as a read.
		n.set(n.noSend, "eth0", unix.ENXIO)
		time.Sleep(2 * time.Minute)
		if have := s.Have(); len(have.Addrs[vip6].Links) != 0 {
			t.Errorf("have %+v", have.Addrs[vip6])
		}
		n.set(n.noSend, "eth0", nil)
		time.Sleep(13 * time.Second)
		answers(t, seg, vip6, ourMAC)

		// A group that cannot be joined is an error, but no reason to be silent; the next Set tries again.
		n.set(n.noGroups, "eth0", errors.New("no room"))
		n.breakPorts("eth0", unix.ENETDOWN)
		time.Sleep(30 * time.Second)
		if have, err := s.Set(t.Context(), p); err == nil || len(have.Addrs[vip6].Links) != 1 {
			t.Errorf("have %+v, error %v", have.Addrs[vip6], err)
		}
		n.set(n.noGroups, "eth0", nil)
		s.set(t, p)
	})
}

func TestBadAddressesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		have, err := s.Set(t.Context(), say(netip.Addr{}, addr("ff02::5"), addr("224.0.0.1"), addr("0.0.0.0"), addr("255.255.255.255"),
			addr("fe80::1%eth0"), netip.AddrFrom16(vip4.As16())))
		if err == nil || len(have.Addrs) != 1 {
			t.Errorf("have %v, error %v", have, err)
		}
		answers(t, seg, vip4, ourMAC) // the mapped form is the address
	})
}

func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		s.set(t, say(vip4))
		s.stop()
		answers(t, seg, vip4)
		if have, err := s.Set(t.Context(), say(vip4)); !errors.Is(err, ErrEnded) || len(have.Addrs) != 0 {
			t.Errorf("Set after the end: %v, %v", have, err)
		}
		// And one that nobody runs does not hold its caller for ever.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := New(Config{Open: s.nic.opener}).Set(ctx, say(vip4)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Set without Run: %v", err)
		}
	})
}
