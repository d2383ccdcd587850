package config

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"
)

const rangeForms = "write a CIDR (192.0.2.0/24), a range (192.0.2.10-192.0.2.20) or one address (192.0.2.7)"

// ParseRange reads one entry of a pool's addresses: a CIDR, a range with both ends included, or one address. Host bits
// of a CIDR are ignored. The error says what to write instead.
func ParseRange(s string) (netipx.IPRange, error) {
	r, err := parseRange(s)
	if err != nil {
		return netipx.IPRange{}, err
	}
	for _, end := range []netip.Addr{r.From(), r.To()} {
		if !assignable(end) {
			return netipx.IPRange{}, fmt.Errorf("%q cannot be given to Services: %s is a loopback, link-local, multicast or unspecified address; use unicast addresses that your network routes", s, end)
		}
	}
	for _, p := range neverGiven() {
		if r.Overlaps(netipx.RangeOfPrefix(p)) {
			return netipx.IPRange{}, fmt.Errorf("%q holds %s, which no Service can have: write one range below it and one above", s, p)
		}
	}
	return r, nil
}

func parseRange(s string) (netipx.IPRange, error) {
	if first, last, isRange := strings.Cut(s, "-"); isRange {
		return parseEnds(s, strings.TrimSpace(first), strings.TrimSpace(last))
	}
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4In6() {
			return netipx.IPRange{}, fmt.Errorf("%q is not a set of addresses: %s", s, rangeForms)
		}
		if p.Bits() < 4 {
			return netipx.IPRange{}, fmt.Errorf("%q spans far more than any network has: write a longer prefix, such as a /24", s)
		}
		return netipx.RangeOfPrefix(p.Masked()), nil
	}
	return parseEnds(s, s, s)
}

func parseEnds(s, first, last string) (netipx.IPRange, error) {
	from, err1 := netip.ParseAddr(first)
	to, err2 := netip.ParseAddr(last)
	switch {
	case err1 != nil || err2 != nil || from.Zone() != "" || to.Zone() != "" || from.Is4In6() || to.Is4In6():
		return netipx.IPRange{}, fmt.Errorf("%q is not a set of addresses: %s", s, rangeForms)
	case from.Is4() != to.Is4():
		return netipx.IPRange{}, fmt.Errorf("%q mixes address families: both ends of a range must be IPv4, or both IPv6", s)
	case to.Less(from):
		return netipx.IPRange{}, fmt.Errorf("%q runs backwards: write %s-%s", s, to, from)
	}
	return netipx.IPRangeFrom(from, to), nil
}

// neverGiven are the networks that a range may lie around without an end in them: loopback, link-local, multicast, and IPv4
// addresses in IPv6 clothes.
func neverGiven() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254}), 16),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80}), 10),
	}
}

// assignable reports whether a host can be reached by the address at all.
func assignable(a netip.Addr) bool {
	limitedBroadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return a.IsGlobalUnicast() && a != limitedBroadcast
}
