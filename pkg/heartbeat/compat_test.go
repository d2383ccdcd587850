package heartbeat

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFramesOfOtherReleases: the frames of version 1 as they went out first. Speakers of other releases send and understand these, so
// a change of them is a new version, which is spoken only from the release after the one that understands it (docs/upgrades.md).
func TestFramesOfOtherReleases(t *testing.T) {
	who := Peer{Node: "node-1", Link: "eth0"}
	for _, one := range []struct {
		text string
		m    message
	}{
		{"02000000000202000000000188b501020028000000000000000100000000000000020000000000000003066e6f64652d31046574683000a4268b4698c16ed554b2fc471033b5", message{kind: ping, from: who, epoch: 1, seq: 2, nonce: 3}},
		{"02000000000202000000000188b501010045000000000000000400000000000000050000000000000000066e6f64652d31046574683001066e6f64652d320465746831010000000000000007000573746174650595c2289822046c76b3fa648ba28b1a", message{kind: hello, from: who, epoch: 4, seq: 5, state: []byte("state"), accused: []accusation{{who: Peer{Node: "node-2", Link: "eth1"}, epoch: 7, fresh: true}}}},
	} {
		text, m := one.text, one.m
		c := newCodec([]byte("a key"))
		frame := c.encode(&m, macOf(1), macOf(2))
		if got := hex.EncodeToString(frame); got != text {
			t.Errorf("kind %d goes out as %s, want %s", m.kind, got, text)
		}
		old, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := c.decode(old)
		if diff := cmp.Diff(m, got, cmp.AllowUnexported(message{}, accusation{})); err != nil || diff != "" {
			t.Errorf("kind %d is read as (+), %v: %s", m.kind, err, diff)
		}
	}
}
