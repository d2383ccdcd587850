package allocator

import (
	"encoding/binary"
	"net/netip"

	"github.com/bellwether-lb/bellwether/pkg/config"
)

// What a slot holds when no Service holds its address.
const (
	free     int32 = 0
	keptBack int32 = -1 // kept for somebody who does not hold it now
)

// denseSize is the largest span that is kept as an array: a /15, or a /111 of IPv6. Larger ones are a map of what is taken.
const denseSize = 1 << 17

// slots are who holds the addresses of one span: free, keptBack, or 1 + the position of a Service.
type slots struct {
	pool     int // position in config.Pools
	from, to netip.Addr
	dense    []int32              // by offset from from; nil for a large span
	sparse   map[netip.Addr]int32 // of a large span
}

func newSlots(span config.Span) slots {
	s := slots{pool: span.Pool, from: span.From, to: span.To}
	fromHigh, fromLow := halves(span.From)
	toHigh, toLow := halves(span.To)
	if size := toLow - fromLow; fromHigh == toHigh && size < denseSize {
		s.dense = make([]int32, size+1)
	} else {
		s.sparse = map[netip.Addr]int32{}
	}
	return s
}

func halves(a netip.Addr) (high, low uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

func (s *slots) get(a netip.Addr) int32 {
	if s.dense == nil {
		return s.sparse[a]
	}
	return s.dense[s.offset(a)]
}

func (s *slots) put(a netip.Addr, who int32) {
	if s.dense == nil {
		s.sparse[a] = who
		return
	}
	s.dense[s.offset(a)] = who
}

func (s *slots) offset(a netip.Addr) uint64 {
	_, from := halves(s.from)
	_, at := halves(a)
	return at - from
}

// address is the inverse of offset, in a dense span.
func (s *slots) address(offset uint64) netip.Addr {
	b := s.from.As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+offset)
	a := netip.AddrFrom16(b)
	if s.from.Is4() {
		return a.Unmap()
	}
	return a
}

// cursor walks the free addresses of a pool's family upwards. It never has to look back, so filling a whole pool costs one
// walk, not one per address.
type cursor struct {
	spans  []int // of this pool and family, ascending
	at     int   // which of spans
	offset uint64
	addr   netip.Addr // instead of offset, in a large span; invalid at its start
}

// next returns the first free address from where the cursor stands, and stays there: the caller takes it or leaves it.
func (c *cursor) next(all []slots, avoidBuggy bool) (netip.Addr, bool) {
	for ; c.at < len(c.spans); c.at, c.offset, c.addr = c.at+1, 0, (netip.Addr{}) {
		s := &all[c.spans[c.at]]
		step := c.nextDense
		if s.dense == nil {
			step = c.nextSparse
		}
		if a, ok := step(s, avoidBuggy); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (c *cursor) nextDense(s *slots, avoidBuggy bool) (netip.Addr, bool) {
	for ; c.offset < uint64(len(s.dense)); c.offset++ {
		if s.dense[c.offset] != free {
			continue
		}
		if a := s.address(c.offset); !avoidBuggy || !buggy(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (c *cursor) nextSparse(s *slots, avoidBuggy bool) (netip.Addr, bool) {
	if !c.addr.IsValid() {
		c.addr = s.from
	}
	for ; c.addr.Compare(s.to) <= 0 && c.addr.IsValid(); c.addr = c.addr.Next() {
		if s.sparse[c.addr] == free && (!avoidBuggy || !buggy(c.addr)) {
			return c.addr, true
		}
	}
	return netip.Addr{}, false
}
