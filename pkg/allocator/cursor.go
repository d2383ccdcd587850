package allocator

import (
	"net/netip"

	"go4.org/netipx"
)

// cursor walks the addresses of a pool upwards. Within a pass addresses are only taken, so it never has to look back, and
// filling a whole pool costs one walk, not one per address.
type cursor struct {
	ranges []netipx.IPRange
	at     int        // which range
	addr   netip.Addr // the next address to try; invalid at the start of a range
}

// next returns the first address, from where the cursor stands, that is free, and stays there: the caller takes it or
// leaves it.
func (c *cursor) next(free func(netip.Addr) bool) (netip.Addr, bool) {
	for ; c.at < len(c.ranges); c.at, c.addr = c.at+1, (netip.Addr{}) {
		r := c.ranges[c.at]
		if !c.addr.IsValid() {
			c.addr = r.From()
		}
		for {
			if free(c.addr) {
				return c.addr, true
			}
			if c.addr == r.To() {
				break
			}
			c.addr = c.addr.Next()
		}
	}
	return netip.Addr{}, false
}

// reset starts over, after an address was given back.
func (c *cursor) reset() { c.at, c.addr = 0, netip.Addr{} }
