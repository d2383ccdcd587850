// Package sweep ends and removes what a lab left on this machine. It is the one
// place in e2e that signals processes, unmounts and deletes folders: whatever
// its callers' records say, it touches only what it can prove, at that moment,
// to be theirs. When in doubt it leaves a thing alone and says so.
package sweep

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

// Process is one entry of /proc. The PID alone may change hands; with the start
// time it cannot.
type Process struct {
	PID, Parent int
	Born        uint64 // clock ticks since boot
	Dead        bool   // it only waits to be reaped
	stopped     bool   // it runs only after SIGCONT
	kernel      bool
}

// Read looks a process up, proc_pid_stat(5).
func Read(pid int) (Process, error) {
	if pid < 1 {
		return Process{}, fmt.Errorf("there is no process %d", pid)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, err
	}
	p, err := parseStat(pid, data)
	if err == nil && p.Dead {
		// The first thread has ended. As long as others have not, the process
		// still holds its files and listens on its ports.
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		p.Dead = err != nil || len(threads) <= 1
	}
	return p, err
}

// Stopped reports whether a process stands still, with every thread of it: those that run go on for a moment after SIGSTOP.
func Stopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("there is no process %d", pid)
	}
	for _, path := range threads {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return false, err
		}
		if thread, err := parseStat(pid, data); err != nil || !thread.stopped && !thread.Dead {
			return false, err
		}
	}
	return true, nil
}

func parseStat(pid int, data []byte) (Process, error) {
	// The second field, the program's name in parentheses, may hold anything.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return Process{}, fmt.Errorf("stat of process %d has no name", pid)
	}
	f := strings.Fields(string(data[i+1:]))
	if len(f) < 20 {
		return Process{}, fmt.Errorf("stat of process %d has %d fields", pid, len(f))
	}
	parent, err1 := strconv.Atoi(f[1])
	flags, err2 := strconv.ParseUint(f[6], 10, 32)
	born, err3 := strconv.ParseUint(f[19], 10, 64)
	const kernelThread = 0x00200000 // PF_KTHREAD of the kernel's sched.h
	p := Process{PID: pid, Parent: parent, Born: born, Dead: f[0] == "Z" || f[0] == "X", stopped: f[0] == "T" || f[0] == "t", kernel: flags&kernelThread != 0}
	return p, errors.Join(err1, err2, err3)
}

// list is every live process.
func list() ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// One that ended meanwhile is no longer of interest.
		if p, err := Read(pid); err == nil && !p.Dead {
			all = append(all, p)
		}
	}
	return all, nil
}

// ErrRefused marks an order to touch something that is not provably the
// caller's.
var ErrRefused = errors.New("not proven to be the lab's")

// Held is a handle on a process: it keeps meaning that process, and no other
// that has its PID later.
type Held struct {
	Process
	fd int
}

// Hold takes a handle on a process that the caller knows by PID and start time,
// if belongs says, while the handle is held, that it is the caller's. It refuses
// PID 1, threads of the kernel, the calling process and its ancestors, whatever
// belongs says.
func Hold(pid int, born uint64, belongs func(pid int) bool) (*Held, error) {
	if belongs == nil || born == 0 || pid <= 1 {
		return nil, fmt.Errorf("process %d: %w", pid, ErrRefused)
	}
	return hold(pid, func(now Process) bool { return now.Born == born && belongs(pid) })
}

func hold(pid int, proof func(now Process) bool) (*Held, error) {
	if pid <= 1 {
		return nil, fmt.Errorf("process %d: %w", pid, ErrRefused)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	// What is read from here on is about the handle's process, or it is gone.
	now, err := Read(pid)
	if err == nil && now.Dead {
		err = os.ErrProcessDone
	}
	if err == nil && (now.kernel || isOwn(pid) || !proof(now)) {
		err = ErrRefused
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("process %d: %w", pid, err), unix.Close(fd))
	}
	return &Held{now, fd}, nil
}

// isOwn reports whether a process is this one or an ancestor of it. When that
// cannot be told it is taken for one.
func isOwn(pid int) bool {
	for at := os.Getpid(); at > 1; {
		if at == pid {
			return true
		}
		p, err := Read(at)
		if err != nil {
			return true
		}
		at = p.Parent
	}
	return false
}

// Signal sends a signal. It is the only place that does.
func (h *Held) Signal(sig syscall.Signal) error {
	if err := unix.PidfdSendSignal(h.fd, sig, nil, 0); err != nil {
		return fmt.Errorf("signal process %d: %w", h.PID, err)
	}
	return nil
}

// Wait waits until the process, with all its threads, is dead, or until end.
func (h *Held) Wait(end time.Time) error {
	for {
		left := time.Until(end)
		fds := []unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(left, 0).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", h.PID, err)
		case n > 0:
			return nil
		case left <= 0:
			return fmt.Errorf("process %d lives on", h.PID)
		}
	}
}

// Close gives the handle back; the process is not touched.
func (h *Held) Close() { _ = unix.Close(h.fd) }

// Family holds every process that belongs, and what descends from those.
// Parents come before their children.
func Family(belongs func(pid int) bool) ([]*Held, error) {
	if belongs == nil {
		return nil, fmt.Errorf("look for processes: %w", ErrRefused)
	}
	all, err := list()
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	children := map[int][]Process{}
	var found []*Held
	seen := map[int]bool{}
	for _, p := range all {
		children[p.Parent] = append(children[p.Parent], p)
		if !belongs(p.PID) {
			continue
		}
		// An error means that it ended, or must be spared.
		if h, err := Hold(p.PID, p.Born, belongs); err == nil {
			seen[p.PID] = true
			found = append(found, h)
		}
	}
	for i := 0; i < len(found); i++ {
		parent := found[i]
		for _, c := range children[parent.PID] {
			// A child is never older than its parent: if it is, the PID that it
			// names as its parent's has changed hands.
			if seen[c.PID] || c.Born < parent.Born {
				continue
			}
			h, err := hold(c.PID, func(now Process) bool { return now.Born == c.Born && now.Parent == parent.PID })
			if err == nil {
				seen[c.PID] = true
				found = append(found, h)
			}
		}
	}
	return found, nil
}

// PIDs lists what Family finds.
func PIDs(belongs func(pid int) bool) ([]int, error) {
	found, err := Family(belongs)
	var pids []int
	for _, h := range found {
		pids = append(pids, h.PID)
		h.Close()
	}
	return pids, err
}

// Kill kills every process that belongs and what descends from those, at once,
// waits until they are gone, and looks again until none is left: a dying one may
// have started another. Those that first picks, when it is not nil, are killed
// before the others.
func Kill(belongs, first func(pid int) bool) error {
	for end := time.Now().Add(15 * time.Second); ; {
		found, err := Family(belongs)
		if err != nil || len(found) == 0 {
			return err
		}
		if err := killHeld(found, first, end); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes are started again and again, %d at the last look", len(found))
		}
	}
}

// killHeld kills processes, waits for their deaths, and gives the handles back.
func killHeld(found []*Held, first func(pid int) bool, end time.Time) error {
	var errs []error
	var later []*Held
	kill := func(h *Held) {
		// ESRCH: it ended between the look and the kill.
		if err := h.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	for _, h := range found {
		if first != nil && !first(h.PID) {
			later = append(later, h)
			continue
		}
		kill(h)
	}
	for _, h := range later {
		kill(h)
	}
	for _, h := range found {
		if errors.Join(errs...) == nil {
			errs = append(errs, h.Wait(end))
		}
		h.Close()
	}
	return errors.Join(errs...)
}

// KillGroup kills a process group whose leader the caller started and has not
// waited for yet.
func KillGroup(leader *os.Process) error {
	if leader == nil || leader.Pid <= 1 {
		return fmt.Errorf("kill a process group: %w", ErrRefused)
	}
	p, err := Read(leader.Pid)
	if err != nil {
		return err
	}
	group, err := unix.Getpgid(leader.Pid)
	if err != nil {
		return err
	}
	// To kill another's group could be to kill one's own, or, as -1, everything.
	if p.Parent != os.Getpid() || group != leader.Pid || group == unix.Getpgrp() {
		return fmt.Errorf("kill the process group of %d: %w", leader.Pid, ErrRefused)
	}
	return unix.Kill(-group, unix.SIGKILL)
}
