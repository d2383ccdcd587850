package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Down takes the lab down: processes, mounts, namespaces with their links, and
// files. It works from what it finds, not only from what was recorded, so it
// also clears up after an Up that was killed.
func (l *Lab) Down(ctx context.Context) error {
	unlock, err := lockLab(ctx, l.opts.Name)
	if err != nil {
		return err
	}
	defer unlock()
	return l.down()
}

// Down takes down the lab of that name, whatever state it is in. No such lab is
// no error.
func Down(ctx context.Context, name string) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab's namespaces are root's: run it as root")
	}
	l, _, err := load(name)
	if l == nil {
		return err
	}
	// Any other error means that the record cannot be read; names are enough.
	return l.Down(ctx)
}

// down needs only the lab's name. The caller holds the lock.
func (l *Lab) down() error {
	if err := l.killMembers(); err != nil {
		return err
	}
	if err := l.removeMachines(); err != nil {
		return err
	}
	for _, dir := range []string{l.dir, l.dataDir()} {
		if err := unmountBelow(dir); err != nil {
			return err
		}
	}
	namespaces, err := filepath.Glob(filepath.Join(nsDir, nsPrefix(l.opts.Name)+"*"))
	if err != nil {
		return err
	}
	for _, path := range namespaces {
		if err := deleteNS(filepath.Base(path)); err != nil {
			return err
		}
	}
	if err := l.restoreLimits(); err != nil {
		return err
	}
	for _, dir := range []string{l.dataDir(), l.dir} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the lab's files: %w", err)
		}
	}
	// Last, so that who waits for the lock finds nothing of the old lab.
	if err := os.Remove(filepath.Join(stateRoot, l.opts.Name+".lock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, dir := range []string{stateRoot, dataRoot} {
		_ = os.Remove(dir) // fails while another lab is there, as it should
	}
	return nil
}

// dataDir is for what may grow large: container images and layers.
func (l *Lab) dataDir() string { return filepath.Join(dataRoot, l.opts.Name) }

// unmountBelow unmounts everything at and below a folder, deepest first.
func unmountBelow(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, p := range points {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// mountsBelow lists mount points at and below a folder, the last mounted first.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var points []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		// The kernel writes blanks and the like in octal; our folders have none.
		if p := fields[4]; p == dir || strings.HasPrefix(p, dir+"/") {
			points = append(points, p)
		}
	}
	slices.Reverse(points)
	return points, s.Err()
}
