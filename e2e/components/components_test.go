package components

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tiny makes a component that builds in a second, and the folder to build it
// from.
func tiny(t *testing.T) (Component, string) {
	t.Helper()
	source := t.TempDir()
	for name, text := range map[string]string{
		"tiny/go.mod":     "module tiny\n\ngo 1.26.0\n\nrequire example.test/dep v1.2.3\n\nreplace example.test/dep => ./dep\n",
		"tiny/main.go":    "package main\n\nimport \"example.test/dep\"\n\nvar version string\n\nfunc main() { println(dep.Name, version) }\n",
		"tiny/dep/go.mod": "module example.test/dep\n\ngo 1.26.0\n",
		"tiny/dep/dep.go": "package dep\n\nconst Name = \"dep\"\n",
	} {
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Component{
		Name: "tiny", Module: "example.test/dep", Packages: []string{"."}, Commands: []string{"tiny"},
		Stamp: []string{"main.version=%s"},
	}, source
}

func TestBuiltOncePerPin(t *testing.T) {
	c, source := tiny(t)
	root := t.TempDir()
	var out strings.Builder
	first, err := c.ensure(t.Context(), &out, source, root)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "built tiny v1.2.3") {
		t.Errorf("it said %q", out.String())
	}
	out.Reset()
	second, err := c.ensure(t.Context(), &out, source, root)
	if err != nil || second != first || out.Len() > 0 {
		t.Errorf("the second time: %s, %v, said %q", second, err, out.String())
	}
	if err := os.WriteFile(filepath.Join(source, "tiny", "go.sum"), []byte("\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if third, err := c.ensure(t.Context(), &out, source, root); err != nil || third == first {
		t.Errorf("with another go.sum: %s, %v", third, err)
	}
}

func TestInterruptedBuildLeavesNothingAndIsClearedUp(t *testing.T) {
	c, source := tiny(t)
	root := t.TempDir()
	killed := filepath.Join(root, ".build-tiny-killed")
	if err := os.Mkdir(killed, 0o755); err != nil {
		t.Fatal(err)
	}
	path := os.Getenv("PATH")
	compiler := endlessGo(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		for ctx.Err() == nil && compiler() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if dir, err := c.ensure(ctx, new(strings.Builder), source, root); err == nil {
		t.Errorf("the build ended well, into %s", dir)
	}
	pid := compiler()
	if pid == 0 {
		t.Fatal("the build did not begin")
	}
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("its compiler lives: %s", stat)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("%s is left", e.Name())
		}
	}
	t.Setenv("PATH", path)
	if _, err := c.ensure(t.Context(), new(strings.Builder), source, root); err != nil {
		t.Errorf("the build after it: %v", err)
	}
}

// endlessGo puts a go command first in PATH that starts a compiler which never
// ends. The function it returns tells the compiler's PID, 0 before it starts.
func endlessGo(t *testing.T) func() int {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nsleep 1000 & echo $! > " + dir + "/tmp; mv " + dir + "/tmp " + dir + "/pid; wait\n"
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		data, _ := os.ReadFile(filepath.Join(dir, "pid"))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
		return pid
	}
}

func TestFailedBuildSaysWhy(t *testing.T) {
	c, source := tiny(t)
	if err := os.WriteFile(filepath.Join(source, "tiny", "main.go"), []byte("package main\n\nfunc main() { nonsense() }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := c.ensure(t.Context(), new(strings.Builder), source, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("error is %v", err)
	}
}

func TestEveryComponentIsPinned(t *testing.T) {
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Full() {
		p, err := c.pin(source)
		if err != nil {
			t.Error(err)
			continue
		}
		flags := strings.Join(c.flags(p.version), " ")
		if !strings.HasPrefix(p.version, "v") || strings.Contains(flags, "%") {
			t.Errorf("%s is pinned to %q, built with %s", c.Name, p.version, flags)
		}
	}
}

func TestPresentPackages(t *testing.T) {
	for probe, want := range map[string]bool{"sh": true, "/bin/sh": true, "no-such-program": false, "/no/such/file": false} {
		if got := (Package{Probe: probe}).present(); got != want {
			t.Errorf("%s is present: %v", probe, got)
		}
	}
}
