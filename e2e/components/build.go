package components

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
)

// Ensure returns the executables of the components, building what the cache
// lacks. It says on out what it does; when all is cached it says nothing.
func Ensure(ctx context.Context, out io.Writer, list ...Component) (Binaries, error) {
	source, err := Source()
	if err != nil {
		return nil, err
	}
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(cache, "components")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("make the component cache: %w", err)
	}
	bins := Binaries{}
	for _, c := range list {
		dir, err := c.ensure(ctx, out, source, root)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", c.Name, err)
		}
		for _, cmd := range c.Commands {
			bins[cmd] = filepath.Join(dir, cmd)
		}
	}
	return bins, nil
}

// ensure builds one component below root unless it is there, and returns the
// folder of its executables.
func (c Component) ensure(ctx context.Context, out io.Writer, source, root string) (string, error) {
	p, err := c.pin(source)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, p.key)
	if c.complete(dir) {
		return dir, nil
	}
	unlock, err := lock(ctx, out, filepath.Join(root, c.Name+".lock"), c.Name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if c.complete(dir) { // another process built it while this one waited
		return dir, nil
	}
	if err := removeLeftovers(filepath.Join(root, ".build-"+c.Name+"-*")); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(root, ".build-"+c.Name+"-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // the next build of it tries again
	if err := c.build(ctx, out, p, tmp); err != nil {
		return "", err
	}
	if !c.complete(tmp) {
		return "", fmt.Errorf("go build succeeded but did not make all of %s", strings.Join(c.Commands, ", "))
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

// complete reports whether dir holds every command of the component.
func (c Component) complete(dir string) bool {
	for _, cmd := range c.Commands {
		if st, err := os.Stat(filepath.Join(dir, cmd)); err != nil || st.Size() == 0 {
			return false
		}
	}
	return true
}

// build runs "go build" into dir and reports progress.
func (c Component) build(ctx context.Context, out io.Writer, p pin, dir string) error {
	args := append([]string{"build", "-v"}, c.flags(p.version)...)
	args = append(append(args, "-o", dir+string(filepath.Separator)), c.Packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = p.dir
	cgo := "CGO_ENABLED=0"
	if c.Cgo {
		cgo = "CGO_ENABLED=1"
	}
	// A workspace or vendoring flags of the caller would change what is built.
	cmd.Env = append(os.Environ(), cgo, "GOWORK=off", "GOFLAGS=")
	// The compilers are children of go: end the whole group on Ctrl-C.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return sweep.KillGroup(cmd.Process) }
	what := c.Name + " " + p.version
	fmt.Fprintf(out, "building %s (once; kept in %s)\n", what, filepath.Dir(dir))
	return runWithProgress(cmd, out, what)
}

// runWithProgress runs a "go build -v" and prints, every few seconds, how long
// it has taken and how far it is. A failure carries the last lines it printed.
func runWithProgress(cmd *exec.Cmd, out io.Writer, what string) error {
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	cmd.Stdout = io.Discard
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	var packages, modules atomic.Int64
	var tail []string
	read := make(chan struct{})
	go func() { // owns tail until read is closed
		defer close(read)
		for s := bufio.NewScanner(pipe); s.Scan(); {
			switch line := s.Text(); {
			case strings.HasPrefix(line, "go: downloading"):
				modules.Add(1)
			case strings.ContainsAny(line, " \t"):
				tail = append(tail, line)
				tail = tail[max(0, len(tail)-20):]
			default:
				packages.Add(1)
			}
		}
	}()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-read:
			done = true
		case <-tick.C:
			fmt.Fprintf(out, "  %s: %s, %d modules downloaded, %d packages compiled\n",
				what, time.Since(start).Round(time.Second), modules.Load(), packages.Load())
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, strings.Join(tail, "\n"))
	}
	fmt.Fprintf(out, "built %s in %s\n", what, time.Since(start).Round(time.Second))
	return nil
}

// Folder is where the component's module lies, with what is not a program.
func (c Component) Folder(ctx context.Context) (string, error) {
	source, err := Source()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", c.Module)
	cmd.Dir = filepath.Join(source, c.Name)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	var module struct{ Dir string }
	if err := errors.Join(err, json.Unmarshal(out, &module)); err != nil {
		return "", fmt.Errorf("find the module of %s: %w", c.Name, err)
	}
	return module.Dir, nil
}

// Program builds one main package of the e2e module (a path such as
// "./cmd/backend") as a static executable and returns its path. The Go build
// cache makes it cheap to call each time, so it is always current.
func Program(ctx context.Context, pkg string) (string, error) {
	source, err := Source()
	if err != nil {
		return "", err
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "programs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // the next build of it tries again
	name := filepath.Base(pkg)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", tmp+"/"+name, pkg)
	cmd.Dir = filepath.Dir(source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	// Renaming replaces the name, not the file: what runs keeps running.
	return filepath.Join(dir, name), os.Rename(filepath.Join(tmp, name), filepath.Join(dir, name))
}

// removeLeftovers deletes what an interrupted build left. The caller holds the
// component's lock, so nobody is still writing there.
func removeLeftovers(pattern string) error {
	old, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove an interrupted build: %w", err)
		}
	}
	return nil
}

// lock takes an exclusive lock on a file. The kernel drops it when the process
// ends, however it ends.
func lock(ctx context.Context, out io.Writer, path, what string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for said := false; ; said = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !said {
			fmt.Fprintf(out, "waiting: another process builds %s\n", what)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
