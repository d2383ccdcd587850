package l2

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
)

func TestSpans(t *testing.T) {
	parse := func(texts ...string) (out []netip.Addr) {
		for _, s := range texts {
			out = append(out, addr(s))
		}
		return out
	}
	for _, c := range []struct {
		says  string
		addrs []netip.Addr
		want  []span
	}{
		{"none", nil, nil},
		{"neighbours are one", parse("0.0.0.2", "0.0.0.1", "0.0.0.3"), []span{{1, 3}}},
		{"others are not", parse("0.0.0.1", "0.0.0.3"), []span{{1, 1}, {3, 3}}},
		{"of IPv6 the end counts", parse("2001:db8::1", "2001:db9::2"), []span{{1, 2}}},
		{"both ends", parse("0.0.0.0", "255.255.255.255"), []span{{0, 0}, {1<<32 - 1, 1<<32 - 1}}},
	} {
		if got := spansOf(c.addrs, spansAtMost); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.says, got, c.want)
		}
	}
}

// TestSpansHoldAll: however the addresses lie, there are no more spans than may be, they are in order, and hold every address; and
// where the addresses have no more gaps than that, nothing else.
func TestSpansHoldAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		var addrs []netip.Addr
		has := map[uint32]bool{}
		most := 1 + rng.IntN(40)
		for range rng.IntN(300) {
			n := rng.Uint32N(1 << (3 + rng.IntN(29)))
			has[n] = true
			addrs = append(addrs, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n))))
		}
		spans := spansOf(addrs, most)
		if len(spans) > most {
			t.Fatalf("%d spans", len(spans))
		}
		var size uint64
		for i, s := range spans {
			size += uint64(s.to-s.from) + 1
			if s.from > s.to || i > 0 && s.from <= spans[i-1].to {
				t.Fatalf("%v", spans)
			}
		}
		for n := range has {
			if !slices.ContainsFunc(spans, func(s span) bool { return s.from <= n && n <= s.to }) {
				t.Fatalf("%d is not in %v", n, spans)
			}
		}
		runs := 0
		for n := range has {
			if !has[n-1] || n == 0 {
				runs++
			}
		}
		if runs <= most && size != uint64(len(has)) {
			t.Fatalf("%v hold %d more than they should", spans, size-uint64(len(has)))
		}
	}
}

// TestTheProgram runs the filter's comparisons in the virtual machine of package bpf, which lacks the kernel's extensions.
func TestTheProgram(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 300 {
		var spans []span
		for from := rng.Uint32N(50); len(spans) < rng.IntN(60); from += 2 + rng.Uint32N(9) {
			spans = append(spans, span{from, from + rng.Uint32N(2)})
		}
		raw, err := bpf.Assemble(append(program{}.among(4, spans).among(0, spans), refusal()))
		if err != nil {
			t.Fatal(err)
		}
		instructions, all := bpf.Disassemble(raw)
		vm, err := bpf.NewVM(instructions)
		if !all || err != nil {
			t.Fatal(err)
		}
		for range 200 {
			a, b := rng.Uint32N(600), rng.Uint32N(600)
			n, err := vm.Run(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, a), b))
			holds := func(x uint32) bool {
				return slices.ContainsFunc(spans, func(s span) bool { return s.from <= x && x <= s.to })
			}
			if err != nil || n > 0 != (holds(a) || holds(b)) {
				t.Fatalf("%d, %d among %v: %d, %v", a, b, spans, n, err)
			}
		}
	}
	for _, f := range families() {
		full := make([]span, spansAtMost)
		if program, err := filter(f, 1, full); err != nil || len(program) > 4096 {
			t.Errorf("%s: %d instructions, %v", f, len(program), err)
		}
	}
}
