package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// restart stops both controllers, creates a Service, and starts them again: how soon after one has the lease has the Service
// its address?
func (a *allocation) restart(ctx context.Context, present int, bar float64) error {
	leased := figure{what: fmt.Sprintf("controllers restarted with %d Services: lease taken -> a new one has its address", present), unit: "ms", bar: bar}
	started := figure{what: "   processes started -> the same", unit: "ms"}
	for i := range a.restarts {
		late := a.extra() + i
		begun, err := a.startAgain(ctx, late)
		if err != nil {
			return err
		}
		seen, err := a.seen.one(ctx, nth(late))
		if err != nil {
			return err
		}
		_, since, err := a.leader(ctx)
		if err != nil {
			return err
		}
		leased.values = append(leased.values, milliseconds(seen.Sub(since)))
		started.values = append(started.values, milliseconds(seen.Sub(begun)))
		if err := a.delete(ctx, nth(late)); err != nil {
			return err
		}
		if _, err := a.settled(ctx); err != nil {
			return err
		}
	}
	a.table = append(a.table, leased, started)
	return a.resident(ctx, "   resident memory of the one that leads, after that", 0)
}

// startAgain restarts the controllers; the Service is created while there is none.
func (a *allocation) startAgain(ctx context.Context, late int) (begun time.Time, err error) {
	var stopped []*lab.Process
	for _, replica := range []string{"controller-1", "controller-2"} {
		p, err := a.Lab.Process(lab.Control, replica)
		if err != nil {
			return begun, err
		}
		if err := p.Stop(10 * time.Second); err != nil {
			return begun, err
		}
		stopped = append(stopped, p)
	}
	if err := a.create(ctx, late, false); err != nil {
		return begun, err
	}
	begun = time.Now()
	for _, p := range stopped {
		if err := a.Lab.Restart(p); err != nil {
			return begun, err
		}
	}
	return begun, nil
}

// memory reads the resident set of the controller that leads.
func (a *allocation) memory(ctx context.Context, present int, bar float64) error {
	return a.resident(ctx, fmt.Sprintf("controller that leads, resident memory with %d Services", present), bar)
}

func (a *allocation) resident(ctx context.Context, what string, bar float64) error {
	time.Sleep(10 * time.Second) // the Go runtime gives memory back little by little
	p, _, err := a.leader(ctx)
	if err != nil {
		return err
	}
	now, peak, err := residentOf(p)
	if err != nil {
		return err
	}
	a.table = append(a.table, figure{what: what, unit: "MB", bar: bar, values: []float64{now}}, figure{what: "   its peak", unit: "MB", values: []float64{peak}})
	return nil
}

// residentOf is the resident set of a process, now and at most, in millions of bytes.
func residentOf(p *lab.Process) (now, peak float64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of %s: %w", p.Spec.Name, err)
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "VmRSS:" && fields[0] != "VmHWM:" {
			continue
		}
		kib, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the memory of %s: %w", p.Spec.Name, err)
		}
		if fields[0] == "VmRSS:" {
			now = kib * 1024 / 1e6
		} else {
			peak = kib * 1024 / 1e6
		}
	}
	return now, peak, nil
}
