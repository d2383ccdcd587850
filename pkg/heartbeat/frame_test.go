package heartbeat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func everyKind() []message {
	who := Peer{Node: "node-1.example", Link: "bond0.42"}
	return []message{
		{kind: ping, from: who, epoch: 1, seq: 2, nonce: 3},
		{kind: pong, from: who, epoch: 1 << 63, seq: 1 << 62, nonce: 1<<64 - 1},
		{kind: bye, from: Peer{Node: strings.Repeat("n", 253), Link: strings.Repeat("l", 15)}},
		{kind: call, from: who},
		{kind: hello, from: who, state: []byte("state"), accused: []accusation{{who: who, epoch: 7, fresh: true}, {epoch: 8}}},
		{kind: hello, from: who},
	}
}

func TestFrames(t *testing.T) {
	c := newCodec([]byte("secret"))
	for _, m := range everyKind() {
		frame := c.encode(&m, macOf(1), macOf(2))
		for _, padding := range []int{0, 46} {
			got, at, err := c.decode(append(bytes.Clone(frame), make([]byte, padding)...))
			if err != nil || at != macOf(1) {
				t.Fatalf("kind %d: from %s, %v", m.kind, at, err)
			}
			if diff := cmp.Diff(m, got, cmp.AllowUnexported(message{}, accusation{})); diff != "" {
				t.Errorf("kind %d: %s", m.kind, diff)
			}
		}
		if _, _, err := newCodec([]byte("another")).decode(frame); err == nil {
			t.Errorf("kind %d is believed under another key", m.kind)
		}
		for at := 6; at < len(frame); at++ { // the destination is not part of what is authenticated
			forged := bytes.Clone(frame)
			forged[at] ^= 1
			if _, _, err := c.decode(forged); err == nil {
				t.Errorf("kind %d is believed with byte %d changed", m.kind, at)
			}
		}
	}
}

// TestAFrameFits whatever there is to say: the freshest accusations are in it, and the state where there is room.
func TestAFrameFits(t *testing.T) {
	c := newCodec(nil)
	for _, n := range []int{1, 10, 300} {
		m := message{kind: hello, from: Peer{"a", "eth0"}, state: make([]byte, 1200)}
		for i := range n {
			m.accused = append(m.accused, accusation{who: Peer{Node: fmt.Sprintf("node-%d", i), Link: "eth0"}, epoch: uint64(i)})
		}
		frame := c.encode(&m, macOf(1), macOf(2))
		got, _, err := c.decode(frame)
		if err != nil || len(frame) > frameMax || len(got.accused) == 0 || got.accused[0] != m.accused[0] {
			t.Errorf("%d accusations: %d bytes, %d of them, %v", n, len(frame), len(got.accused), err)
		}
		if (len(got.state) > 0) != (n < 300) {
			t.Errorf("%d accusations: %d bytes of state", n, len(got.state))
		}
	}
}

// FuzzDecode: no frame brings the reader down, not even one with the right code.
func FuzzDecode(f *testing.F) {
	c := newCodec([]byte("secret"))
	for _, m := range everyKind() {
		f.Add(c.encode(&m, macOf(1), macOf(2)))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if _, _, err := c.decode(frame); err != nil && len(frame) > ethLen+4 && len(frame) < frameMax {
			signed := bytes.Clone(frame)
			binary.BigEndian.PutUint16(signed[12:], EtherType)
			signed[ethLen] = version
			binary.BigEndian.PutUint16(signed[ethLen+2:], uint16(len(signed)-ethLen))
			signed = append(signed, c.code(signed)...)
			m, _, err := c.decode(signed)
			if err == nil && len(m.accused) > 255 {
				t.Errorf("%d accusations", len(m.accused))
			}
		}
	})
}
