package bfd

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const ms = time.Millisecond

func begin() time.Time { return time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) }

func config(tx, rx time.Duration, multiplier uint8) Config {
	return Config{TransmitInterval: tx, ReceiveInterval: rx, DetectMultiplier: multiplier}
}

// pair is two sessions and the way between them, in a time of its own.
type pair struct {
	now      time.Time
	ends     [2]*session
	delay    time.Duration
	lost     func(from int, p packet) bool
	underway []flight
	sent     [2][]mail // of each end, in order

	echoRx  time.Duration // what the second end says that it returns echo packets at
	returns bool          // whether it does
	echoes  []time.Time   // when those under way are back at the first end
}

type mail struct {
	at time.Time
	packet
}

type flight struct {
	to   int
	at   time.Time
	what packet
}

func newPair(a, b Config, seed uint64) *pair {
	p := &pair{now: begin(), delay: ms, lost: func(int, packet) bool { return false }}
	for i, cfg := range []Config{a, b} {
		p.ends[i] = newSession(cfg, uint32(i+1), rand.New(rand.NewPCG(seed, uint64(i))).Float64, p.now)
	}
	return p
}

func (p *pair) post(from int, what packet) {
	if from == 1 {
		what.RequiredMinEchoRx = p.echoRx
	}
	p.sent[from] = append(p.sent[from], mail{p.now, what})
	if !p.lost(from, what) {
		p.underway = append(p.underway, flight{1 - from, p.now.Add(p.delay), what})
	}
}

// turn does what is due now.
func (p *pair) turn() {
	for len(p.underway) > 0 && !p.underway[0].at.After(p.now) {
		f := p.underway[0]
		p.underway = p.underway[1:]
		if answer, is := p.ends[f.to].receive(f.what, p.now); is {
			p.post(f.to, answer)
		}
	}
	for len(p.echoes) > 0 && !p.echoes[0].After(p.now) {
		p.echoes = p.echoes[1:]
		p.ends[0].returned(p.now)
	}
	if at, is := p.ends[0].nextEcho(); is && !p.now.Before(at) {
		p.ends[0].echo.sent = p.now
		if p.returns {
			p.echoes = append(p.echoes, p.now.Add(2*p.delay))
		}
	}
	for i, s := range p.ends {
		s.expire(p.now)
		if out, is := s.send(p.now); is {
			p.post(i, out)
		}
	}
}

// run lets time pass, from one thing that is due to the next.
func (p *pair) run(d time.Duration) {
	end := p.now.Add(d)
	for {
		p.turn()
		next := end
		if len(p.underway) > 0 && p.underway[0].at.Before(next) {
			next = p.underway[0].at
		}
		if len(p.echoes) > 0 && p.echoes[0].Before(next) {
			next = p.echoes[0]
		}
		for _, s := range p.ends {
			if at, is := s.next(); is && at.Before(next) {
				next = at
			}
		}
		if !next.After(p.now) {
			if !end.After(p.now) {
				return
			}
			next = p.now.Add(time.Microsecond)
		}
		p.now = next
	}
}

func (p *pair) wantStates(t *testing.T, a, b State) {
	t.Helper()
	if p.ends[0].state != a || p.ends[1].state != b {
		t.Fatalf("the ends are %s and %s, want %s and %s", p.ends[0].state, p.ends[1].state, a, b)
	}
}

// since returns what an end sent after an instant.
func (p *pair) since(from int, at time.Time) []mail {
	var out []mail
	for _, m := range p.sent[from] {
		if m.at.After(at) {
			out = append(out, m)
		}
	}
	return out
}

func TestTheStateMachineOfRFC5880(t *testing.T) {
	for _, row := range []struct{ local, received, want State }{
		{AdminDown, AdminDown, AdminDown}, {AdminDown, Down, AdminDown}, {AdminDown, Init, AdminDown}, {AdminDown, Up, AdminDown},
		{Down, AdminDown, Down}, {Down, Down, Init}, {Down, Init, Up}, {Down, Up, Down},
		{Init, AdminDown, Down}, {Init, Down, Init}, {Init, Init, Up}, {Init, Up, Up},
		{Up, AdminDown, Down}, {Up, Down, Down}, {Up, Init, Up}, {Up, Up, Up},
	} {
		t.Run(fmt.Sprintf("%s receives %s", row.local, row.received), func(t *testing.T) {
			s := newSession(config(50*ms, 50*ms, 3), 1, rand.Float64, begin())
			s.become(row.local, NoDiagnostic, begin())
			s.receive(packet{State: row.received, MyDiscriminator: 2, YourDiscriminator: 1, DetectMultiplier: 3,
				DesiredMinTx: time.Second, RequiredMinRx: time.Second}, begin())
			if s.state != row.want {
				t.Errorf("it becomes %s, want %s", s.state, row.want)
			}
			if row.local != Down && row.want == Down && s.diagnostic != NeighborSignaledDown {
				t.Errorf("it says %q, want %q", s.diagnostic, NeighborSignaledDown)
			}
		})
	}
}

func TestASessionComesUpAndBothEndsUseWhatTheyAgreedOn(t *testing.T) {
	p := newPair(config(50*ms, 100*ms, 3), config(20*ms, 60*ms, 5), 1)
	p.run(3 * time.Second)
	p.wantStates(t, Up, Up)
	for i, want := range []struct{ interval, detection time.Duration }{
		{60 * ms, 5 * 100 * ms}, // sends every max(50, 60), and its peer sends five every max(100, 20)
		{100 * ms, 3 * 60 * ms}, // sends every max(20, 100), and its peer sends three every max(60, 50)
	} {
		if s := p.ends[i]; s.interval() != want.interval || s.detection() != want.detection {
			t.Errorf("end %d sends every %s and waits for %s, want %s and %s", i, s.interval(), s.detection(), want.interval, want.detection)
		}
	}
}

func TestPacketsAreJittered(t *testing.T) {
	for _, row := range []struct {
		multiplier uint8
		most       float64
	}{{3, 1.0}, {1, 0.9}} {
		p := newPair(config(100*ms, 100*ms, row.multiplier), config(100*ms, 100*ms, 3), 2)
		p.run(3 * time.Second)
		up := p.now
		p.run(60 * time.Second)
		sent := p.since(0, up)
		if len(sent) < 500 {
			t.Fatalf("only %d packets in a minute", len(sent))
		}
		least, most := 2.0, 0.0
		for i := 1; i < len(sent); i++ {
			gap := float64(sent[i].at.Sub(sent[i-1].at)) / float64(100*ms)
			least, most = min(least, gap), max(most, gap)
		}
		if least < 0.75 || most > row.most+1e-6 {
			t.Errorf("with a multiplier of %d packets are %.3f to %.3f intervals apart, want 0.75 to %.2f", row.multiplier, least, most, row.most)
		}
		if most-least < (row.most-0.75)*0.9 {
			t.Errorf("with a multiplier of %d packets are %.3f to %.3f intervals apart: that is no jitter", row.multiplier, least, most)
		}
	}
}

func TestASessionThatIsNotUpSendsOnceASecond(t *testing.T) {
	p := newPair(config(50*ms, 50*ms, 3), config(50*ms, 50*ms, 3), 3)
	p.lost = func(int, packet) bool { return true }
	p.run(time.Minute)
	p.wantStates(t, Down, Down)
	if n := len(p.sent[0]); n < 60 || n > 81 {
		t.Errorf("%d packets in a minute without a peer, want 60 to 81", n)
	}
	for _, m := range p.sent[0] {
		if m.DesiredMinTx != slow || m.YourDiscriminator != 0 {
			t.Fatalf("it says %+v, want that it sends every second, and no discriminator", m.packet)
		}
	}
}

func TestSilenceIsFoundOutWhenTheDetectionTimeIsOver(t *testing.T) {
	p := newPair(config(50*ms, 50*ms, 3), config(50*ms, 50*ms, 3), 4)
	p.run(3 * time.Second)
	p.wantStates(t, Up, Up)
	p.lost = func(from int, _ packet) bool { return from == 1 }
	p.run(5 * ms) // what is under way arrives
	heard := p.ends[0].heard
	p.run(heard.Add(150*ms).Sub(p.now) - 1)
	if p.ends[0].state != Up {
		t.Fatalf("it is %s before the detection time is over", p.ends[0].state)
	}
	p.run(1)
	if s := p.ends[0]; s.state != Down || s.diagnostic != ControlDetectionTimeExpired || s.remote != 0 {
		t.Errorf("it is %s, %q, with discriminator %d, want Down, %q, none", s.state, s.diagnostic, s.remote, ControlDetectionTimeExpired)
	}
	p.run(10 * ms)
	if s := p.ends[1]; s.state != Down || s.diagnostic != NeighborSignaledDown {
		t.Errorf("the other end is %s, %q, though it is told", s.state, s.diagnostic)
	}
	p.lost = func(int, packet) bool { return false }
	p.run(5 * time.Second)
	p.wantStates(t, Up, Up)
}

func TestALossOfFewerPacketsThanTheMultiplierIsNoFlap(t *testing.T) {
	p := newPair(config(50*ms, 50*ms, 3), config(50*ms, 50*ms, 3), 5)
	p.run(3 * time.Second)
	transitions := p.ends[0].transitions
	n := 0
	p.lost = func(int, packet) bool { n++; return n%6 >= 2 && n%6 <= 3 }
	p.run(time.Minute)
	p.wantStates(t, Up, Up)
	if p.ends[0].transitions != transitions {
		t.Errorf("it flapped")
	}
}

func TestOtherIntervalsAreInForceOnceThePeerKnows(t *testing.T) {
	p := newPair(config(50*ms, 100*ms, 3), config(50*ms, 50*ms, 3), 6)
	p.run(3 * time.Second)
	p.wantStates(t, Up, Up)
	transitions := p.ends[0].transitions
	finals := false
	p.lost = func(_ int, p packet) bool { return p.Final && !finals }
	p.ends[0].configure(config(400*ms, 20*ms, 3), p.now)
	asked := p.now
	p.run(time.Second)
	polls := 0
	for _, m := range p.since(0, asked.Add(-1)) {
		if m.DesiredMinTx != 400*ms || m.RequiredMinRx != 20*ms || !m.Poll {
			t.Fatalf("it says %+v, want a poll with the new intervals", m.packet)
		}
		polls++
	}
	if polls < 18 {
		t.Errorf("%d packets in a second: longer intervals were in force before the peer knew", polls)
	}
	if got := p.ends[0].detection(); got != 300*ms {
		t.Errorf("the detection time is %s before the peer knew, want 300ms", got)
	}
	finals = true
	p.run(time.Second)
	if p.ends[0].polling || p.ends[0].interval() != 400*ms || p.ends[0].detection() != 150*ms {
		t.Errorf("after the Final: polls %v, interval %s, detection time %s, want false, 400ms, 150ms",
			p.ends[0].polling, p.ends[0].interval(), p.ends[0].detection())
	}
	if p.ends[0].transitions != transitions {
		t.Error("a change of settings took the session down")
	}
	p.run(3 * time.Second)
	p.wantStates(t, Up, Up)
}

func TestAFinalOfAnEarlierPollDoesNotEndALater(t *testing.T) {
	p := newPair(config(50*ms, 50*ms, 3), config(50*ms, 50*ms, 3), 7)
	p.run(3 * time.Second)
	p.delay = 20 * ms
	p.ends[0].configure(config(200*ms, 50*ms, 3), p.now)
	p.run(10 * ms)
	p.ends[0].configure(config(700*ms, 50*ms, 3), p.now)
	p.run(31 * ms) // the first Final is here
	if got := p.ends[0].interval(); got != 50*ms {
		t.Errorf("it sends every %s after a Final to what it no longer says", got)
	}
	p.run(time.Second)
	if got := p.ends[0].interval(); got != 700*ms {
		t.Errorf("it sends every %s, want 700ms", got)
	}
}

func TestAdminDownIsToldAndIsNoFailure(t *testing.T) {
	p := newPair(config(50*ms, 50*ms, 3), config(50*ms, 50*ms, 3), 8)
	p.run(3 * time.Second)
	cfg := config(50*ms, 50*ms, 3)
	cfg.AdminDown = true
	p.ends[0].configure(cfg, p.now)
	p.run(5 * ms)
	p.wantStates(t, AdminDown, Down)
	if s := p.ends[1]; s.remoteState != AdminDown || s.remoteDiagnostic != AdministrativelyDown || s.diagnostic != NeighborSignaledDown {
		t.Errorf("the other end knows %s, %q and says %q", s.remoteState, s.remoteDiagnostic, s.diagnostic)
	}
	p.run(10 * time.Second)
	p.wantStates(t, AdminDown, Down)
	cfg.AdminDown = false
	p.ends[0].configure(cfg, p.now)
	p.run(3 * time.Second)
	p.wantStates(t, Up, Up)
}

// TestAPassiveSessionComesBackToItsSocket, though it has nothing to say before its peer speaks.
func TestAPassiveSessionComesBackToItsSocket(t *testing.T) {
	passive := config(50*ms, 50*ms, 3)
	passive.Passive = true
	h := &held{session: newPair(passive, passive, 9).ends[0], problem: "the port is taken", tryAt: time.Unix(2000, 0)}
	if at, is := h.next(); !is || !at.Equal(h.tryAt) {
		t.Errorf("it comes back at %v: %t", at, is)
	}
	h.problem = ""
	if at, is := h.next(); is {
		t.Errorf("all is well, and it comes back at %v", at)
	}
}

func TestAPassiveEndWaitsForItsPeer(t *testing.T) {
	passive := config(50*ms, 50*ms, 3)
	passive.Passive = true
	p := newPair(passive, passive, 9)
	p.run(10 * time.Second)
	if len(p.sent[0])+len(p.sent[1]) > 0 {
		t.Error("two passive ends spoke")
	}
	p = newPair(passive, config(50*ms, 50*ms, 3), 9)
	p.run(3 * time.Second)
	p.wantStates(t, Up, Up)
}

func TestAPeerThatWantsNothingGetsNothing(t *testing.T) {
	s := newSession(config(50*ms, 50*ms, 3), 1, rand.Float64, begin())
	s.receive(packet{State: Down, MyDiscriminator: 2, DetectMultiplier: 3, DesiredMinTx: time.Second}, begin())
	if _, is := s.send(begin()); is {
		t.Error("a packet is sent to a peer whose Required Min RX Interval is 0")
	}
	s.expire(begin().Add(4 * time.Second))
	if _, is := s.send(begin().Add(4 * time.Second)); !is {
		t.Error("nothing is sent after that peer has gone")
	}
}

func TestAPeerInDemandModeIsAnsweredButNotSentTo(t *testing.T) {
	p := newPair(config(50*ms, 50*ms, 3), config(50*ms, 50*ms, 3), 10)
	p.run(3 * time.Second)
	s, at := p.ends[0], p.now
	demand := p.ends[1].packet()
	demand.Demand = true
	s.receive(demand, at)
	s.send(at)
	if next, is := s.nextSend(); is {
		t.Errorf("the next packet is in %s", next.Sub(at))
	}
	demand.Poll = true
	if answer, is := s.receive(demand, at); !is || !answer.Final || answer.Poll {
		t.Errorf("a poll is answered by %+v, %v", answer, is)
	}
}

// TestEditsEndWhereAFreshStartDoes edits both ends at random over a way that loses packets.
func TestEditsEndWhereAFreshStartDoes(t *testing.T) {
	intervals := []time.Duration{10 * ms, 50 * ms, 100 * ms, 300 * ms, 1000 * ms, 2000 * ms}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 99))
		draw := func() Config {
			return config(intervals[r.IntN(len(intervals))], intervals[r.IntN(len(intervals))], uint8(2+r.IntN(4)))
		}
		last := [2]Config{draw(), draw()}
		p := newPair(last[0], last[1], seed)
		p.delay = time.Duration(r.IntN(20)) * ms
		p.lost = func(int, packet) bool { return r.IntN(4) == 0 }
		for range 20 {
			end := r.IntN(2)
			last[end] = draw()
			last[end].AdminDown = r.IntN(5) == 0
			p.ends[end].configure(last[end], p.now)
			p.run(time.Duration(r.IntN(3000)) * ms)
		}
		p.lost = func(int, packet) bool { return false }
		for end := range last {
			last[end].AdminDown = false
			p.ends[end].configure(last[end], p.now)
		}
		p.run(40 * time.Second)
		p.wantStates(t, Up, Up)
		fresh := newPair(last[0], last[1], seed)
		fresh.run(40 * time.Second)
		for i, s := range p.ends {
			f := fresh.ends[i]
			if s.interval() != f.interval() || s.detection() != f.detection() || s.polling {
				t.Fatalf("seed %d: end %d sends every %s, waits for %s, polls %v; after a fresh start %s, %s",
					seed, i, s.interval(), s.detection(), s.polling, f.interval(), f.detection())
			}
		}
	}
}
