package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
)

// ProcSpec describes a long-running process of the lab.
type ProcSpec struct {
	// Name is unique in its place and names the log file.
	Name string
	// Args is the command line; Args[0] is looked up in PATH.
	Args []string
	// Env is added to the environment of the process that starts it.
	Env []string
	// Dir is the working directory; the lab's state folder when empty.
	Dir string
	// AtPowerOn starts the process again when its node gets power back.
	AtPowerOn bool
}

// Process is a process that Start started. It outlives the program that
// started it; Lab.Process finds it again.
type Process struct {
	Where   string
	Spec    ProcSpec
	PID     int
	Born    uint64 // start time in clock ticks since boot: tells PID's owner from a later one
	Started time.Time
	Log     string // file that holds its output

	path string             // of this record
	fits func(pid int) bool // whether a process has the traits of the place
}

// markVar is set in the environment of everything the lab starts, and is
// inherited by what those start: a process can be found by it even when the lab
// was killed before it could record the PID.
const markVar = "BELLWETHER_LAB_PLACE"

func (l *Lab) mark(where string) string { return markVar + "=" + l.opts.Name + "/" + where }

// Command returns a command that runs inside a place's network namespace. It
// is the caller's: it is not recorded, but power-off and down end it.
func (l *Lab) Command(where string, args ...string) *exec.Cmd {
	//nolint:noctx // what is started with it outlives whoever starts it
	return l.stamp(exec.Command("nsenter", l.enter(where, args)...), where)
}

// CommandContext is Command with a context that kills the process when done.
func (l *Lab) CommandContext(ctx context.Context, where string, args ...string) *exec.Cmd {
	return l.stamp(exec.CommandContext(ctx, "nsenter", l.enter(where, args)...), where)
}

// enter gives the arguments of an nsenter that runs a command in a place. It is
// nsenter and not "ip netns exec": the latter remounts /sys and hides the cgroup
// mounts. nsenter replaces itself, so the PID is the program's own.
func (l *Lab) enter(where string, args []string) []string {
	return append([]string{"--net=" + l.NetNS(where), "--"}, args...)
}

func (l *Lab) stamp(cmd *exec.Cmd, where string) *exec.Cmd {
	cmd.Env = append(os.Environ(), l.mark(where))
	return cmd
}

// Start starts a process in a place and records it. When a process of that
// name runs there already, that is an error.
func (l *Lab) Start(where string, spec ProcSpec) (*Process, error) {
	p := &Process{
		Where: where, Spec: spec,
		Log:  filepath.Join(l.dir, "logs", where, spec.Name+".log"),
		path: filepath.Join(l.dir, "procs", where, spec.Name+".json"),
	}
	if err := p.bind(l); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", spec.Name, where, err)
	}
	if old, err := l.Process(where, spec.Name); err == nil && old.Alive() {
		return nil, fmt.Errorf("start %s in %s: it runs already, as process %d", spec.Name, where, old.PID)
	}
	if err := p.start(l); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", spec.Name, where, err)
	}
	return p, nil
}

// start runs the process by its spec and writes the record.
func (p *Process) start(l *Lab) error {
	for _, f := range []string{p.Log, p.path} {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own handle
	cmd := l.Command(p.Where, p.Spec.Args...)
	cmd.Env = append(cmd.Env, p.Spec.Env...)
	cmd.Dir = p.Spec.Dir
	if cmd.Dir == "" {
		cmd.Dir = l.dir
	}
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own: Ctrl-C at the terminal is for the lab command only.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.Started = time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // reaps it; how it ended is in its log
	p.PID = cmd.Process.Pid
	if st, err := sweep.Read(p.PID); err == nil {
		p.Born = st.Born
	}
	return writeJSON(p.path, p)
}

// Process finds a process that Start recorded.
func (l *Lab) Process(where, name string) (*Process, error) {
	path := filepath.Join(l.dir, "procs", where, name+".json")
	p := &Process{path: path}
	if err := readJSON(path, p); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("no process %s was started in %s: %w", name, where, err)
		}
		return nil, fmt.Errorf("read the record of %s in %s: %w", name, where, err)
	}
	if p.Where != where || p.Spec.Name != name {
		return nil, fmt.Errorf("the record of %s in %s is of something else", name, where)
	}
	if err := p.bind(l); err != nil {
		return nil, fmt.Errorf("read the record of %s in %s: %w", name, where, err)
	}
	return p, nil
}

// bind ties the process to its lab: what its record says is not enough to
// signal anything.
func (p *Process) bind(l *Lab) error {
	t, err := l.traitsOf(p.Where)
	p.fits = t.fit
	return err
}

// Processes lists what Start recorded in a place, dead or alive, by name.
func (l *Lab) Processes(where string) ([]*Process, error) {
	files, err := filepath.Glob(filepath.Join(l.dir, "procs", where, "*.json"))
	if err != nil {
		return nil, err
	}
	var list []*Process
	for _, f := range files {
		p, err := l.Process(where, strings.TrimSuffix(filepath.Base(f), ".json"))
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// Alive reports whether the process still runs.
func (p *Process) Alive() bool {
	st, err := sweep.Read(p.PID)
	return err == nil && p.Born != 0 && st.Born == p.Born && !st.Dead
}

// Signal sends a signal; to a process that is gone it is an error. So it is to
// one that does not carry the traits of its place, whatever the record says.
func (p *Process) Signal(sig syscall.Signal) error {
	if !p.Alive() {
		return fmt.Errorf("signal %s in %s: %w", p.Spec.Name, p.Where, os.ErrProcessDone)
	}
	held, err := sweep.Hold(p.PID, p.Born, p.fits)
	if err != nil {
		return fmt.Errorf("signal %s in %s: %w", p.Spec.Name, p.Where, err)
	}
	defer held.Close()
	return held.Signal(sig)
}

// Pause stops the process where it stands, and returns when it does; its sockets stay open and silent.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if stopped, err := sweep.Stopped(p.PID); err != nil || stopped {
			return err
		}
	}
	return fmt.Errorf("%s in %s did not stop", p.Spec.Name, p.Where)
}

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL, 10*time.Second) }

// Stop asks the process to end, waits for up to grace, then kills it.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.end(syscall.SIGTERM, grace); err == nil || !p.Alive() {
		return nil
	}
	return p.Kill()
}

// end sends a signal and waits until the process is gone. One that is about to be gone no longer shows its traits, so that it is
// waited for as well where the signal is refused, though not for long.
func (p *Process) end(sig syscall.Signal, wait time.Duration) error {
	refused := p.Signal(sig)
	if refused != nil {
		wait = min(wait, time.Second)
	}
	for end := time.Now().Add(wait); p.Alive(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return cmp.Or(refused, fmt.Errorf("%s in %s did not end within %s of %s", p.Spec.Name, p.Where, wait, sig))
		}
	}
	return nil
}

// Restart starts a process that ended, by the spec that it was started with.
func (l *Lab) Restart(p *Process) error {
	if p.Alive() {
		return fmt.Errorf("start %s in %s: it runs already", p.Spec.Name, p.Where)
	}
	if err := p.start(l); err != nil {
		return fmt.Errorf("start %s in %s again: %w", p.Spec.Name, p.Where, err)
	}
	return nil
}

// LogTail returns the last lines of the process's output.
func (p *Process) LogTail(lines int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// CopyLogs copies what the processes said into a folder, which it makes, as
// PLACE/NAME.log, and in the full mode the logs of pods into NODE/pods: down
// removes them.
func (l *Lab) CopyLogs(to string) error {
	logs := filepath.Join(l.dir, "logs")
	errs := []error{os.RemoveAll(to), os.MkdirAll(logs, 0o755), os.CopyFS(to, os.DirFS(logs))} // on kind there may be none
	for _, n := range l.Nodes() {
		from := l.machine(n).PodLogs()
		if _, err := os.Stat(from); err == nil {
			errs = append(errs, os.CopyFS(filepath.Join(to, n.Name, "pods"), os.DirFS(from)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("copy the logs of lab %s: %w", l.opts.Name, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
