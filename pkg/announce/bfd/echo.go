package bfd

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The echo function, RFC 5880 section 6.8.9 and RFC 5881 section 4: packets that the peer's forwarding plane returns, as they are addressed to
// this node. They come in with this node's own address as their source, which its IP stack takes for a forgery; so they go through
// packet sockets. Nothing is returned by this package: a node says that it takes no echo packets.

// portEcho is the port of RFC 5881 section 4.
const portEcho = 3785

// echo is a session's part of it.
type echo struct {
	remoteRx time.Duration // what the peer can return at, at the shortest; 0 where it returns nothing
	sent     time.Time
	back     time.Time // when one came back last since the session is Up; zero before the first
}

// echoing reports whether echo packets are to be sent.
func (s *session) echoing() bool {
	return s.cfg.EchoInterval > 0 && s.state == Up && s.echo.remoteRx > 0
}

// echoInterval is what they are sent at before jitter.
func (s *session) echoInterval() time.Duration { return max(s.cfg.EchoInterval, s.echo.remoteRx) }

// echoDetected reports whether the path is watched by echo packets: from the first on that came back, as a peer may say that it returns them
// and its forwarding plane may not.
func (s *session) echoDetected() bool { return s.echoing() && !s.echo.back.IsZero() }

// forgetEcho has the path watched by echo packets only when one comes back again, where none are sent for a while.
func (s *session) forgetEcho() {
	if !s.echoing() {
		s.echo.back = time.Time{}
	}
}

// nextEcho is when the next one is to be sent, if any is.
func (s *session) nextEcho() (at time.Time, is bool) {
	return s.echo.sent.Add(time.Duration(s.jitter * float64(s.echoInterval()))), s.echoing()
}

// echoDeadline is when none has come back for too long, if that counts.
func (s *session) echoDeadline() (at time.Time, is bool) {
	return s.echo.back.Add(time.Duration(s.cfg.DetectMultiplier) * s.echoInterval()), s.echoDetected()
}

// returned notes that an echo packet came back.
func (s *session) returned(now time.Time) {
	if s.echoing() {
		s.echo.back = now
		s.announce() // control packets may come less often from now on
	}
}

// reflection is what a held session needs in the world to send echo packets, and to know its own again.
type reflection struct {
	index  int        // of the link that the peer is on
	own    netip.Addr // address of this node that the peer speaks to
	mac    [6]byte    // of the peer
	hasMAC bool
	secret [echoSecretLen]byte
	serial uint64 // of the last that was sent
	seen   uint64 // of the last that came back
	tryAt  time.Time
}

// An echo packet's payload: the session's discriminator, its secret, and a serial number.
const (
	echoSecretLen  = 16
	echoPayloadLen = 4 + echoSecretLen + 8
)

// reflects reports whether a session is to have a packet socket.
func (h *held) reflects() bool {
	return h.echoing() && !h.peer.Multihop && h.reflection.index > 0 && h.reflection.own.IsValid() && !h.reflection.own.IsLinkLocalUnicast()
}

// mirrorKey names a packet socket.
type mirrorKey struct {
	index int
	v6    bool
}

func (h *held) mirror() mirrorKey { return mirrorKey{h.reflection.index, h.peer.Remote.Is6()} }

// polish opens the packet sockets that sessions need, and closes those that none needs.
func (e *Engine) polish(now time.Time) {
	needed := map[mirrorKey]bool{}
	for _, h := range e.sessions {
		if !h.reflects() {
			continue
		}
		key := h.mirror()
		needed[key] = true
		if _, is := e.mirrors[key]; is || now.Before(h.reflection.tryAt) {
			continue
		}
		fd, err := openMirror(key)
		if err != nil {
			h.reflection.tryAt = now.Add(retry)
			e.log.Warn("BFD echo cannot run, will retry", "peer", h.peer, "error", err)
			continue
		}
		e.mirrors[key] = fd
	}
	for key, fd := range e.mirrors {
		if !needed[key] {
			_ = unix.Close(fd)
			delete(e.mirrors, key)
		}
	}
}

// look reads what has come in on the packet sockets.
func (e *Engine) look() {
	for key, fd := range e.mirrors {
		for range drain {
			n, from, err := unix.Recvfrom(fd, e.buffers.payload, unix.MSG_DONTWAIT)
			if err == unix.EAGAIN {
				break
			}
			if err != nil { // the link has gone down, or for good
				_ = unix.Close(fd)
				delete(e.mirrors, key)
				for _, h := range e.sessions {
					if h.mirror() == key {
						h.reflection.tryAt = time.Now().Add(retry)
					}
				}
				break
			}
			station, is := from.(*unix.SockaddrLinklayer)
			if d, sound := parseUDP(e.buffers.payload[:n], key.v6); is && sound {
				e.reflected(key, d, station, time.Now())
			}
		}
	}
}

// reflected takes in what came in on a packet socket: a control packet shows where its sender is on the link.
func (e *Engine) reflected(key mirrorKey, d udp, station *unix.SockaddrLinklayer, now time.Time) {
	for _, h := range e.sessions {
		if !h.reflects() || h.mirror() != key {
			continue
		}
		r := &h.reflection
		switch {
		case d.port == portSingleHop && d.from == h.peer.Remote.WithZone("") && d.ttl == maxTTL && station.Halen == 6:
			r.mac, r.hasMAC = [6]byte(station.Addr[:6]), true
		case d.port == portEcho && d.ttl >= maxTTL-1 && d.from == r.own && len(d.payload) == echoPayloadLen &&
			binary.BigEndian.Uint32(d.payload) == h.local && subtle.ConstantTimeCompare(d.payload[4:4+echoSecretLen], r.secret[:]) == 1:
			if serial := binary.BigEndian.Uint64(d.payload[4+echoSecretLen:]); serial > r.seen && serial <= r.serial {
				r.seen = serial
				h.returned(now)
			}
		}
	}
}

// reflect sends the echo packet that is due, if one is.
func (e *Engine) reflect(h *held, now time.Time) {
	at, is := h.nextEcho()
	if !is || now.Before(at) {
		return
	}
	h.echo.sent = now // or would have been
	fd, open := e.mirrors[h.mirror()]
	r := &h.reflection
	if !open || !r.hasMAC || !h.reflects() {
		return
	}
	if r.serial == 0 {
		_, _ = rand.Read(r.secret[:]) // never fails, crypto/rand
	}
	r.serial++
	payload := binary.BigEndian.AppendUint32(make([]byte, 0, echoPayloadLen), h.local)
	payload = append(payload, r.secret[:]...)
	payload = binary.BigEndian.AppendUint64(payload, r.serial)
	e.buffers.out = appendEcho(e.buffers.out[:0], r.own, payload)
	to := &unix.SockaddrLinklayer{Ifindex: r.index, Protocol: etherType(h.peer.Remote.Is6()), Halen: 6}
	copy(to.Addr[:], r.mac[:])
	if err := unix.Sendto(fd, e.buffers.out, unix.MSG_DONTWAIT, to); err != nil {
		h.packets.Failed.Add(1)
	}
}
