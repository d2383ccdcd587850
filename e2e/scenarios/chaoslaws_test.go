package scenarios

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/probe"
)

// window is a stretch of time in which a law does not hold.
type window struct{ from, to time.Time }

func within(windows []window, at time.Time) bool {
	return slices.ContainsFunc(windows, func(w window) bool { return !at.Before(w.from) && at.Before(w.to) })
}

// answeredTwice are the questions that several machines answered. healed are the times after the segment was parted. Where an announcement of
// one of them crossed the segment together with the question, both may answer (docs/architecture.md); those are counted.
func answeredTwice(answers, claims probe.Record, healed []window) (broken []string, crossed int) {
	for _, d := range answers.Doubles() {
		if within(healed, d.Asked) {
			continue
		}
		near := claims.Of(d.Addr).Kinds(probe.ARPAnnounce, probe.NAUnsolicited).Between(d.Asked.Add(-time.Second), d.Asked.Add(time.Second))
		if d.Crossed(near) {
			crossed++
			continue
		}
		told := []string{fmt.Sprintf("%s was asked for at %s", d.Addr, timeOfDay(d.Asked))}
		for _, s := range d.Answers {
			told = append(told, fmt.Sprintf("answered for by %s after %v", s.MAC, s.Time.Sub(d.Asked)))
		}
		for _, s := range near {
			told = append(told, fmt.Sprintf("announced by %s after %v", s.MAC, s.Time.Sub(d.Asked)))
		}
		broken = append(broken, strings.Join(told, ", "))
	}
	return broken, crossed
}

// crossing is how long an announcement may be under way between processors, and be late on the observer's record.
const crossing = 50 * time.Millisecond

// overruled are the answers of machines after another one had announced the address: who announces last has it.
func overruled(answers, claims probe.Record, except []window) []string {
	var broken []string
	announced := map[netip.Addr]probe.Record{}
	for _, s := range claims.Kinds(probe.ARPAnnounce, probe.NAUnsolicited) {
		announced[s.Addr] = append(announced[s.Addr], s)
	}
	for _, s := range answers {
		if within(except, s.Asked) || within(except, s.Time) {
			continue
		}
		all := announced[s.Addr]
		last, _ := slices.BinarySearchFunc(all, s.Asked.Add(-crossing), func(a probe.Sighting, at time.Time) int { return a.Time.Compare(at) })
		if last == 0 || all[last-1].MAC == s.MAC {
			continue
		}
		after := slices.ContainsFunc(all[last:], func(a probe.Sighting) bool { return a.MAC == s.MAC && !a.Time.After(s.Time.Add(crossing)) })
		if !after {
			broken = append(broken, fmt.Sprintf("%s was asked for at %s and answered for by %s, though %s had announced it %v before",
				s.Addr, timeOfDay(s.Asked), s.MAC, all[last-1].MAC, s.Asked.Sub(all[last-1].Time).Round(time.Millisecond)))
		}
	}
	return broken
}

// silence is a time in which nobody answered for an address.
type silence struct {
	addr netip.Addr
	probe.Gap
}

func (s silence) String() string {
	return fmt.Sprintf("%s for %v from %s", s.addr, s.Length().Round(time.Millisecond), timeOfDay(s.From))
}

// silences are the longest for each address outside the windows in which time cannot be told, the longest first.
func silences(answers probe.Record, addrs []netip.Addr, from, to time.Time, except []window) []silence {
	var all []silence
	for _, a := range addrs {
		of, begin := answers.Of(a), from
		longest := silence{addr: a}
		for _, w := range append(slices.Clone(except), window{to, to}) {
			if w.from.After(begin) {
				if g := of.LongestGap(begin, w.from); g.Length() > longest.Length() {
					longest.Gap = g
				}
			}
			if w.to.After(begin) {
				begin = w.to
			}
		}
		all = append(all, longest)
	}
	slices.SortFunc(all, func(a, b silence) int { return int(b.Length() - a.Length()) })
	return all
}

func timeOfDay(at time.Time) string { return at.Format("15:04:05.000") }

func TestTheLawsOfChaosKnowRightFromWrong(t *testing.T) {
	a, began := netip.MustParseAddr("192.0.2.1"), time.Now()
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	answer := func(ms int, mac string) probe.Sighting {
		return probe.Sighting{Time: at(ms + 1), Addr: a, MAC: mac, Kind: probe.ARPReply, Asked: at(ms)}
	}
	says := func(ms int, mac string) probe.Sighting {
		return probe.Sighting{Time: at(ms), Addr: a, MAC: mac, Kind: probe.ARPAnnounce}
	}
	except := []window{{at(5000), at(8000)}}
	for _, c := range []struct {
		name            string
		answers, claims probe.Record
		want            string // a part of the one breach
	}{
		{"one after the other", probe.Record{answer(0, "x"), answer(500, "y")}, probe.Record{says(-9, "x"), says(400, "y")}, ""},
		{"both", probe.Record{answer(0, "x"), answer(0, "y")}, nil, "answered for by y"},
		{"both as an announcement is under way", probe.Record{answer(400, "x"), answer(400, "y")}, probe.Record{says(401, "y")}, ""},
		{"both after an announcement", probe.Record{answer(420, "y"), answer(420, "x")}, probe.Record{says(400, "y")}, "announced by y after -20ms"},
		{"both as the segment heals", probe.Record{answer(6000, "x"), answer(6000, "y")}, nil, ""},
		{"the one before goes on", probe.Record{answer(500, "x")}, probe.Record{says(0, "x"), says(400, "y")}, "y had announced it 100ms before"},
		{"the one before goes on as the segment heals", probe.Record{answer(5500, "x")}, probe.Record{says(0, "x"), says(5100, "y")}, ""},
		{"a question as the announcement is under way", probe.Record{answer(430, "x")}, probe.Record{says(0, "x"), says(400, "y")}, ""},
		{"the one before has it again", probe.Record{answer(900, "x")}, probe.Record{says(0, "x"), says(400, "y"), says(800, "x")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			broken, _ := answeredTwice(c.answers, c.claims, except)
			broken = append(broken, overruled(c.answers, c.claims, except)...)
			if (c.want == "") != (len(broken) == 0) || !strings.Contains(strings.Join(broken, "\n"), c.want) {
				t.Errorf("%q, want %q", broken, c.want)
			}
		})
	}
	quiet := silences(probe.Record{answer(0, "x"), answer(300, "x"), answer(4900, "x"), answer(9000, "y")}, []netip.Addr{a}, at(0), at(9500), except)
	if got := quiet[0].Length().Round(100 * time.Millisecond); got != 4600*time.Millisecond {
		t.Errorf("the longest silence is %v, want 4.6s: what is in the window does not count", got)
	}
	nested := []window{{at(100), at(8000)}, {at(50), at(6000)}}
	quiet = silences(probe.Record{answer(0, "x"), answer(9000, "y")}, []netip.Addr{a}, at(0), at(9500), nested)
	if got := quiet[0].Length().Round(100 * time.Millisecond); got != time.Second {
		t.Errorf("the longest silence is %v, want 1s: a window in another ends nothing", got)
	}
}
