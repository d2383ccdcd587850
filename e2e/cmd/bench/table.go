package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// figure is one row of the table.
type figure struct {
	what   string
	values []float64
	unit   string
	bar    float64 // the median is to be no more; zero where there is no such bar
	worst  float64 // the greatest is to be no more; zero likewise
	none   bool    // the greatest is to be zero
}

// summary is what the values of a figure come to.
type summary struct {
	min, median, p99, max float64
	bars                  []bar
	missed                bool
}

// bar is what a part of the values is to be no more than.
type bar struct {
	of string // median or worst
	at float64
}

func (b bar) String() string { return b.of + " " + number(b.at) }

func (f figure) summary() summary {
	sorted := slices.Sorted(slices.Values(f.values))
	n := len(sorted)
	s := summary{min: sorted[0], median: sorted[n/2], p99: sorted[(99*n+99)/100-1], max: sorted[n-1]}
	if f.bar > 0 {
		s.bars, s.missed = append(s.bars, bar{"median", f.bar}), s.median > f.bar
	}
	if f.worst > 0 || f.none {
		s.bars, s.missed = append(s.bars, bar{"worst", f.worst}), s.missed || s.max > f.worst
	}
	return s
}

func barTexts(bars []bar) []string {
	var texts []string
	for _, b := range bars {
		texts = append(texts, b.String())
	}
	return texts
}

func (f figure) String() string {
	s := f.summary()
	text := fmt.Sprintf("%-84s %8s %8s %8s %8s %-4s n=%d", f.what, number(s.min), number(s.median), number(s.p99), number(s.max), f.unit, len(f.values))
	if s.bars == nil {
		return text
	}
	verdict := "holds"
	if s.missed {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%-134s %s: %s", text, strings.Join(barTexts(s.bars), ", "), verdict)
}

// number writes a value with as many digits as are worth reading.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func printTable(out io.Writer, table []figure) {
	fmt.Fprintf(out, "%-84s %8s %8s %8s %8s\n", "", "min", "median", "p99", "max")
	for _, f := range table {
		fmt.Fprintln(out, f)
	}
}
