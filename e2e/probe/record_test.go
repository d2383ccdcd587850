package probe

import (
	"net/netip"
	"testing"
	"time"
)

func TestLongestGap(t *testing.T) {
	zero := time.Unix(1000, 0)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	record := Record{{Time: at(10)}, {Time: at(20)}, {Time: at(90)}, {Time: at(95)}}
	for _, c := range []struct{ from, to, want int }{
		{0, 100, 70}, {0, 25, 10}, {95, 100, 5}, {20, 90, 70}, {30, 80, 50}, {200, 300, 100},
	} {
		if got := record.LongestGap(at(c.from), at(c.to)).Length(); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("from %d to %d: %s, want %d ms", c.from, c.to, got, c.want)
		}
	}
}

func TestDoublesCountsMachinesPerQuestion(t *testing.T) {
	a, b := netip.MustParseAddr("198.18.0.200"), netip.MustParseAddr("198.18.0.201")
	first, second := time.Unix(1, 0), time.Unix(2, 0)
	record := Record{
		{Addr: a, MAC: "x", Asked: first}, {Addr: a, MAC: "x", Asked: first}, // one machine twice
		{Addr: a, MAC: "y", Asked: second}, // moved between questions
		{Addr: b, MAC: "x", Asked: first}, {Addr: b, MAC: "y", Asked: first},
		{Addr: b, MAC: "z"}, // nobody asked
	}
	if d := record.Doubles(); len(d) != 1 || d[0].Addr != b || len(d[0].MACs) != 2 {
		t.Errorf("doubles: %v", d)
	}
}

func TestOutage(t *testing.T) {
	zero := time.Unix(1000, 0)
	outcomes := func(s string) (list []Outcome) {
		for i, c := range s {
			o := Outcome{Start: zero.Add(time.Duration(i) * time.Second)}
			if c == '-' {
				o.Err = "no answer"
			}
			list = append(list, o)
		}
		return list
	}
	for s, want := range map[string]int{"": 0, "+++": 0, "++--+": 3, "+-+--": 2, "---": 2, "-+++": 1, "+---+-+": 4} {
		if got := Outage(outcomes(s)).Length(); got != time.Duration(want)*time.Second {
			t.Errorf("%q: %s, want %d s", s, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 60))
	f.Fuzz(func(_ *testing.T, frame []byte) { decode(frame, time.Time{}) })
}
