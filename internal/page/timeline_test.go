package page

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/internal/kube"
)

func TestTimeline(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	begun := time.Unix(1000, 0)
	line := newTimeline()
	say := func(after time.Duration, one, two []netip.Addr) {
		line.see([]kube.Said{{Node: "node-1", Owned: one}, {Node: "node-2", Owned: two}}, begun.Add(after))
	}
	say(0, []netip.Addr{a}, nil)
	say(time.Second, []netip.Addr{a}, []netip.Addr{b})
	say(2*time.Second, []netip.Addr{a}, []netip.Addr{a, b}) // a is handed over
	say(3*time.Second, nil, []netip.Addr{a, b})
	say(4*time.Second, nil, nil)
	say(6*time.Second, []netip.Addr{b}, nil)
	var got []string
	for _, e := range line.newest(10) {
		got = append(got, fmt.Sprintf("%v %s %q to %q %.0f", e.At.Sub(begun), e.Address, e.From, e.To, e.Silent))
	}
	slices.Sort(got)
	want := []string{
		`1s 192.0.2.2 "" to "node-2" 0`,
		`3s 192.0.2.1 "node-1" to "node-2" 0`,
		`4s 192.0.2.1 "node-2" to "" 0`,
		`4s 192.0.2.2 "node-2" to "" 0`,
		`6s 192.0.2.2 "" to "node-1" 2`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for i := range 2 * entriesAtMost {
		owned := []netip.Addr{a}
		if i%2 == 0 {
			say(time.Duration(i)*time.Minute, owned, nil)
		} else {
			say(time.Duration(i)*time.Minute, nil, owned)
		}
	}
	if n := len(line.newest(1 << 20)); n != entriesAtMost {
		t.Errorf("%d entries are kept", n)
	}
}
