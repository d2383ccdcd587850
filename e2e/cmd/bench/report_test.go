package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func measured() []figure {
	many := figure{what: "an answer <fast>", unit: "us", bar: 50, worst: 4000}
	for i := range 5000 {
		many.values = append(many.values, float64(i))
	}
	return []figure{many, {what: "   lost", values: []float64{0, 0, 0}, none: true}, {what: "one alone", unit: "ms", values: []float64{7}},
		{what: "a ratio", unit: "x", values: []float64{1.3, 1.1, 1.2}, bar: 1.25}}
}

func TestWhatIsPublished(t *testing.T) {
	folder := t.TempDir()
	for _, lab := range []string{"segment", "routing", "segment"} {
		printed := &bytes.Buffer{}
		if err := (&report{to: printed, folder: folder, arguments: []string{"-only", lab}}).table(lab, measured(), nil); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(printed.String(), "a ratio") {
			t.Errorf("printed %q", printed)
		}
	}
	broken := errors.New("interrupted")
	if err := (&report{to: io.Discard, folder: folder}).table("segment", measured()[:1], broken); !errors.Is(err, broken) {
		t.Errorf("what failed is %v", err)
	}
	raw, err := os.ReadFile(filepath.Join(folder, "segment.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p published
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Figures) != 4 || p.Machine.Cores == 0 || p.Machine.Processor == "" || p.Machine.Memory == 0 || p.Kubernetes == "" || p.Command != "go run -C e2e ./cmd/bench -only segment" {
		t.Errorf("it says %+v", p)
	}
	first, lost, ratio := p.Figures[0], p.Figures[1], p.Figures[3]
	if first.N != 5000 || len(first.Values) != valuesAtMost || first.Median != 2500 || first.Max != 4999 || !first.Missed || first.Plot == "" {
		t.Errorf("the first is of %d, with %d values, median %g, at most %g, missed %t", first.N, len(first.Values), first.Median, first.Max, first.Missed)
	}
	if lost.What != "an answer <fast>: lost" || lost.Plot != "" || lost.Missed || len(lost.Bars) != 1 {
		t.Errorf("the second is %+v", lost)
	}
	if ratio.Missed || ratio.Values[0] != 1.3 {
		t.Errorf("the last is %+v", ratio)
	}
	plots, err := filepath.Glob(filepath.Join(folder, "segment", "*.svg"))
	if err != nil || len(plots) != 2 {
		t.Errorf("plots are %v, %v", plots, err)
	}
	index, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## segment", "## routing", "segment/01-an-answer-fast.svg", "median 50.0, worst 4000: **missed**", "| a ratio", "median 1.25: holds"} {
		if !strings.Contains(string(index), strings.TrimPrefix(want, "| ")) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestAPlotIsXML(t *testing.T) {
	for _, p := range publishedOf(measured()) {
		if p.Plot == "" {
			continue
		}
		text := plot(p)
		decoder := xml.NewDecoder(strings.NewReader(text))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
		}
		if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || len(text) > 10000 {
			t.Errorf("%d bytes:\n%.2000s", len(text), text)
		}
	}
}
