package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/e2e/components"
)

// report prints tables, and writes them to a folder where there is one.
type report struct {
	to        io.Writer
	folder    string
	arguments []string
}

// table prints what was measured on a lab, and publishes it, unless measuring failed: then it is not all.
func (r *report) table(lab string, table []figure, failed error) error {
	printTable(r.to, table)
	if failed != nil || r.folder == "" {
		return failed
	}
	m, err := thisMachine()
	if err != nil {
		return err
	}
	kubernetes, err := components.Kubernetes().Version()
	if err != nil {
		return err
	}
	return publish(r.folder, published{Lab: lab, When: time.Now().UTC().Truncate(time.Minute), Command: strings.Join(append([]string{"go run -C e2e ./cmd/bench"}, r.arguments...), " "),
		Machine: m, Kubernetes: kubernetes, Go: runtime.Version(), Figures: publishedOf(table)})
}

// published is what was measured on one lab, as it stands in a file.
type published struct {
	Lab        string            `json:"lab"`
	When       time.Time         `json:"when"`
	Command    string            `json:"command"`
	Machine    machine           `json:"machine"`
	Kubernetes string            `json:"kubernetes"`
	Go         string            `json:"go"`
	Figures    []publishedFigure `json:"figures"`
}

type machine struct {
	Processor string  `json:"processor"`
	Cores     int     `json:"cores"`
	Memory    float64 `json:"memoryGiB"`
	Kernel    string  `json:"kernel"`
}

// publishedFigure is one row. Values are in the order of measuring; of more than a thousand there are a thousand quantiles.
type publishedFigure struct {
	What   string    `json:"what"`
	Unit   string    `json:"unit,omitempty"`
	N      int       `json:"n"`
	Min    float64   `json:"min"`
	Median float64   `json:"median"`
	P99    float64   `json:"p99"`
	Max    float64   `json:"max"`
	Bars   []string  `json:"bars,omitempty"` // such as "median 1.25"
	Missed bool      `json:"missed,omitempty"`
	Values []float64 `json:"values"`
	Plot   string    `json:"plot,omitempty"` // its file

	bars []bar
}

const valuesAtMost = 1000

func publishedOf(table []figure) []publishedFigure {
	var all []publishedFigure
	under := "" // a row that is indented belongs to the last one that is not
	for _, f := range table {
		what := strings.TrimSpace(f.what)
		if what == f.what {
			under = what
		} else {
			what = under + ": " + what
		}
		s := f.summary()
		p := publishedFigure{What: what, Unit: f.unit, N: len(f.values), Min: s.min, Median: s.median, P99: s.p99, Max: s.max, Bars: barTexts(s.bars), Missed: s.missed,
			Values: f.values, bars: s.bars}
		if len(p.Values) > valuesAtMost {
			p.Values = quantiles(f.values, valuesAtMost)
		}
		if len(f.values) > 1 && s.min < s.max {
			p.Plot = fmt.Sprintf("%02d-%s.svg", len(all)+1, slug(what))
		}
		all = append(all, p)
	}
	return all
}

// quantiles returns n values that are spread like all of them, ascending.
func quantiles(values []float64, n int) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	out := make([]float64, 0, n)
	for i := range n {
		out = append(out, sorted[i*(len(sorted)-1)/(n-1)])
	}
	return out
}

// slug is a text as a part of a file's name.
func slug(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	name := strings.Join(words, "-")
	if len(name) > 60 {
		name = strings.TrimRight(name[:60], "-")
	}
	return name
}

// publish writes a lab's file and plots in place of those that are there, and the table of all labs.
func publish(folder string, p published) error {
	plots := filepath.Join(folder, p.Lab)
	if err := errors.Join(os.RemoveAll(plots), os.MkdirAll(plots, 0o755)); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	for _, f := range p.Figures {
		if f.Plot == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(plots, f.Plot), []byte(plot(f)), 0o644); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	text, err := json.MarshalIndent(p, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, p.Lab+".json"), append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return writeIndex(folder)
}

// writeIndex writes README.md: the tables of all labs that have a file.
func writeIndex(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	out := &strings.Builder{}
	fmt.Fprint(out, "# Benchmarks\n\nWhat `make bench` measured; this page, the JSON and the plots are written by it. Times stand beside a floor that was "+
		"measured in the same run. A plot shows which part of the measurements (upwards) was no more than a value (to the right), and the bar as a line.\n")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		var p published
		if err := json.Unmarshal(raw, &p); err != nil {
			return fmt.Errorf("%s: %w; remove it, and measure again", file, err)
		}
		p.writeTo(out)
	}
	if err := os.WriteFile(filepath.Join(folder, "README.md"), []byte(out.String()), 0o644); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (p published) writeTo(out io.Writer) {
	fmt.Fprintf(out, "\n## %s\n\n`%s`, %s, on %d cores of %s with %.0f GiB, Linux %s, Kubernetes %s, %s.\n\n"+
		"| what | min | median | p99 | max | unit | n | bar |\n|---|---|---|---|---|---|---|---|\n", p.Lab, p.Command, p.When.Format(time.DateOnly),
		p.Machine.Cores, p.Machine.Processor, p.Machine.Memory, p.Machine.Kernel, p.Kubernetes, p.Go)
	for _, f := range p.Figures {
		what, verdict := f.What, ""
		if f.Plot != "" {
			what = fmt.Sprintf("[%s](%s/%s)", what, p.Lab, f.Plot)
		}
		if len(f.Bars) > 0 {
			verdict = strings.Join(f.Bars, ", ") + ": holds"
		}
		if f.Missed {
			verdict = strings.Join(f.Bars, ", ") + ": **missed**"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %d | %s |\n", what, number(f.Min), number(f.Median), number(f.P99), number(f.Max), f.Unit, f.N, verdict)
	}
}

func thisMachine() (machine, error) {
	m := machine{Cores: runtime.NumCPU()}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return m, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	m.Kernel, _, _ = strings.Cut(unix.ByteSliceToString(uts.Release[:]), "-")
	processor, err := field("/proc/cpuinfo", "model name")
	if err != nil {
		return m, err
	}
	memory, err := field("/proc/meminfo", "MemTotal")
	if err != nil {
		return m, err
	}
	kib, err := strconv.ParseFloat(strings.TrimSuffix(memory, " kB"), 64)
	if err != nil {
		return m, fmt.Errorf("read how much memory there is: %w", err)
	}
	m.Processor, m.Memory = processor, kib/(1<<20)
	return m, nil
}

// field returns the first value of a name in a file of lines "name : value".
func field(file, name string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("ask what machine this is: %w", err)
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, is := strings.Cut(lines.Text(), ":"); is && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "unknown", nil
}
