package sweep

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests only take handles and give them back: one that fails must not end
// what runs on the machine. Signals go to children of their own.

func everything(int) bool { return true }
func nothing(int) bool    { return false }

func TestSelfAncestorsAndKernelAreNeverHeld(t *testing.T) {
	spared := []int{-1, 0, 1, 2, os.Getpid()}
	for at := os.Getpid(); at > 1; {
		p, err := Read(at)
		if err != nil {
			t.Fatal(err)
		}
		spared, at = append(spared, p.Parent), p.Parent
	}
	for _, pid := range spared {
		p, _ := Read(pid)
		for _, born := range []uint64{0, p.Born} {
			if h, err := Hold(pid, born, everything); err == nil {
				h.Close()
				t.Errorf("process %d, born %d, can be signalled", pid, born)
			}
		}
	}
	// Even when a lab takes every process for its own.
	held, err := PIDs(everything)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range held {
		p, err := Read(pid)
		if slices.Contains(spared, pid) || err == nil && p.kernel {
			t.Errorf("process %d is found", pid)
		}
	}
}

func TestNothingIsHeldWithoutProof(t *testing.T) {
	p := child(t)
	for name, hold := range map[string]func() (*Held, error){
		"no start time":      func() (*Held, error) { return Hold(p.PID, 0, everything) },
		"another start time": func() (*Held, error) { return Hold(p.PID, p.Born+1, everything) },
		"no proof":           func() (*Held, error) { return Hold(p.PID, p.Born, nil) },
		"does not belong":    func() (*Held, error) { return Hold(p.PID, p.Born, nothing) },
	} {
		if h, err := hold(); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: held %v, %v", name, h, err)
		}
	}
	if found, err := PIDs(nil); !errors.Is(err, ErrRefused) || len(found) > 0 {
		t.Errorf("without a proof %v are found, %v", found, err)
	}
	if found, err := PIDs(nothing); err != nil || len(found) > 0 {
		t.Errorf("where nothing belongs %v are found, %v", found, err)
	}
}

func TestKillEndsWhatBelongsAndItsChildrenOnly(t *testing.T) {
	mine, other := child(t), child(t)
	belongs := func(pid int) bool { return pid == mine.PID }
	family, err := PIDs(belongs)
	if err != nil || len(family) != 2 || family[0] != mine.PID {
		t.Errorf("the family is %v, %v; want a shell and its child", family, err)
	}
	if err := Kill(belongs, nil); err != nil {
		t.Fatal(err)
	}
	for _, pid := range family {
		if p, err := Read(pid); err == nil && !p.Dead {
			t.Errorf("process %d lives", pid)
		}
	}
	if p, err := Read(other.PID); err != nil || p.Dead {
		t.Errorf("another process is dead: %v", err)
	}
	if h, err := Hold(mine.PID, mine.Born, everything); err == nil {
		h.Close()
		t.Error("a dead process can be signalled")
	}
}

// TestStoppedIsSaidOfWhatDoesNotRun: of a process with busy threads, once each of them has stopped.
func TestStoppedIsSaidOfWhatDoesNotRun(t *testing.T) {
	const helper = "BELLWETHER_TEST_BUSY"
	if os.Getenv(helper) != "" {
		for range 4 {
			go func() {
				for end := time.Now().Add(time.Minute); time.Now().Before(end); {
				}
			}()
		}
		time.Sleep(time.Minute)
		return
	}
	busy := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStoppedIsSaidOfWhatDoesNotRun$")
	busy.Env = append(os.Environ(), helper+"=1")
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Wait() }()
	defer func() { _ = busy.Process.Kill() }()
	becomes := func(want bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if stopped, err := Stopped(busy.Process.Pid); err != nil || stopped == want {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
		}
		t.Fatalf("not within a minute: stopped is %t", want)
	}
	spent := func() (ticks int) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", busy.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))[11:13] { // utime, stime: proc_pid_stat(5)
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			ticks += n
		}
		return ticks
	}
	for range 5 {
		becomes(false)
		if err := busy.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		becomes(true)
		before := spent()
		time.Sleep(50 * time.Millisecond)
		if after := spent(); after != before {
			t.Errorf("it is called stopped and ran for %d ticks", after-before)
		}
		if err := busy.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Stopped(1 << 30); err == nil {
		t.Error("a process that is not there is called stopped, or not")
	}
}

// child starts a shell with a child of its own, and ends both after the test.
func child(t *testing.T) Process {
	t.Helper()
	ready, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "sleep 1000 >/dev/null & echo; wait")
	cmd.Stdout = w
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p, err := Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := KillGroup(cmd.Process); err != nil {
			t.Errorf("ending a child: %v", err)
		}
		_ = cmd.Wait()
		_, _ = ready.Close(), w.Close()
	})
	return p
}

func TestOnlyOwnGroupsAreKilled(t *testing.T) {
	group := exec.Command("sleep", "1000") // in the group of the test itself
	if err := group.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = group.Process.Kill()
		_ = group.Wait()
	}()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*os.Process{nil, {}, {Pid: -1}, {Pid: 0}, {Pid: 1}, self, group.Process} {
		if err := KillGroup(p); !errors.Is(err, ErrRefused) {
			t.Errorf("the group of %v: %v", p, err)
		}
	}
}

func TestParseStat(t *testing.T) {
	const tail = " S 7 2 3 4 5 2097216 0 0 0 0 0 0 0 0 20 0 1 0 4242 0"
	if p, err := parseStat(5, []byte("5 (a) b) c)"+tail)); err != nil || p != (Process{5, 7, 4242, false, false, true}) {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, bad := range []string{"", "5", "5 (x)", "5 (x) S 7", "5 (x) S x 2 3 4 5 64 0 0 0 0 0 0 0 0 20 0 1 0 4242 0"} {
		if p, err := parseStat(5, []byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}

func TestOnlyOwnFoldersAreRemoved(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign")
	file := filepath.Join(foreign, "file")
	if err := errors.Join(os.Mkdir(foreign, 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(foreign, link); err != nil {
		t.Fatal(err)
	}
	bad := []string{"", "/", ".", "/run", "/tmp", "/home", "run/node", "/run/../etc", "/run/node/", "/var/lib", "/usr/lib", foreign, link, file}
	for _, dir := range bad {
		if Owned(dir) {
			t.Errorf("%q counts as owned", dir)
		}
		// What would be made or removed if this were wrong is only tried here.
		if dir != foreign && dir != link && dir != file {
			continue
		}
		for what, do := range map[string]func(string) error{"own": Own, "remove": Remove} {
			if err := do(dir); err == nil {
				t.Errorf("%s %q: no error", what, dir)
			}
		}
	}
	for _, dir := range bad[:9] {
		if check(dir) == nil {
			t.Errorf("folder %q is accepted", dir)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestOwnFolderIsRemovedButNotWhatIsLinked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	foreign := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(foreign, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Own(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(foreign), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(dir); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
}

func TestWhatIsMountedInAFolderSurvivesItsRemoval(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts: run it as root")
	}
	own, foreign := filepath.Join(t.TempDir(), "own"), t.TempDir()
	file := filepath.Join(foreign, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o644), Own(own), os.MkdirAll(filepath.Join(own, "x", "y"), 0o755)); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(own, "x", "y")
	for range 2 { // a mount upon a mount
		if err := unix.Mount(foreign, at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	// Only what belongs to this folder counts.
	if err := Unmount(foreign); err != nil {
		t.Error(err)
	}
	if below, err := MountsBelow(own); err != nil || len(below) != 2 {
		t.Errorf("mounted are %v, %v", below, err)
	}
	// Without the mark nothing is unmounted.
	if err := os.Remove(filepath.Join(own, markFile)); err != nil {
		t.Fatal(err)
	}
	if err := Unmount(own); !errors.Is(err, ErrRefused) {
		t.Errorf("unmount without the mark: %v", err)
	}
	if err := Remove(own); !errors.Is(err, ErrRefused) {
		t.Errorf("remove without the mark: %v", err)
	}
	if err := os.WriteFile(filepath.Join(own, markFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Remove(own); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("what was mounted is gone: %v", err)
	}
	if below, err := MountsBelow(filepath.Dir(own)); err != nil || len(below) != 0 {
		t.Errorf("mounted are %v, %v", below, err)
	}
}

func TestWithin(t *testing.T) {
	for path, want := range map[string]bool{"/a/b": true, "/a/b/c": true, "/a/bc": false, "/a": false, "": false} {
		if Within(path, "/a/b") != want {
			t.Errorf("within(%s) is %t", path, !want)
		}
	}
	if Within("/anything", "") || Within("", "") || Within("/anything", "/") {
		t.Error("something lies within the empty path or the root")
	}
}

func TestParseMounts(t *testing.T) {
	got := parseMounts("36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 - ext3 /dev/root rw\nnonsense\n5 1 0:9 / /x rw - cgroup2 none rw\n")
	if len(got) != 2 || got[0] != (Mount{"/mnt two", "ext3"}) || got[1] != (Mount{"/x", "cgroup2"}) {
		t.Errorf("got %v", got)
	}
}
