package l2

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func TestWhoHas(t *testing.T) {
	node, client := newHost(t, "node"), newHost(t, "client")
	segment(t, node, client)
	s, _ := node.speak(t, Timings{})
	setReal(t, s, onLAN(t, node, false, real4, real6))
	mac, from := node.link(t, "lan0").MAC, client.link(t, "lan0")
	from.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")}
	who := func(a string) (stations []cluster.MAC) {
		t.Helper()
		err := client.try(func() (err error) {
			stations, err = WhoHas(from, addr(a), 300*time.Millisecond)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		return stations
	}
	for _, a := range bothFamilies() {
		if got := who(a.String()); !slices.Equal(got, []cluster.MAC{mac}) {
			t.Errorf("%s is said to be at %v, want %s", a, got, mac)
		}
	}
	for _, nobodys := range []string{"192.0.2.199", "2001:db8::199"} {
		if got := who(nobodys); len(got) > 0 {
			t.Errorf("%s is said to be at %v, and nobody has it", nobodys, got)
		}
	}
	if _, err := WhoHas(cluster.Link{Name: "lan0"}, real4, time.Millisecond); err == nil {
		t.Error("a link without addresses is said to have asked")
	}
}
