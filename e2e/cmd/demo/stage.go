package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// stage is where the demo speaks. Colour only on a terminal.
type stage struct {
	out    *os.File
	colour bool
	acts   int
}

func newStage(out *os.File) *stage {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &stage{out: out, colour: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// The ANSI colours that are used.
const (
	bold  = "1"
	dim   = "2"
	green = "32"
	cyan  = "36"
)

func (s *stage) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *stage) title(text string) {
	fmt.Fprintf(s.out, "%s\n\n", s.paint(bold, text))
}

// act begins a numbered step.
func (s *stage) act(text string) {
	s.acts++
	fmt.Fprintf(s.out, "\n%s %s\n", s.paint(cyan, fmt.Sprintf("%d.", s.acts)), s.paint(bold, text))
}

func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.out, "   %s\n", fmt.Sprintf(format, args...))
}

// good says something worth seeing.
func (s *stage) good(format string, args ...any) {
	fmt.Fprintf(s.out, "   %s\n", s.paint(green, fmt.Sprintf(format, args...)))
}

// show prints a command and what it printed.
func (s *stage) show(command, output string) {
	fmt.Fprintf(s.out, "   %s\n", s.paint(dim, "$ "+command))
	if output == "" {
		return
	}
	for line := range strings.Lines(strings.TrimRight(output, "\n") + "\n") {
		fmt.Fprintf(s.out, "     %s", line)
	}
}

// detail is for progress: indented and dim.
func (s *stage) detail() io.Writer { return detailWriter{s} }

type detailWriter struct{ stage *stage }

func (w detailWriter) Write(p []byte) (int, error) {
	for line := range strings.Lines(strings.TrimRight(string(p), "\n") + "\n") {
		fmt.Fprintf(w.stage.out, "   %s\n", w.stage.paint(dim, strings.TrimRight(line, "\n")))
	}
	return len(p), nil
}
