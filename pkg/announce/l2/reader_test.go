package l2

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// TestReaderEndsYield: the question behind the claim in the same socket is the new owner's, however late the owner
// goroutine hears of it, and even if it cannot be told.
func TestReaderEndsYield(t *testing.T) {
	for _, f := range families() {
		for _, full := range []bool{false, true} {
			r, s, a := readerOf(f, 10)
			e := r.owned.Load().addrs[a]
			if !full {
				r.claims = make(chan claim, 10) // else there is room for the first claim only
			}
			r.frame(claimOf(a, otherMAC)) // while it is ours, a claim changes nothing
			r.frame(question(t, a, asker))
			e.mode.Store(ceding)
			r.frame(question(t, a, asker))
			if s.sent != 2 || e.mode.Load() != ceding {
				t.Fatalf("%s: %d replies to 2 questions, mode %d", f, s.sent, e.mode.Load())
			}
			r.frame(claimOf(a, otherMAC))
			r.frame(question(t, a, asker))
			if s.sent != 2 || e.mode.Load() != mute || r.missed.Load() != full {
				t.Errorf("%s: %d replies, mode %d, missed %v", f, s.sent, e.mode.Load(), r.missed.Load())
			}
			s.ago = late / 2
			r.frame(question(t, a, asker))
			if s.sent != 3 {
				t.Errorf("%s: a question that the claim has overtaken is not answered", f)
			}
			s.ago = 0
			e.ceased.Add(int64(time.Hour)) // as it looks when the clock was set back since
			r.frame(question(t, a, asker))
			if s.sent != 3 {
				t.Errorf("%s: the clock was set back, and what is another's is answered again", f)
			}
		}
	}
}

// TestReaderTellsSparingly: a storm of claims must not become a storm for the owner.
func TestReaderTellsSparingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, a := readerOf(cluster.IPv4, 1)
		claims := make(chan claim, 1000)
		r.claims = claims
		for range 1000 {
			r.frame(claimOf(a, otherMAC))
			time.Sleep(time.Millisecond)
		}
		if n := len(claims); n != 50 {
			t.Errorf("told of %d claims in 1 s", n)
		}
	})
}

// orderPort fails the test if an address is answered before it is announced. The owner goroutine calls Send, so it may look
// at what is the owner's.
type orderPort struct {
	*lanPort
	t     *testing.T
	a     **Announcer
	first map[netip.Addr]bool
}

func (p orderPort) Send(frame []byte) (time.Time, error) {
	for addr, v := range (*p.a).lines["eth0"].voices {
		// The second frame of a gain finds it answered: who yields has stopped at the first.
		if both := must(announcement(addr, ourMAC)); len(both) > 1 && bytes.Equal(both[1], frame) && v.ear.mode.Load() != answering {
			p.t.Errorf("%s is announced and not answered", addr)
		}
		if !bytes.Equal(claimOf(addr, ourMAC), frame) || p.first[addr] {
			continue
		}
		p.first[addr] = true
		if v.ear.mode.Load() != announcing {
			p.t.Errorf("%s is answered before it is announced", addr)
		}
		p.lan.Load().send(nil, question(p.t, addr, asker))
		synctest.Wait() // the question waits for the announcement
		if addr.Is6() && len(p.groups) == 0 {
			p.t.Errorf("%s is announced before its group is joined", addr)
		}
	}
	return p.lanPort.Send(frame)
}

func TestOrderOfAGain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		n := newNIC(map[string]*lan{"eth0": seg})
		var a *Announcer
		first := map[netip.Addr]bool{}
		a = New(Config{Open: func(l cluster.Link, f cluster.Family) (Port, error) {
			p, err := n.opener(l, f)
			return orderPort{p.(*lanPort), t, &a, first}, err
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		if _, err := a.Set(ctx, say(vip4, vip6)); err != nil {
			t.Error(err)
		}
		if len(first) != 2 {
			t.Errorf("announced %v", first)
		}
		time.Sleep(time.Millisecond)
		announced, answered := 0, 0
		for _, f := range seg.tape(0) {
			if cluster.MAC(f.frame[6:12]) != ourMAC {
				continue
			}
			if cluster.MAC(f.frame[:6]) != asker {
				announced++
				continue
			}
			if answered++; answered > announced {
				t.Error("a question is answered before the announcement")
			}
		}
		if answered != 2 {
			t.Errorf("%d of 2 questions that came in during an announcement were answered", answered)
		}
		cancel()
		<-done
	})
}

// slowPort takes as long to close as a kernel with much to do.
type slowPort struct{ *lanPort }

func (p slowPort) Close() error {
	err := p.lanPort.Close()
	time.Sleep(time.Hour)
	return err
}

// TestSlowCloseDelaysNothing: sockets of many links go, and what is gained meanwhile is announced within the tick.
func TestSlowCloseDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		n := newNIC(map[string]*lan{"eth0": seg})
		a := New(Config{Open: func(l cluster.Link, f cluster.Family) (Port, error) {
			p, err := n.opener(l, f)
			return slowPort{p.(*lanPort)}, err
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		start := time.Now()
		for i := range 20 { // each is a new link in the place of the old one
			link := link0
			link.Index += i
			if _, err := a.Set(ctx, planOf(link, false, vip4, vip6)); err != nil {
				t.Error(err)
			}
			answers(t, seg, vip4, ourMAC)
			answers(t, seg, vip6, ourMAC)
		}
		if took := time.Since(start); took >= tick {
			t.Errorf("20 moves of a link took %v", took)
		}
		cancel()
		<-done
	})
}

// TestTakenInTheMomentOfTakingBack: a reader has heard the new owner, and before it can say so the address is wanted again.
// It is gained, then, not kept: others must be told.
func TestTakenInTheMomentOfTakingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		a := New(Config{Open: newNIC(map[string]*lan{"eth0": seg}).opener})
		defer a.end()
		apply := func(p announce.L2Plan) *voice { // as Run does, in this goroutine
			t.Helper()
			if err := a.apply(p, time.Now()); err != nil {
				t.Fatal(err)
			}
			return a.lines["eth0"].voices[vip4]
		}
		apply(say(vip4))
		time.Sleep(time.Minute)
		old := apply(yield(vip4))
		seg.send(nil, claimOf(vip4, otherMAC)) // nobody takes what the reader tells
		synctest.Wait()
		if old.phase != yielding || old.ear.mode.Load() != mute {
			t.Fatalf("phase %d, mode %d", old.phase, old.ear.mode.Load())
		}
		mark := seg.rewind()
		if v := apply(say(vip4)); v == old || v.phase != live {
			t.Errorf("it is the same voice: %v, in phase %d", v == old, v.phase)
		}
		if n := len(seg.announcements(mark, vip4, ourMAC)); n != 1 {
			t.Errorf("announced %d times", n)
		}
		answers(t, seg, vip4, ourMAC)
		// A reader that has loaded the owned set a moment ago does not answer from it for long.
		v := apply(say(vip4))
		apply(say(vip6))
		if v.ear.mode.Load() != mute {
			t.Error("the voice that ended is not mute")
		}
	})
}

// TestManyYieldsEnd: claims of more addresses than the owner has room for all end their yields, and soon.
func TestManyYieldsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newLAN()
		s := startSpeaker(t, newNIC(map[string]*lan{"eth0": seg}), Timings{})
		addrs := many(3000)
		s.set(t, say(addrs...))
		time.Sleep(10 * time.Second)
		s.set(t, yield(addrs...))
		for _, a := range addrs {
			seg.send(nil, claimOf(a, otherMAC))
		}
		synctest.Wait()
		time.Sleep(3 * tick)
		if have := s.Have(); !have.Quiet() {
			t.Errorf("%d addresses are still answered", len(have.Addrs))
		}
	})
}

// brokenPort fails to read with an error that should pass, and never stops to.
type brokenPort struct {
	sink
	reads int
}

func (p *brokenPort) Read([]byte) (int, error) { p.reads++; return 0, unix.ENOBUFS }

func TestPassingErrorsDoNotLoop(t *testing.T) {
	r, _, _ := readerOf(cluster.IPv4, 1)
	p, deaths := &brokenPort{}, make(chan death, 1)
	r.port, r.deaths = p, deaths
	r.run()
	if d := <-deaths; p.reads != tooManyErrors || d.port != Port(p) || d.err == nil {
		t.Errorf("%d reads, death %+v", p.reads, d)
	}
}
