package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// retry is how often a socket that could not be opened is tried again.
const retry = time.Second

// drain is how many packets are read at a time from one socket before the sessions get their turn.
const drain = 512

// held is a session with what it needs in the world.
type held struct {
	*session
	peer    Peer
	packets *Packets
	mouth   *mouth
	problem string
	warned  string    // the problem that was logged last; empty again when a packet has been sent
	tryAt   time.Time // opening what could not be opened
	endAt   time.Time // of a session that is to end; zero for others
	logged  State

	reflection reflection
}

func (h *held) next() (time.Time, bool) {
	at, is := h.session.next()
	if h.problem != "" { // a session that waits for its peer has nothing else to do
		at, is = later(at, h.tryAt), true
	}
	if !h.endAt.IsZero() && (!is || h.endAt.Before(at)) {
		return h.endAt, true
	}
	return at, is
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// adjust makes the sessions those that are wanted.
func (e *Engine) adjust(now time.Time) {
	e.mu.Lock()
	e.waker.rest()
	want := maps.Clone(e.want)
	e.mu.Unlock()
	for peer, cfg := range want {
		h, is := e.sessions[peer]
		if !is {
			h = &held{peer: peer, packets: &Packets{}, session: newSession(cfg, e.discriminator(), rand.Float64, now), logged: Down}
			e.sessions[peer] = h
			continue
		}
		h.endAt = time.Time{}
		if h.cfg != cfg {
			h.configure(cfg, now)
		}
	}
	for peer, h := range e.sessions {
		if _, is := want[peer]; is || !h.endAt.IsZero() {
			continue
		}
		// By then the peer has heard of it, or has found out (RFC 5880 section 6.8.16).
		h.endAt = now.Add(time.Duration(h.cfg.DetectMultiplier) * max(h.txInForce, h.remoteRx))
		if h.remote == 0 {
			h.endAt = now
		}
		cfg := h.cfg
		cfg.AdminDown = true
		h.configure(cfg, now)
	}
	e.listen()
}

// discriminator draws one that no session has and nobody can guess, RFC 5880 section 6.8.1.
func (e *Engine) discriminator() uint32 {
	for {
		d := rand.Uint32()
		if _, taken := e.byDiscriminator(d); d != 0 && !taken {
			return d
		}
	}
}

func (e *Engine) byDiscriminator(d uint32) (*held, bool) {
	for _, h := range e.sessions {
		if h.local == d {
			return h, true
		}
	}
	return nil, false
}

// listen opens the sockets that sessions need to hear their peers, and closes those that none needs.
func (e *Engine) listen() {
	needed := map[earKey]bool{}
	for _, h := range e.sessions {
		needed[h.peer.ear()] = true
	}
	for key, ear := range e.ears {
		if !needed[key] {
			_ = unix.Close(ear.fd)
			delete(e.ears, key)
		}
	}
}

// hear reads what has come in.
func (e *Engine) hear() {
	for key, ear := range e.ears {
		for range drain {
			d, is, err := ear.read(e.buffers)
			if err != nil {
				e.counters.Unreadable.Add(1)
				e.log.Warn("a BFD socket failed, opening it again", "error", err)
				e.deafen(key, time.Now())
				break
			}
			if !is {
				break
			}
			e.take(ear, d, time.Now())
		}
	}
}

// deafen closes a socket that failed; it is opened again a little later.
func (e *Engine) deafen(key earKey, now time.Time) {
	_ = unix.Close(e.ears[key].fd)
	delete(e.ears, key)
	for _, h := range e.sessions {
		if h.peer.ear() == key {
			h.tryAt = now.Add(retry)
		}
	}
}

// take finds the session that a packet is of, RFC 5880 section 6.8.6 and RFC 5881 section 3.
func (e *Engine) take(ear *ear, d datagram, now time.Time) {
	p, err := parse(d.payload)
	if err != nil {
		e.counters.Malformed.Add(1)
		e.log.Debug("a BFD packet is malformed", "from", d.from, "error", err)
		return
	}
	h := e.sessionOf(ear, d, p)
	switch {
	case h == nil:
		e.counters.Unknown.Add(1)
		return
	case d.ttl < h.leastTTL():
		e.counters.TTL.Add(1)
		e.log.Debug("a BFD packet came from too far away", "from", d.from, "ttl", d.ttl, "least", h.leastTTL())
		return
	}
	h.packets.Received.Add(1)
	h.reflection.index, h.reflection.own = d.index, d.to
	if answer, is := h.receive(p, now); is {
		e.transmit(h, answer, now)
	}
}

// sessionOf is the session whose peer sent a packet, nil if there is none. A discriminator alone would let everybody who has seen one
// speak for the peer.
func (e *Engine) sessionOf(ear *ear, d datagram, p packet) *held {
	var elsewhere *held
	for _, h := range e.sessions {
		switch {
		case h.peer.Multihop != ear.multihop,
			h.peer.Remote.WithZone("") != d.from,
			h.peer.Remote.Zone() != "" && (h.mouth == nil || int(h.mouth.index) != d.index),
			p.YourDiscriminator != 0 && p.YourDiscriminator != h.local:
		case h.peer.Device == ear.device:
			return h
		case h.peer.Device == "": // what comes in on a device goes to the socket that is bound to it, if there is one
			elsewhere = h
		}
	}
	return elsewhere
}

func (h *held) leastTTL() int {
	if h.peer.Multihop {
		return int(h.cfg.MinimumTTL)
	}
	return maxTTL
}

// turn does what is due.
func (e *Engine) turn(now time.Time) {
	e.polish(now)
	for peer, h := range e.sessions {
		h.expire(now)
		if !now.Before(h.tryAt) {
			e.open(h, now)
		}
		if out, is := h.send(now); is {
			e.transmit(h, out, now)
		}
		e.reflect(h, now)
		if !h.endAt.IsZero() && !now.Before(h.endAt) {
			e.shut(h)
			delete(e.sessions, peer)
		}
		h.log(e)
	}
	e.publish()
}

// open opens what a session lacks to speak and to hear.
func (e *Engine) open(h *held, now time.Time) {
	key := h.peer.ear()
	if h.mouth != nil && e.ears[key] != nil {
		h.problem = ""
		return
	}
	problem := func(err error) {
		if h.problem = err.Error(); h.problem != h.warned {
			h.warned = h.problem
			e.log.Warn("BFD cannot run, will retry", "peer", h.peer, "error", err)
		}
		h.tryAt = now.Add(retry)
	}
	if e.ears[key] == nil {
		ear, err := key.open()
		if err != nil {
			problem(err)
			return
		}
		e.ears[key] = ear
	}
	if h.mouth == nil {
		m, err := e.openMouth(h.peer)
		if err != nil {
			problem(err)
			return
		}
		h.mouth = m
	}
	h.problem = ""
}

// openMouth finds a source port that no session has and no program, RFC 5881 section 4.
func (e *Engine) openMouth(peer Peer) (*mouth, error) {
	for range 100 {
		source := uint16(firstSource + rand.IntN(lastSource-firstSource+1))
		if e.ports[source] {
			continue
		}
		m, err := openMouth(peer, source)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err == nil {
			e.ports[source] = true
		}
		return m, err
	}
	return nil, errors.New("no source port from 49152 to 65535 is free")
}

func (e *Engine) transmit(h *held, p packet, now time.Time) {
	if h.mouth == nil {
		return
	}
	e.buffers.out = p.append(e.buffers.out[:0])
	err := h.mouth.send(e.buffers.out)
	switch {
	case err == nil:
		h.packets.Sent.Add(1)
		h.problem, h.warned = "", ""
		return
	case h.warned != err.Error():
		h.warned = err.Error()
		e.log.Warn("a BFD packet could not be sent", "peer", h.peer, "error", err)
	}
	h.problem = err.Error()
	h.packets.Failed.Add(1)
	// The device may be another of the same name by now, or the address have come back.
	e.shut(h)
	h.tryAt = now.Add(h.interval())
}

func (e *Engine) shut(h *held) {
	if h.mouth == nil {
		return
	}
	_ = unix.Close(h.mouth.fd)
	delete(e.ports, h.mouth.source)
	h.mouth = nil
}

func (h *held) log(e *Engine) {
	if h.state == h.logged {
		return
	}
	if h.state == Up || h.logged == Up {
		e.log.Info("a BFD session has changed", "peer", h.peer, "state", h.state, "why", h.diagnostic, "remote", h.remoteState,
			"interval", h.interval(), "detection", h.detection())
	}
	h.logged = h.state
}

// publish shows how the sessions stand, where that has changed.
func (e *Engine) publish() {
	have := make(map[Peer]Status, len(e.sessions))
	for peer, h := range e.sessions {
		if h.endAt.IsZero() {
			have[peer] = h.status()
		}
	}
	if old := e.have.Load(); old != nil && maps.Equal(*old, have) {
		return
	}
	e.have.Store(&have)
	e.changed()
}

func (h *held) status() Status {
	status := Status{State: h.state, Diagnostic: h.diagnostic, Since: h.since, Transitions: h.transitions,
		RemoteState: h.remoteState, RemoteDiagnostic: h.remoteDiagnostic,
		Interval: h.interval(), Detection: h.detection(), Problem: h.problem, Packets: h.packets}
	if h.echoDetected() {
		status.Echo = h.echoInterval()
	}
	return status
}

func (e *Engine) close() {
	for _, h := range e.sessions {
		e.shut(h)
	}
	for _, ear := range e.ears {
		_ = unix.Close(ear.fd)
	}
	for _, fd := range e.mirrors {
		_ = unix.Close(fd)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waker.close()
}

func native32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

func interfaceIndex(name string) (uint32, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("there is no interface %s", name)
	}
	return uint32(link.Index), nil
}
