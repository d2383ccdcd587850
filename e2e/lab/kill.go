package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
)

// traits are what tells a lab's processes, or those of some of its places, from
// all others on the machine: the network namespaces that they run in, and the
// mark in the environment of what was started there.
type traits struct {
	spaces map[uint64]bool
	marks  [][]byte
}

// traits are those of the whole lab.
func (l *Lab) traits() (traits, error) {
	if err := checkName(l.opts.Name); err != nil {
		return traits{}, err
	}
	paths, err := filepath.Glob(filepath.Join(nsDir, nsPrefix(l.opts.Name)+"*"))
	if err != nil {
		return traits{}, err
	}
	return newTraits(paths, [][]byte{[]byte(l.mark(""))})
}

// traitsOf are those of the places named; of none there are none.
func (l *Lab) traitsOf(places ...string) (traits, error) {
	if err := checkName(l.opts.Name); err != nil {
		return traits{}, err
	}
	var paths []string
	var marks [][]byte
	for _, w := range places {
		if w == "" {
			return traits{}, errors.New("a place without a name")
		}
		paths = append(paths, l.NetNS(w))
		marks = append(marks, append([]byte(l.mark(w)), 0))
	}
	return newTraits(paths, marks)
}

func newTraits(paths []string, marks [][]byte) (traits, error) {
	t := traits{map[uint64]bool{}, marks}
	for _, p := range paths {
		if ino, ok := nsInode(p); ok {
			t.spaces[ino] = true
		}
	}
	// The machine's own namespace is nobody's trait, whatever is bound where. Not
	// everybody may look at process 1, so this process stands for it too; whoever
	// calls from inside a lab's namespace is left with the mark to go by there.
	self := procNS(os.Getpid())
	if self == 0 {
		return traits{}, errors.New("cannot tell this process's network namespace")
	}
	delete(t.spaces, self)
	delete(t.spaces, procNS(1))
	return t, nil
}

// fit reports whether a process has one of the traits. What cannot be read
// about a process does not speak against it.
func (t traits) fit(pid int) bool {
	if ino := procNS(pid); ino != 0 && t.spaces[ino] {
		return true
	}
	return marked(pid, t.marks)
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
		// A mark ends in the lab's name and a slash, or more: never in less.
		if len(m) > len(markVar)+2 && bytes.Contains(env, append([]byte{0}, m...)) {
			return true
		}
	}
	return false
}

// members lists the processes of the lab, or of some places when any are named,
// and what descends from those.
func (l *Lab) members(places ...string) ([]int, error) {
	find := l.traits
	if len(places) > 0 {
		find = func() (traits, error) { return l.traitsOf(places...) }
	}
	t, err := find()
	if err != nil {
		return nil, err
	}
	return sweep.PIDs(t.fit)
}

// killAll kills every process of the lab at once.
func (l *Lab) killAll() error {
	t, err := l.traits()
	if err != nil {
		return err
	}
	return sweep.Kill(t.fit, nil)
}

// killAt kills every process of some places at once.
func (l *Lab) killAt(places ...string) error {
	t, err := l.traitsOf(places...)
	if err != nil {
		return err
	}
	return sweep.Kill(t.fit, nil)
}
