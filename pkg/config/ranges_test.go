package config

import (
	"net/netip"
	"testing"
)

const (
	notASet    = " is not a set of addresses: write a CIDR (192.0.2.0/24), a range (192.0.2.10-192.0.2.20) or one address (192.0.2.7)"
	notRouted  = " is a loopback, link-local, multicast or unspecified address; use unicast addresses that your network routes"
	mixes      = " mixes address families: both ends of a range must be IPv4, or both IPv6"
	farTooMany = " spans far more than any network has: write a longer prefix, such as a /24"
)

func TestParseRangeReadsEveryForm(t *testing.T) {
	for _, c := range []struct{ text, from, to string }{
		{"192.0.2.0/24", "192.0.2.0", "192.0.2.255"},
		{"192.0.2.7/24", "192.0.2.0", "192.0.2.255"}, // host bits are ignored
		{"192.0.2.7/32", "192.0.2.7", "192.0.2.7"},
		{"10.0.0.0/8", "10.0.0.0", "10.255.255.255"},
		{"192.0.2.10-192.0.2.20", "192.0.2.10", "192.0.2.20"},
		{"192.0.2.10 - 192.0.2.20", "192.0.2.10", "192.0.2.20"},
		{"192.0.2.10-192.0.2.10", "192.0.2.10", "192.0.2.10"},
		{"192.0.2.250-192.0.3.5", "192.0.2.250", "192.0.3.5"},
		{"192.0.2.7", "192.0.2.7", "192.0.2.7"},
		{"2001:db8::/64", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"},
		{"2001:DB8::1-2001:db8::f", "2001:db8::1", "2001:db8::f"},
		{"2001:db8::7", "2001:db8::7", "2001:db8::7"},
		{"fd00::/8", "fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}, // unique local: routed where the operator says
		{"100.64.0.0/10", "100.64.0.0", "100.127.255.255"},
	} {
		r, err := ParseRange(c.text)
		if err != nil || r.From() != netip.MustParseAddr(c.from) || r.To() != netip.MustParseAddr(c.to) {
			t.Errorf("%q: got %v, %v; want %s-%s", c.text, r, err, c.from, c.to)
		}
	}
}

func TestParseRangeSaysWhatToWriteInstead(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", `""` + notASet},
		{" ", `" "` + notASet},
		{"web", `"web"` + notASet},
		{"192.0.2", `"192.0.2"` + notASet},
		{"192.0.2.256", `"192.0.2.256"` + notASet},
		{"192.0.2.1.5", `"192.0.2.1.5"` + notASet},
		{"192.0.02.1", `"192.0.02.1"` + notASet},
		{"192.0.2.*", `"192.0.2.*"` + notASet},
		{"192.0.2.0/33", `"192.0.2.0/33"` + notASet},
		{"192.0.2.0/", `"192.0.2.0/"` + notASet},
		{"192.0.2.0/-1", `"192.0.2.0/-1"` + notASet},
		{"192.0.2.0/255.255.255.0", `"192.0.2.0/255.255.255.0"` + notASet},
		{"/24", `"/24"` + notASet},
		{"192.0.2.0/24/24", `"192.0.2.0/24/24"` + notASet},
		{"192.0.2.1,192.0.2.2", `"192.0.2.1,192.0.2.2"` + notASet},
		{"192.0.2.1-", `"192.0.2.1-"` + notASet},
		{"-192.0.2.1", `"-192.0.2.1"` + notASet},
		{"-", `"-"` + notASet},
		{"192.0.2.1-9", `"192.0.2.1-9"` + notASet},
		{"192.0.2.1-192.0.2.5-192.0.2.9", `"192.0.2.1-192.0.2.5-192.0.2.9"` + notASet},
		{"192.0.2.0/24-192.0.3.0/24", `"192.0.2.0/24-192.0.3.0/24"` + notASet},
		{"192.0.2.1–192.0.2.9", `"192.0.2.1–192.0.2.9"` + notASet}, // an en dash, as word processors make it
		{"2001:db8::/129", `"2001:db8::/129"` + notASet},
		{"2001:db8:::1", `"2001:db8:::1"` + notASet},
		{"[2001:db8::1]", `"[2001:db8::1]"` + notASet},
		{"fe80::1%eth0", `"fe80::1%eth0"` + notASet},
		{"::ffff:192.0.2.1", `"::ffff:192.0.2.1"` + notASet},
		{"::ffff:192.0.2.0/120", `"::ffff:192.0.2.0/120"` + notASet},
		{"0.0.0.0/0", `"0.0.0.0/0"` + farTooMany},
		{"::/0", `"::/0"` + farTooMany},
		{"128.0.0.0/3", `"128.0.0.0/3"` + farTooMany},
		{"192.0.2.1-2001:db8::1", `"192.0.2.1-2001:db8::1"` + mixes},
		{"2001:db8::1-192.0.2.1", `"2001:db8::1-192.0.2.1"` + mixes},
		{"192.0.2.9-192.0.2.1", `"192.0.2.9-192.0.2.1" runs backwards: write 192.0.2.1-192.0.2.9`},
		{"2001:db8::9-2001:db8::1", `"2001:db8::9-2001:db8::1" runs backwards: write 2001:db8::1-2001:db8::9`},
		{"127.0.0.1", `"127.0.0.1" cannot be given to Services: 127.0.0.1` + notRouted},
		{"127.0.0.0/8", `"127.0.0.0/8" cannot be given to Services: 127.0.0.0` + notRouted},
		{"169.254.1.1", `"169.254.1.1" cannot be given to Services: 169.254.1.1` + notRouted},
		{"224.0.0.0/4", `"224.0.0.0/4" cannot be given to Services: 224.0.0.0` + notRouted},
		{"0.0.0.0", `"0.0.0.0" cannot be given to Services: 0.0.0.0` + notRouted},
		{"255.255.255.255", `"255.255.255.255" cannot be given to Services: 255.255.255.255` + notRouted},
		{"192.0.2.0-224.0.0.1", `"192.0.2.0-224.0.0.1" cannot be given to Services: 224.0.0.1` + notRouted},
		{"::1", `"::1" cannot be given to Services: ::1` + notRouted},
		{"::", `"::" cannot be given to Services: ::` + notRouted},
		{"fe80::/64", `"fe80::/64" cannot be given to Services: fe80::` + notRouted},
		{"ff02::1", `"ff02::1" cannot be given to Services: ff02::1` + notRouted},
		{"126.0.0.0-128.0.0.0", `"126.0.0.0-128.0.0.0" holds 127.0.0.0/8, which no Service can have: write one range below it and one above`},
		{"223.0.0.0-250.0.0.0", `"223.0.0.0-250.0.0.0" holds 224.0.0.0/4, which no Service can have: write one range below it and one above`},
		{"160.0.0.0/4", `"160.0.0.0/4" holds 169.254.0.0/16, which no Service can have: write one range below it and one above`},
		{"2001:db8::-ffff::1", `"2001:db8::-ffff::1" cannot be given to Services: ffff::1` + notRouted},
	} {
		r, err := ParseRange(c.text)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: got %v, %v\nwant %s", c.text, r, err, c.want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"192.0.2.0/24", "192.0.2.1-192.0.2.9", "2001:db8::7", "::ffff:192.0.2.1", "fe80::1%x", "0.0.0.0/0", "-", "/", "1.1.1.1 - 2.2.2.2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRange(text)
		if err != nil {
			if r.IsValid() {
				t.Errorf("%q: an error, and a range too: %v", text, r)
			}
			return
		}
		if !r.IsValid() || r.From().Is4() != r.To().Is4() || r.From().Is4In6() || r.From().Zone() != "" {
			t.Errorf("%q: %v is no range of one family", text, r)
		}
		for _, end := range []netip.Addr{r.From(), r.To()} {
			if !assignable(end) {
				t.Errorf("%q: nobody can be reached by %s", text, end)
			}
		}
		again, err := ParseRange(r.From().String() + "-" + r.To().String())
		if err != nil || again != r {
			t.Errorf("%q is %v, and that is read as %v, %v", text, r, again, err)
		}
	})
}
