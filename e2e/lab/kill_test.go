package lab

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
)

// These tests look only: one that fails must not end what runs on the machine.

func TestLabWithoutNameHasNothing(t *testing.T) {
	for _, name := range []string{"", "*", "..", "lab/", "Lab", "a-b"} {
		l := newLab(Options{Name: name})
		if pids, err := l.members(); err == nil || len(pids) > 0 {
			t.Errorf("lab %q has processes %v, %v", name, pids, err)
		}
		if pids, err := l.members("node-1"); err == nil || len(pids) > 0 {
			t.Errorf("lab %q has processes %v on node-1, %v", name, pids, err)
		}
		for what, do := range map[string]func() error{"kill all": l.killAll, "down": func() error { return l.down(t.Context()) }} {
			if err := do(); err == nil {
				t.Errorf("%s of lab %q: no error", what, name)
			}
		}
	}
	l := newLab(Options{Name: "tnothing"})
	if _, err := l.traitsOf(""); err == nil {
		t.Error("a place without a name has traits")
	}
	none, err := l.traitsOf()
	if err != nil {
		t.Fatal(err)
	}
	for name, tr := range map[string]traits{"of no places": none, "zero": {}} {
		if pids, err := sweep.PIDs(tr.fit); err != nil || len(pids) > 0 {
			t.Errorf("traits %s fit %v, %v", name, pids, err)
		}
	}
	l.dir = "/run"
	if err := l.down(t.Context()); err == nil {
		t.Error("a lab that is kept in /run is taken down")
	}
}

func TestTheMachinesNamespaceIsNoTrait(t *testing.T) {
	tr, err := newTraits([]string{"/proc/1/ns/net", "/proc/self/ns/net", "/no/such/file", "/dev/null", "/run"}, nil)
	if err != nil || len(tr.spaces) > 0 {
		t.Errorf("spaces are %v, %v", tr.spaces, err)
	}
}

// marker starts a process that carries a mark.
func marker(t *testing.T, mark string) int {
	t.Helper()
	// It prints once it runs: until then its environment is the test's.
	cmd := exec.Command("sh", "-c", "echo; exec sleep 1000")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), mark}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestMarksAreWholeWords(t *testing.T) {
	pid := marker(t, newLab(Options{Name: "tmark"}).mark("node-1"))
	other := marker(t, "X"+markVar+"=tmark/node-1")
	for lab, places := range map[string]map[string]bool{
		"tmark": {"": true, "node-1": true, "node-10": false, "node-": false, "node": false},
		"tmar":  {"": false, "node-1": false}, "tmark1": {"": false, "node-1": false}, "mark": {"": false},
	} {
		l := newLab(Options{Name: lab})
		for place, want := range places {
			tr, err := l.traits()
			if place != "" {
				tr, err = l.traitsOf(place)
			}
			if err != nil {
				t.Fatal(err)
			}
			if tr.fit(pid) != want {
				t.Errorf("%s/%s takes a process of tmark/node-1 for its own: %v", lab, place, !want)
			}
			if tr.fit(other) || tr.fit(os.Getpid()) || tr.fit(1) {
				t.Errorf("%s/%s takes others' processes for its own", lab, place)
			}
		}
	}
	if marked(pid, [][]byte{nil, {}, []byte(markVar), []byte(markVar + "="), []byte(markVar + "=/")}) {
		t.Error("half a mark marks")
	}
}

func TestRecordOfAForeignProcessIsNotBelieved(t *testing.T) {
	l := newLab(Options{Name: "tforged"})
	foreign := marker(t, "OTHER=1")
	for _, pid := range []int{-1, 0, 1, 2, os.Getpid(), os.Getppid(), foreign} {
		var born uint64
		if st, err := sweep.Read(pid); err == nil {
			born = st.Born
		}
		for _, b := range []uint64{0, born} {
			p := &Process{Where: "node-1", PID: pid, Born: b}
			if err := p.bind(l); err != nil {
				t.Fatal(err)
			}
			// The null signal: nothing happens even if it is sent.
			if err := p.Signal(syscall.Signal(0)); err == nil {
				t.Errorf("process %d, born %d, can be signalled", pid, b)
			}
			if err := (&Process{PID: pid, Born: b}).Signal(syscall.Signal(0)); err == nil {
				t.Errorf("process %d, born %d, can be signalled by a record without a lab", pid, b)
			}
		}
	}
	if err := (&Process{}).bind(l); err == nil {
		t.Error("an empty record has a place")
	}
}

func TestCorruptRecordChangesNoName(t *testing.T) {
	const name = "tcorrupt"
	reserve(t, name)
	foreign := filepath.Join(dataRoot, "tforeign")
	if err := sweep.Own(foreign); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sweep.Remove(foreign); err != nil {
			t.Error(err)
		}
		_ = os.Remove(dataRoot) // fails while there are other labs
	})
	for _, text := range []string{
		"", "{", "{}", "null", "[]", `{"Ready":true}`, `{"Options":{"Name":""},"Ready":true}`,
		`{"Options":{"Name":"tforeign"},"Ready":true}`, `{"Options":{"Name":"../x"}}`, `{"Options":{"Name":3}}`,
	} {
		l := newLab(Options{Name: name})
		if err := sweep.Own(l.dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(l.dir, "lab.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, err := load(name)
		if err == nil || got.opts.Name != name || got.dir != l.dir || got.dataDir() != l.dataDir() {
			t.Fatalf("%q: it is lab %q in %s and %s, %v", text, got.opts.Name, got.dir, got.dataDir(), err)
		}
		if pids, err := got.members(); err != nil || len(pids) > 0 {
			t.Fatalf("%q: it has processes %v, %v", text, pids, err)
		}
		if err := Down(t.Context(), name); err != nil {
			t.Errorf("%q: down: %v", text, err)
		}
		checkNothingLeft(t, name)
	}
	if !sweep.Owned(foreign) {
		t.Error("another lab's folder is gone")
	}
}
