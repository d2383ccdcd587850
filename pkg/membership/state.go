package membership

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Key derives the 32-byte key that gossip is encrypted with from a secret of any length.
func Key(secret []byte) [32]byte { return sha256.Sum256(secret) }

// stateVersion is the version of the gossiped state. Versions are not mixed: a reader ignores what it does not know.
const stateVersion = 1

// state is what a speaker gossips of itself.
type state struct {
	Node string `json:"node"`
	// Epoch tells one run of a speaker from the next; memberlist spreads the current one as the member's metadata.
	Epoch uint64 `json:"epoch"`
	// Seq grows with every change within an epoch.
	Seq    uint64         `json:"seq"`
	Member cluster.Member `json:"member"`
}

// maxState bounds what a decoder takes: a hostile peer that has the key can still not exhaust memory.
const maxState = 64 << 10

// encode renders a state as a version byte and deflated JSON, which keeps a node with twenty links within one datagram.
func (s state) encode() ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte(stateVersion)
	w, err := flate.NewWriter(&buf, flate.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("packing the state: %w", err)
	}
	if err := json.NewEncoder(w).Encode(s); err != nil {
		return nil, fmt.Errorf("packing the state: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("packing the state: %w", err)
	}
	return buf.Bytes(), nil
}

// decode reads what encode wrote.
func decode(data []byte) (state, error) {
	if len(data) == 0 || data[0] != stateVersion {
		return state{}, fmt.Errorf("a state of an unknown version")
	}
	r := io.LimitReader(flate.NewReader(bytes.NewReader(data[1:])), maxState)
	var s state
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return state{}, fmt.Errorf("unpacking a state: %w", err)
	}
	return s, nil
}

func epochMeta(epoch uint64) []byte {
	return append([]byte{stateVersion}, binary.BigEndian.AppendUint64(nil, epoch)...)
}

func epochOf(meta []byte) (uint64, bool) {
	if len(meta) != 9 || meta[0] != stateVersion {
		return 0, false
	}
	return binary.BigEndian.Uint64(meta[1:]), true
}
