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

func (f figure) String() string {
	sorted := slices.Sorted(slices.Values(f.values))
	n := len(sorted)
	median, most := sorted[n/2], sorted[n-1]
	text := fmt.Sprintf("%-84s %8s %8s %8s %8s %-4s n=%d", f.what, number(sorted[0]), number(median), number(sorted[99*(n-1)/100]), number(most), f.unit, n)
	var bars []string
	missed := false
	if f.bar > 0 {
		bars, missed = append(bars, "median "+number(f.bar)), median > f.bar
	}
	if f.worst > 0 || f.none {
		bars, missed = append(bars, "worst "+number(f.worst)), missed || most > f.worst
	}
	if bars == nil {
		return text
	}
	verdict := "holds"
	if missed {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%-134s %s: %s", text, strings.Join(bars, ", "), verdict)
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
