// Package testlock keeps tests that bring up labs or nodes apart, also when
// they are in different packages or started by different people.
package testlock

import (
	"context"
	"os"
	"testing"

	"github.com/bellwether-lb/bellwether/e2e/internal/flock"
)

const path = "/run/lock/bellwether-e2e-test"

// Machine gives the machine to one test at a time, until that test ends. A test
// that cannot make namespaces fails: none is ever left out.
func Machine(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	release, err := Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
}

// Take is Machine for whoever has no test in hand.
func Take(ctx context.Context) (release func(), err error) {
	unlock, err := flock.Take(ctx, path)
	if err != nil {
		return nil, err
	}
	return func() {
		_ = os.Remove(path)
		unlock()
	}, nil
}
