package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// figure is one row of the table.
type figure struct {
	what   string
	values []float64
	unit   string
	bar    float64 // the median is to be no more; zero where there is no such bar
	none   bool    // the bar is zero
}

func (f figure) String() string {
	sorted := slices.Sorted(slices.Values(f.values))
	n := len(sorted)
	median := sorted[n/2]
	text := fmt.Sprintf("%-84s %8s %8s %8s %-4s n=%d", f.what, number(sorted[0]), number(median), number(sorted[n-1]), f.unit, n)
	if f.bar == 0 && !f.none {
		return text
	}
	verdict := "holds"
	if median > f.bar {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%-124s bar %s: %s", text, number(f.bar), verdict)
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
	fmt.Fprintf(out, "%-84s %8s %8s %8s\n", "", "min", "median", "max")
	for _, f := range table {
		fmt.Fprintln(out, f)
	}
}
