package l2

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// span is a run of addresses by their last 32 bits, both ends included. Of IPv6 the rest is not looked at: what it lets in besides
// is found out by the lookup.
type span struct{ from, to uint32 }

// spansAtMost bounds the spans of a socket's filter. It looks through them by bisection, so what bounds them is the length of a program,
// 4,096 instructions.
const spansAtMost = 320

// spansInHaste bounds them while addresses come and go: the kernel needs a fifth of a millisecond for the program then, and not four.
const spansInHaste = 20

// spansOf returns the fewest spans that hold all addresses, ascending; where those are more than so many, the closest are joined.
// Addresses are given out from the lowest on, so those of a cluster lie close together.
func spansOf(addrs []netip.Addr, most int) []span {
	points := make([]uint32, 0, len(addrs))
	for _, a := range addrs {
		b := a.As16()
		points = append(points, binary.BigEndian.Uint32(b[12:]))
	}
	slices.Sort(points)
	points = slices.Compact(points)
	gap := narrowest(points, most)
	var spans []span
	for _, p := range points {
		if last := len(spans) - 1; last >= 0 && p-spans[last].to < gap {
			spans[last].to = p
			continue
		}
		spans = append(spans, span{p, p})
	}
	return spans
}

// narrowest returns the least distance of two neighbours at which they are not joined.
func narrowest(points []uint32, most int) uint32 {
	var gaps []uint32
	for i := 1; i < len(points); i++ {
		if gap := points[i] - points[i-1]; gap > 1 {
			gaps = append(gaps, gap)
		}
	}
	if len(gaps) < most {
		return 2
	}
	slices.SortFunc(gaps, func(a, b uint32) int { return cmp.Compare(b, a) })
	return gaps[most-1] + 1
}
