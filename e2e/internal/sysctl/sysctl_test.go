package sysctl

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// key is a setting that every network namespace has its own of, so that the
// tests change nothing of the machine's.
const key = "net/ipv4/tcp_fin_timeout"

// apart runs a test in a network namespace of its own.
func apart(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a network namespace: run it as root")
	}
	done := make(chan error, 1)
	var run func()
	run = func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot be ended. While it is held here, the next
			// goroutine gets another.
			defer runtime.UnlockOSThread()
			inner := make(chan struct{})
			go func() {
				defer close(inner)
				run()
			}()
			<-inner
			return
		}
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}
	go run()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func value(t *testing.T) string {
	now, err := read(key)
	if err != nil {
		t.Error(err)
	}
	return now
}

func folders(t *testing.T) (a, b string) {
	t.Helper()
	root := t.TempDir()
	a, b = filepath.Join(root, "a"), filepath.Join(root, "b")
	for _, dir := range []string{a, b} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func TestLastOfTwoUsersPutsBack(t *testing.T) {
	a, b := folders(t)
	apart(t, func() {
		was := value(t)
		steps := []struct {
			do   func() error
			want string
		}{
			{func() error { return Raise(t.Context(), a, map[string]int{key: 70}) }, "70"},
			{func() error { return Raise(t.Context(), b, map[string]int{key: 80}) }, "80"},
			{func() error { return Restore(t.Context(), a) }, "80"},
			{func() error { return Restore(t.Context(), b) }, was},
			{func() error { return Restore(t.Context(), b) }, was},
		}
		for i, s := range steps {
			if err := s.do(); err != nil {
				t.Errorf("step %d: %v", i, err)
			}
			if now := value(t); now != s.want {
				t.Errorf("after step %d it is %s, want %s", i, now, s.want)
			}
		}
	})
	left, err := filepath.Glob(filepath.Join(filepath.Dir(a), "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestZeroLeavesItForSomebodyElseToChange(t *testing.T) {
	a, _ := folders(t)
	apart(t, func() {
		was := value(t)
		if err := Raise(t.Context(), a, map[string]int{key: 0}); err != nil {
			t.Error(err)
		}
		if now := value(t); now != was {
			t.Errorf("it is %s, was %s", now, was)
		}
		if err := write(key, "71"); err != nil {
			t.Error(err)
		}
		if err := Restore(t.Context(), a); err != nil {
			t.Error(err)
		}
		if now := value(t); now != was {
			t.Errorf("it is %s, was %s", now, was)
		}
	})
}

func TestCorruptRecordChangesNothing(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("whole"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, record := range []string{
		"", "{", "null and void", `{"../..` + victim + `":"1"}`, `{"` + key + `":"77","":"1"}`,
		`{"` + key + `":"77","/":"1"}`, `{"` + key + `":"some"}`, `{"` + key + `":""}`, `{"vm/../net":"1"}`,
	} {
		a, _ := folders(t)
		if err := os.WriteFile(filepath.Join(a, recordFile), []byte(record), 0o644); err != nil {
			t.Fatal(err)
		}
		apart(t, func() {
			was := value(t)
			if err := Restore(t.Context(), a); err == nil {
				t.Errorf("%q is believed", record)
			}
			if now := value(t); now != was {
				t.Errorf("%q: it is %s, was %s", record, now, was)
			}
			if err := Restore(t.Context(), a); err != nil {
				t.Errorf("%q is not forgotten: %v", record, err)
			}
		})
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "whole" {
		t.Errorf("a file outside is %q, %v", data, err)
	}
}
