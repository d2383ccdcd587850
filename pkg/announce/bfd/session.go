package bfd

import (
	"time"
)

// slow is the least interval that a session announces while it is not Up, RFC 5880 section 6.8.3.
const slow = time.Second

// session is the state machine of RFC 5880 section 6.8 in asynchronous mode. It has no clock and no socket.
type session struct {
	cfg    Config
	random func() float64 // in [0, 1)

	state       State
	diagnostic  Diagnostic
	since       time.Time // of the state
	local       uint32    // discriminator
	transitions uint64    // to and from Up

	// What is announced. Longer intervals to send at, and shorter ones to be sent to, are in force only once the peer knows them
	// (section 6.8.3).
	desiredTx, requiredRx time.Duration
	txInForce, rxInForce  time.Duration
	polling, pollAgain    bool

	// What the peer said last.
	remote           uint32 // discriminator; 0 while it is unknown
	remoteState      State
	remoteDiagnostic Diagnostic
	remoteTx         time.Duration
	remoteRx         time.Duration
	remoteMultiplier uint8
	remoteDemand     bool
	heard            time.Time

	echo echo

	sent   time.Time
	jitter float64 // of the interval after sent, that is taken
	news   bool    // the next packet tells something that the last did not
}

func newSession(cfg Config, discriminator uint32, random func() float64, now time.Time) *session {
	s := &session{cfg: cfg, random: random, local: discriminator, state: Down, since: now, news: true}
	s.forget()
	s.desiredTx, s.requiredRx = s.intervals()
	s.txInForce, s.rxInForce = s.desiredTx, s.requiredRx
	if cfg.AdminDown {
		s.state, s.diagnostic = AdminDown, AdministrativelyDown
	}
	return s
}

// forget makes nothing known of the peer, RFC 5880 section 6.8.1.
func (s *session) forget() {
	s.remote, s.remoteState, s.remoteDemand = 0, Down, false
	s.remoteTx, s.remoteRx, s.remoteMultiplier = 0, time.Microsecond, 0
}

// intervals are what is to be announced.
func (s *session) intervals() (tx, rx time.Duration) {
	if s.state != Up {
		return max(s.cfg.TransmitInterval, slow), s.cfg.ReceiveInterval
	}
	rx = s.cfg.ReceiveInterval
	if s.echoDetected() {
		rx = max(rx, slow) // section 6.8.3
	}
	return s.cfg.TransmitInterval, rx
}

// announce announces other intervals, where they are others. RFC 5880 section 6.8.3.
func (s *session) announce() {
	tx, rx := s.intervals()
	if tx == s.desiredTx && rx == s.requiredRx {
		return
	}
	s.desiredTx, s.requiredRx, s.news = tx, rx, true
	if s.state == Up {
		s.txInForce, s.rxInForce = min(s.txInForce, tx), max(s.rxInForce, rx)
	} else {
		s.txInForce, s.rxInForce = tx, rx
	}
	// A Final may answer a poll from before this change (section 6.5).
	s.polling, s.pollAgain = true, s.polling
}

// answered ends a Poll Sequence.
func (s *session) answered() {
	if s.pollAgain {
		s.pollAgain, s.news = false, true
		return
	}
	s.polling = false
	s.txInForce, s.rxInForce = s.desiredTx, s.requiredRx
}

// become changes the state.
func (s *session) become(state State, why Diagnostic, now time.Time) {
	if state == Up || s.state == Up {
		s.transitions++
	}
	s.state, s.diagnostic, s.since, s.news = state, why, now, true
	if state != Up {
		s.polling, s.pollAgain = false, false
		s.echo.back = time.Time{}
	}
	s.announce()
	if state != Up {
		s.txInForce, s.rxInForce = s.desiredTx, s.requiredRx
	}
}

// configure takes other settings without a change of state, but for AdminDown.
func (s *session) configure(cfg Config, now time.Time) {
	down := s.cfg.AdminDown
	s.news = s.news || cfg.DetectMultiplier != s.cfg.DetectMultiplier
	s.cfg = cfg
	s.forgetEcho()
	switch {
	case cfg.AdminDown && !down:
		s.become(AdminDown, AdministrativelyDown, now)
	case !cfg.AdminDown && down:
		s.become(Down, NoDiagnostic, now)
	default:
		s.announce()
	}
}

// receive takes in a packet that is of this session, RFC 5880 section 6.8.6. If it polls, the answer is to be sent at once.
func (s *session) receive(p packet, now time.Time) (answer packet, answers bool) {
	s.remote, s.remoteState, s.remoteDiagnostic, s.remoteDemand = p.MyDiscriminator, p.State, p.Diagnostic, p.Demand
	s.remoteTx, s.remoteRx, s.remoteMultiplier = p.DesiredMinTx, p.RequiredMinRx, p.DetectMultiplier
	s.heard, s.echo.remoteRx = now, p.RequiredMinEchoRx
	s.forgetEcho()
	if s.polling && p.Final {
		s.answered()
	}
	if s.state == AdminDown {
		return packet{}, false
	}
	switch {
	case p.State == AdminDown:
		if s.state != Down {
			s.become(Down, NeighborSignaledDown, now)
		}
	case s.state == Down && p.State == Down:
		s.become(Init, NoDiagnostic, now)
	case s.state == Down && p.State == Init, s.state == Init && (p.State == Init || p.State == Up):
		s.become(Up, NoDiagnostic, now)
	case s.state == Up && p.State == Down:
		s.become(Down, NeighborSignaledDown, now)
	}
	if s.state == Up {
		s.announce() // the peer may have ceased to return echo packets
	}
	if !p.Poll {
		return packet{}, false
	}
	answer = s.packet()
	answer.Poll, answer.Final = false, true
	return answer, true
}

// packet is what there is to say, RFC 5880 section 6.8.7. The control plane of this node is where its routes are, so that its C bit
// is clear.
func (s *session) packet() packet {
	return packet{
		Diagnostic:        s.diagnostic,
		State:             s.state,
		Poll:              s.polling,
		DetectMultiplier:  s.cfg.DetectMultiplier,
		MyDiscriminator:   s.local,
		YourDiscriminator: s.remote,
		DesiredMinTx:      s.desiredTx,
		RequiredMinRx:     s.requiredRx,
	}
}

// interval is what packets are sent at before jitter, RFC 5880 section 6.8.2.
func (s *session) interval() time.Duration { return max(s.txInForce, s.remoteRx) }

// detection is how long the peer may be silent, RFC 5880 section 6.8.4; 0 before it has said anything.
func (s *session) detection() time.Duration {
	return time.Duration(s.remoteMultiplier) * max(s.rxInForce, s.remoteTx)
}

// deadline is when the peer has been silent for too long, if it speaks.
func (s *session) deadline() (at time.Time, is bool) {
	return s.heard.Add(s.detection()), s.remoteMultiplier > 0
}

// nextSend is when the next packet is to be sent, if any is. RFC 5880 section 6.8.7.
func (s *session) nextSend() (at time.Time, is bool) {
	switch {
	case s.cfg.Passive && s.remote == 0,
		s.remoteRx == 0,
		s.remoteDemand && s.state == Up && s.remoteState == Up && !s.polling && !s.news:
		return time.Time{}, false
	case s.news:
		return s.sent, true
	}
	return s.sent.Add(time.Duration(s.jitter * float64(s.interval()))), true
}

// next is when something is due, if anything is.
func (s *session) next() (at time.Time, is bool) {
	at, is = s.nextSend()
	for _, due := range []func() (time.Time, bool){s.deadline, s.nextEcho, s.echoDeadline} {
		if t, counts := due(); counts && (!is || t.Before(at)) {
			at, is = t, true
		}
	}
	return at, is
}

// expire notices that the peer has been silent for too long. Everything that has come in must have been received before.
func (s *session) expire(now time.Time) {
	if at, counts := s.echoDeadline(); counts && !now.Before(at) {
		s.become(Down, EchoFunctionFailed, now)
		return
	}
	deadline, speaks := s.deadline()
	if !speaks || now.Before(deadline) {
		return
	}
	s.forget()
	if s.state == Up || s.state == Init {
		s.become(Down, ControlDetectionTimeExpired, now)
	}
}

// send returns the packet that is due, if one is.
func (s *session) send(now time.Time) (out packet, is bool) {
	at, is := s.nextSend()
	if !is || now.Before(at) {
		return packet{}, false
	}
	// 75 to 100 % of the interval, and where a single loss ends the session 90 % at most (section 6.8.7).
	s.jitter = 0.75 + 0.25*s.random()
	if s.cfg.DetectMultiplier == 1 {
		s.jitter = 0.75 + 0.15*s.random()
	}
	s.sent, s.news = now, false
	return s.packet(), true
}
