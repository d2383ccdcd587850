package probe

import (
	"net/netip"
	"slices"
	"time"
)

// Double is one question that was answered with more than one MAC.
type Double struct {
	Addr    netip.Addr
	Asked   time.Time
	MACs    []string
	Answers Record
}

// Doubles lists the questions that several machines answered. Only the record
// of a Prober knows which answer belongs to which question.
func (r Record) Doubles() []Double {
	type question struct {
		addr  netip.Addr
		asked time.Time
	}
	var order []question
	answers := map[question]Record{}
	for _, s := range r {
		if s.Asked.IsZero() {
			continue
		}
		q := question{s.Addr, s.Asked}
		if answers[q] == nil {
			order = append(order, q)
		}
		answers[q] = append(answers[q], s)
	}
	var out []Double
	for _, q := range order {
		if macs := answers[q].MACs(); len(macs) > 1 {
			out = append(out, Double{q.addr, q.asked, macs, answers[q]})
		}
	}
	return out
}

// Crossed reports whether an announcement crossed the question on the segment:
// it had left the new owner when the question came there, and had not reached
// the old one when the question came there, so that both were right to answer.
func (d Double) Crossed(announcements Record) bool {
	// How much earlier or later than it happened something may be noted, and how
	// soon a question is answered whose answer tells something.
	const slack, soon = time.Millisecond, 10 * time.Millisecond
	first := d.Answers[0].Time
	if len(d.MACs) != 2 || first.Sub(d.Asked) > soon {
		return false
	}
	return slices.ContainsFunc(announcements.Of(d.Addr), func(a Sighting) bool {
		return slices.Contains(d.MACs, a.MAC) && a.Time.After(d.Asked.Add(-slack)) && a.Time.Before(first.Add(slack))
	})
}
