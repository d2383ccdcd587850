package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// The size of a plot, and of what is drawn in it, in pixels.
const (
	plotWidth, plotHeight         = 640, 220
	plotLeft, plotRight           = 50, 610
	plotTop, plotBottom           = 40, 180
	stepsAtMost                   = 200
	plotInk, plotLine, plotBarInk = "#333", "#1f6f8b", "#b3261e"
)

// plot draws the empirical distribution of a figure as SVG: to the right the value, upwards the part of the measurements that was no more.
func plot(p publishedFigure) string {
	sorted := slices.Sorted(slices.Values(p.Values))
	if len(sorted) > stepsAtMost {
		sorted = quantiles(sorted, stepsAtMost)
	}
	most := sorted[len(sorted)-1]
	for _, b := range p.bars {
		most = max(most, b.at)
	}
	unit := roundUp(most / 5)
	end := unit * math.Ceil(most/unit)
	x := func(v float64) float64 { return plotLeft + (plotRight-plotLeft)*v/end }
	y := func(part float64) float64 { return plotBottom - (plotBottom-plotTop)*part }

	out := &strings.Builder{}
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="%s">`+"\n", plotWidth, plotHeight, plotInk)
	fmt.Fprintf(out, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(out, `<text x="%d" y="22" font-size="13">%s</text>`+"\n", plotLeft, escaped(fmt.Sprintf("%s (n=%d)", p.What, p.N)))
	for _, part := range []float64{0, 0.5, 1} {
		fmt.Fprintf(out, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.0f %%</text>`+"\n", plotLeft, y(part), plotRight, plotLeft-6, y(part)+4, 100*part)
	}
	for v := 0.0; v <= end+unit/2; v += unit {
		fmt.Fprintf(out, `<path d="M%.1f %dv5" stroke="%s"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(v), plotBottom, plotInk, x(v), plotBottom+18, tickText(v))
	}
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotRight, plotBottom+34, escaped(p.Unit))
	fmt.Fprintf(out, `<path d="M%.1f %.1f`, x(0), y(0))
	for i, v := range sorted {
		fmt.Fprintf(out, "H%.1fV%.1f", x(v), y(float64(i+1)/float64(len(sorted))))
	}
	fmt.Fprintf(out, `H%d" fill="none" stroke="%s" stroke-width="2"/>`+"\n", plotRight, plotLine)
	for i, b := range p.bars {
		at := x(b.at)
		fmt.Fprintf(out, `<path d="M%.1f %dV%d" stroke="%s" stroke-dasharray="4 3"/><text x="%.1f" y="%d" fill="%s" text-anchor="end">%s</text>`+"\n",
			at, plotTop, plotBottom, plotBarInk, at-4, plotTop+14+14*i, plotBarInk, escaped(b.String()))
	}
	fmt.Fprint(out, "</svg>\n")
	return out.String()
}

// roundUp returns the next 1, 2 or 5 times a power of ten.
func roundUp(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, times := range []float64{1, 2, 5} {
		if v <= times*power {
			return times * power
		}
	}
	return 10 * power
}

func tickText(v float64) string { return fmt.Sprintf("%.4g", v) }

func escaped(text string) string {
	out := &strings.Builder{}
	_ = xml.EscapeText(out, []byte(text)) // a strings.Builder takes everything
	return out.String()
}
