package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// procStat is what /proc/PID/stat says that the lab asks for.
type procStat struct {
	pid, parent int
	state       byte
	born        uint64
}

// dead reports whether the process is only waiting to be reaped.
func (s procStat) dead() bool { return s.state == 'Z' || s.state == 'X' }

func readStat(pid int) (procStat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	// The second field, the program's name in parentheses, may hold anything.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return procStat{}, fmt.Errorf("stat of process %d has no name", pid)
	}
	f := strings.Fields(string(data[i+1:]))
	if len(f) < 20 {
		return procStat{}, fmt.Errorf("stat of process %d has %d fields", pid, len(f))
	}
	parent, err1 := strconv.Atoi(f[1])
	born, err2 := strconv.ParseUint(f[19], 10, 64)
	return procStat{pid: pid, state: f[0][0], parent: parent, born: born}, errors.Join(err1, err2)
}

// members finds every process that belongs to the lab, or to some of its
// places when any are named: what was started there (the mark in the
// environment), what runs inside the namespaces, and what descends from those.
func (l *Lab) members(places ...string) []int {
	spaces := map[uint64]bool{}
	var marks [][]byte
	paths, _ := filepath.Glob(filepath.Join(nsDir, nsPrefix(l.opts.Name)+"*"))
	marks = append(marks, []byte(l.mark("")))
	if len(places) > 0 {
		paths, marks = nil, nil
		for _, w := range places {
			paths = append(paths, l.NetNS(w))
			marks = append(marks, append([]byte(l.mark(w)), 0))
		}
	}
	for _, p := range paths {
		if ino, ok := nsInode(p); ok {
			spaces[ino] = true
		}
	}
	entries, _ := os.ReadDir("/proc")
	children := map[int][]int{}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		st, err := readStat(pid)
		if err != nil || st.dead() {
			continue
		}
		children[st.parent] = append(children[st.parent], pid)
		if spaces[procNS(pid)] || marked(pid, marks) {
			found = append(found, pid)
		}
	}
	return withDescendants(found, children)
}

// procNS is the inode of a process's network namespace, 0 if it cannot be read.
func procNS(pid int) uint64 {
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) != nil {
		return 0
	}
	return st.Ino
}

// marked reports whether a process was started with one of the marks.
func marked(pid int, marks [][]byte) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !bytes.Contains(env, []byte(markVar)) {
		return false
	}
	env = append([]byte{0}, env...)
	for _, m := range marks {
		if bytes.Contains(env, append([]byte{0}, m...)) {
			return true
		}
	}
	return false
}

// withDescendants adds the children of the found, and theirs. The calling
// process is never among them.
func withDescendants(found []int, children map[int][]int) []int {
	seen := map[int]bool{os.Getpid(): true}
	var all []int
	for len(found) > 0 {
		pid := found[0]
		found = found[1:]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		all = append(all, pid)
		found = append(found, children[pid]...)
	}
	return all
}

// killMembers kills every process of the lab, or of some places, at once, and
// looks again until none is left: a dying one may have started another.
func (l *Lab) killMembers(places ...string) error {
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		pids := l.members(places...)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			// ESRCH: it ended between the look and the kill.
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes %v survive being killed", pids)
		}
	}
}
