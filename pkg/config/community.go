package config

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// BGPCommunity is a standard community of two 16-bit numbers (RFC 1997), or a large one of three 32-bit numbers (RFC 8092).
type BGPCommunity struct {
	Large  bool
	Values [3]uint32 // the third is 0 in a standard one
}

// GracefulShutdown is the community of routes that are about to go, RFC 8326.
func GracefulShutdown() BGPCommunity { return BGPCommunity{Values: [3]uint32{65535, 0}} }

func (c BGPCommunity) String() string {
	if c.Large {
		return fmt.Sprintf("large:%d:%d:%d", c.Values[0], c.Values[1], c.Values[2])
	}
	return fmt.Sprintf("%d:%d", c.Values[0], c.Values[1])
}

// Compare orders communities: standard ones first.
func (c BGPCommunity) Compare(o BGPCommunity) int {
	if c.Large != o.Large {
		if o.Large {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(c.Values[0], o.Values[0]), cmp.Compare(c.Values[1], o.Values[1]), cmp.Compare(c.Values[2], o.Values[2]))
}

// wellKnown returns the community that has a name everywhere: the registry "BGP Well-known Communities" of IANA.
func wellKnown(name string) (c BGPCommunity, is bool) {
	low, is := map[string]uint32{
		"graceful-shutdown":   0,     // RFC 8326
		"accept-own":          1,     // RFC 7611
		"llgr-stale":          6,     // RFC 9494
		"no-llgr":             7,     // RFC 9494
		"blackhole":           666,   // RFC 7999
		"no-export":           65281, // RFC 1997
		"no-advertise":        65282, // RFC 1997
		"no-export-subconfed": 65283, // RFC 1997
		"no-peer":             65284, // RFC 3765
	}[name]
	return BGPCommunity{Values: [3]uint32{65535, low}}, is
}

// ParseCommunity reads the number form of a community: 64512:100 or large:64512:1:2. The error says what to write.
func ParseCommunity(text string) (BGPCommunity, error) {
	numbers, large := strings.CutPrefix(text, "large:")
	parts, bits, form := strings.Split(numbers, ":"), 16, "two numbers up to 65535, such as 64512:100"
	c := BGPCommunity{Large: large}
	want := 2
	if large {
		bits, form, want = 32, "three numbers up to 4294967295, such as large:64512:1:2", 3
	}
	if len(parts) != want {
		return BGPCommunity{}, fmt.Errorf("%q is not a community: write %s", text, form)
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits)
		if err != nil {
			return BGPCommunity{}, fmt.Errorf("%q is not a community: write %s", text, form)
		}
		c.Values[i] = uint32(n)
	}
	return c, nil
}
