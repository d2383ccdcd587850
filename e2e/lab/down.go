package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bellwether-lb/bellwether/e2e/internal/flock"
	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
	"github.com/bellwether-lb/bellwether/e2e/internal/sysctl"
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
	return l.down(ctx)
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
func (l *Lab) down(ctx context.Context) error {
	// Clearing up goes on when whoever asked for it is interrupted.
	ctx = context.WithoutCancel(ctx)
	// All that follows is found by the name, and by what lies below these folders.
	if err := checkName(l.opts.Name); err != nil {
		return err
	}
	if l.dir != filepath.Join(stateRoot, l.opts.Name) {
		return fmt.Errorf("lab %s is not kept in %s", l.opts.Name, l.dir)
	}
	// Without a record, too: Docker starts its containers again after the machine has.
	if err := l.cluster().Delete(ctx); err != nil && l.opts.Kind {
		return err
	}
	if err := l.killAll(); err != nil {
		return err
	}
	if err := l.removeMachines(); err != nil {
		return err
	}
	// Before the folder that holds the record. It must not keep the rest from
	// being cleared up.
	restored := sysctl.Restore(ctx, l.dir)
	namespaces, err := filepath.Glob(filepath.Join(nsDir, nsPrefix(l.opts.Name)+"*"))
	if err != nil {
		return err
	}
	for _, path := range namespaces {
		if err := deleteNS(filepath.Base(path)); err != nil {
			return err
		}
	}
	for _, dir := range []string{l.dataDir(), l.dir} {
		if err := sweep.Remove(dir); err != nil {
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
	if restored != nil {
		return fmt.Errorf("put the machine's settings back: %w", restored)
	}
	return nil
}

// dataDir is for what may grow large: container images and layers.
func (l *Lab) dataDir() string { return filepath.Join(dataRoot, l.opts.Name) }

// Remains lists what is left on the machine of the lab of that name: nothing,
// after a Down.
func Remains(name string) ([]string, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	l := newLab(Options{Name: name})
	var left []string
	pids, err := l.members()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		left = append(left, fmt.Sprintf("process %d %q", pid, args))
	}
	namespaces, err := filepath.Glob(filepath.Join(nsDir, nsPrefix(name)+"*"))
	if err != nil {
		return nil, err
	}
	for _, path := range namespaces {
		left = append(left, "network namespace "+path)
	}
	for _, dir := range []string{l.dir, l.dataDir()} {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			left = append(left, "folder "+dir)
		}
		mounts, err := sweep.MountsBelow(dir)
		if err != nil {
			return nil, err
		}
		for _, m := range mounts {
			left = append(left, "mount "+m)
		}
	}
	return left, nil
}

// lockLab waits for and takes the lock that Up, Down, PowerOff and PowerOn
// hold.
func lockLab(ctx context.Context, name string) (unlock func(), err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	unlock, err = flock.Take(ctx, filepath.Join(stateRoot, name+".lock"))
	if err != nil {
		return nil, fmt.Errorf("wait for another command on lab %s: %w", name, err)
	}
	return unlock, nil
}
