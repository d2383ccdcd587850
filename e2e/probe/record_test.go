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

func TestAnAnnouncementThatCrossedAQuestionIsSeenAtItsTime(t *testing.T) {
	a, asked := netip.MustParseAddr("198.18.0.200"), time.Unix(1000, 0)
	at := func(us int) time.Time { return asked.Add(time.Duration(us) * time.Microsecond) }
	answer := func(us int, mac string) Sighting {
		return Sighting{Time: at(us), Addr: a, MAC: mac, Kind: ARPReply, Asked: asked}
	}
	says := func(us int, mac string) Sighting {
		return Sighting{Time: at(us), Addr: a, MAC: mac, Kind: ARPAnnounce}
	}
	elsewhere := says(100, "new")
	elsewhere.Addr = netip.MustParseAddr("198.18.0.201")
	soon, late := Record{answer(300, "old"), answer(900, "new")}, Record{answer(11_000, "old"), answer(11_900, "new")}
	for _, c := range []struct {
		name               string
		answers, announced Record
		want               bool
	}{
		{"nothing was announced", soon, nil, false},
		{"just before the question", soon, Record{says(-900, "new")}, true},
		{"before the question", soon, Record{says(-1100, "new")}, false},
		{"between the answers", soon, Record{says(600, "new")}, true},
		{"noted just after the first answer", soon, Record{says(1200, "new")}, true},
		{"after the first answer", soon, Record{says(1400, "new")}, false},
		{"answered late", late, Record{says(600, "new")}, false},
		{"by one that has not answered", soon, Record{says(600, "third")}, false},
		{"of another address", soon, Record{elsewhere}, false},
		{"three answered", append(Record{answer(100, "third")}, soon...), Record{says(600, "new")}, false},
	} {
		d := c.answers.Doubles()
		if len(d) != 1 {
			t.Fatalf("%s: %d doubles, want one", c.name, len(d))
		}
		if got := d[0].Crossed(c.announced); got != c.want {
			t.Errorf("%s: crossed %t, want %t", c.name, got, c.want)
		}
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

func TestALateAnswerBelongsToItsOwnQuestion(t *testing.T) {
	for _, c := range []struct{ own, target string }{{"198.18.0.2", "198.18.0.200"}, {"fd00:198:18::2", "fd00:198:18::200"}} {
		own, target := netip.MustParseAddr(c.own), netip.MustParseAddr(c.target)
		first, second := time.Unix(1, 0), time.Unix(2, 0)
		list := make([]question, numbers)
		list[numbers-1], list[0] = question{asked: first}, question{asked: second}
		p := &Prober{questions: map[netip.Addr][]question{target: list}}
		answer := func(to netip.Addr, mac string) {
			p.note(Sighting{Addr: target, MAC: mac, Kind: ARPReply, to: to})
		}
		if lost := p.Unanswered(); len(lost) != 2 {
			t.Errorf("%s: %v unanswered before any answer, want 2", target, lost)
		}
		answer(asker(own, 0), "new")
		answer(asker(own, numbers-1), "old") // later, to the question before
		answer(asker(own, 7), "nobody asked that")
		answer(own, "another program on the client asked")
		if d := p.Record().Doubles(); len(d) > 0 {
			t.Errorf("%s: answers to two questions count as doubles: %v", target, d)
		}
		if len(p.Record()) != 2 || !p.Record()[1].Asked.Equal(first) || len(p.Unanswered()) != 0 {
			t.Errorf("%s: record %v, %v unanswered; want the two answers, and none", target, p.Record(), p.Unanswered())
		}
		answer(asker(own, numbers-1), "another")
		if d := p.Record().Doubles(); len(d) != 1 || !d[0].Asked.Equal(first) {
			t.Errorf("%s: doubles %v, want the first question", target, d)
		}
	}
}
