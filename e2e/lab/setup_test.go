package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bellwether-lb/bellwether/e2e/internal/testlock"
)

// testLog sends a lab's progress to the test's log.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// upLight is up in the light mode.
func upLight(t *testing.T, name string, change ...func(*Options)) *Lab {
	t.Helper()
	o := Options{Name: name, Light: true}
	for _, c := range change {
		c(&o)
	}
	return up(t, o)
}

// up brings a lab up for one test, and down after it, and checks that nothing
// is left of it then.
func up(t *testing.T, o Options) *Lab {
	t.Helper()
	reserve(t, o.Name)
	o.Log = testLog{t}
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			tellLogs(t, l)
		}
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("down: %v", err)
		}
		checkNothingLeft(t, l.opts.Name)
	})
	return l
}

// reserve gives the machine to one test, and clears up what a killed run of it
// left.
func reserve(t *testing.T, name string) {
	t.Helper()
	testlock.Machine(t)
	if err := Down(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

// tellLogs shows the ends of the logs of a lab that failed a test.
func tellLogs(t *testing.T, l *Lab) {
	for _, where := range l.Places() {
		procs, _ := l.Processes(where)
		for _, p := range procs {
			t.Logf("%s in %s, alive %v:\n%s", p.Spec.Name, where, p.Alive(), p.LogTail(5))
		}
	}
}

// checkNothingLeft looks for what a lab may have left on the machine.
func checkNothingLeft(t *testing.T, name string) {
	t.Helper()
	left, err := Remains(name)
	if err != nil {
		t.Error(err)
	}
	for _, what := range left {
		t.Errorf("%s is left", what)
	}
}

// running lists the processes of a place.
func running(t *testing.T, l *Lab, where string) []int {
	t.Helper()
	pids, err := l.members(where)
	if err != nil {
		t.Error(err)
	}
	return pids
}

// hostLinks lists the machine's own interfaces that are called as a lab's are.
func hostLinks(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("ip", "-o", "link").Output()
	if err != nil {
		t.Fatal(err)
	}
	ours := regexp.MustCompile(`(?m)^[0-9]+: (br[0-9]+|node-[0-9]+|be[0-9]+|control|client|router)[@:].*$`)
	return strings.Join(ours.FindAllString(string(out), -1), "\n")
}

// settings are the machine's, of those that a lab with these options changes.
func settings(t *testing.T, o Options) map[string]string {
	t.Helper()
	now := map[string]string{}
	for key := range o.limits() {
		data, err := os.ReadFile("/proc/sys/" + key)
		if err != nil {
			t.Fatal(err)
		}
		now[key] = strings.TrimSpace(string(data))
	}
	return now
}

// checkSettings checks that settings are what they were, unless another lab is
// up that needs them: then its down puts them back.
func checkSettings(t *testing.T, o Options, was map[string]string) {
	t.Helper()
	records, err := filepath.Glob(filepath.Join(stateRoot, "*", "limits.json"))
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]string{}
	for _, r := range records {
		if err := readJSON(r, &held); err != nil {
			t.Logf("another lab's record cannot be read: %v", err) // it just went
		}
	}
	for key, now := range settings(t, o) {
		if _, other := held[key]; !other && now != was[key] {
			t.Errorf("%s is %s, was %s", key, now, was[key])
		}
	}
}
