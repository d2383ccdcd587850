// Package labtest is what tests that need a lab begin with.
package labtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bellwether-lb/bellwether/e2e/internal/testlock"
	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// Up brings a lab up for one test. While the test runs it has the machine to
// itself among tests that begin so. After the test the lab is taken down, and
// what it leaves on the machine is an error. The logs of a test that failed are
// kept, and the test's own log says where: in a folder named after the test
// below $BELLWETHER_LOGS, or below the folder for temporary files.
//
// What a killed run left under the same name is taken down first.
func Up(t testing.TB, o lab.Options) *lab.Lab {
	t.Helper()
	if o.Name == "" {
		t.Fatal("a test's lab needs a name of its own: the default one is for people")
	}
	testlock.Machine(t)
	if err := lab.Down(t.Context(), o.Name); err != nil {
		t.Fatal(err)
	}
	if o.Log == nil {
		o.Log = progress{t}
	}
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			keepLogs(t, l)
		}
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("down: %v", err)
		}
		left, err := lab.Remains(o.Name)
		if err != nil {
			t.Error(err)
		}
		for _, what := range left {
			t.Errorf("%s is left", what)
		}
	})
	return l
}

// Machine waits until no test of another package has a lab, and keeps others
// waiting until it is released: for a TestMain whose lab many tests share.
func Machine(ctx context.Context) (release func(), err error) { return testlock.Take(ctx) }

// progress sends a lab's progress to the test's log.
type progress struct{ t testing.TB }

func (p progress) Write(b []byte) (int, error) {
	p.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func keepLogs(t testing.TB, l *lab.Lab) {
	root := os.Getenv("BELLWETHER_LOGS")
	if root == "" {
		root = filepath.Join(os.TempDir(), "bellwether-logs")
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Errorf("keep the logs: %v", err)
		return
	}
	//nolint:usetesting // it outlives the test
	dir, err := os.MkdirTemp(root, strings.ReplaceAll(t.Name(), "/", ".")+"-")
	if err == nil {
		err = l.CopyLogs(dir)
	}
	if err != nil {
		t.Errorf("keep the logs: %v", err)
		return
	}
	t.Logf("the lab's logs are in %s", dir)
}
