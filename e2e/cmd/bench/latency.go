package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/probe"
)

// latency compares how soon a speaker answers for an address with how soon its node's kernel answers for its own, in one run.
func (s *segment) latency(ctx context.Context, present int) error {
	a, owner, err := s.single(ctx)
	if err != nil {
		return err
	}
	node, err := s.Lab.Node(owner)
	if err != nil {
		return err
	}
	var quiet replies
	usage, err := s.cpuOfSpeakers(func() (err error) {
		quiet, err = s.replies(ctx, a, node.Addrs[0], 20*time.Second)
		return err
	})
	if err != nil {
		return err
	}
	s.table = append(s.table, quiet.figures(fmt.Sprintf("ARP reply, %d Services", present))...)
	s.table = append(s.table, figure{what: "   CPU of each speaker meanwhile, one of which answers", unit: "%", values: usage})
	if present == 1 {
		if err := s.storm(ctx, a, owner, quiet); err != nil {
			return err
		}
		return s.empty(ctx)
	}
	return s.storm(ctx, a, owner, quiet)
}

// replies is how long answers took, in microseconds.
type replies struct {
	ours, kernel []float64
	lost         int
}

func (r replies) figures(what string) []figure {
	q := func(values []float64, p float64) float64 {
		sorted := slices.Sorted(slices.Values(values))
		return sorted[int(p*float64(len(sorted)-1))]
	}
	return []figure{
		{what: what + ": ours", unit: "us", values: r.ours},
		{what: "   the kernel's, for the node's own address", unit: "us", values: r.kernel},
		{what: "   ratio at p50", unit: "x", values: []float64{q(r.ours, 0.5) / q(r.kernel, 0.5)}, bar: 1.25},
		{what: "   ratio at p99", unit: "x", values: []float64{q(r.ours, 0.99) / q(r.kernel, 0.99)}, bar: 1.5},
		{what: "   probes lost", values: []float64{float64(r.lost)}, none: true},
	}
}

// replies asks for two addresses in turn, a thousand times a second.
func (s *segment) replies(ctx context.Context, ours, kernel netip.Addr, d time.Duration) (replies, error) {
	var r replies
	record, asked, err := s.probed(ctx, 2*time.Millisecond, []netip.Addr{ours, kernel}, func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	})
	for _, one := range record {
		took := float64(one.Time.Sub(one.Asked)) / float64(time.Microsecond)
		if one.Addr == ours {
			r.ours = append(r.ours, took)
		} else {
			r.kernel = append(r.kernel, took)
		}
	}
	r.lost = max(asked-2-len(record), 0)
	if err == nil && (len(r.ours) == 0 || len(r.kernel) == 0) {
		err = fmt.Errorf("%s or %s was not answered for", ours, kernel)
	}
	return r, err
}

// stormRate is how many questions about other addresses there are in a second.
const stormRate = 20000

// storm has another station ask for addresses that nobody has, and looks at what that costs.
func (s *segment) storm(ctx context.Context, a netip.Addr, owner string, quiet replies) error {
	node, err := s.Lab.Node(owner)
	if err != nil {
		return err
	}
	flood, err := probe.NewFlood(s.Lab.NetNS(lab.Router), "eth0", netip.MustParseAddr("198.18.200.1"), 250)
	if err != nil {
		return err
	}
	flooding, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- flood.Run(flooding, rate.NewLimiter(stormRate, 200)) }()
	time.Sleep(time.Second)
	sent, begun := flood.Sent(), time.Now()
	var during replies
	usage, err := s.cpuOfSpeakers(func() (err error) {
		during, err = s.replies(ctx, a, node.Addrs[0], 10*time.Second)
		return err
	})
	perSecond := float64(flood.Sent()-sent) / time.Since(begun).Seconds()
	stop()
	if ended := <-done; err == nil {
		err = ended
	}
	if err != nil {
		return err
	}
	p99 := func(v []float64) float64 {
		sorted := slices.Sorted(slices.Values(v))
		return sorted[int(0.99*float64(len(sorted)-1))]
	}
	s.table = append(s.table,
		figure{what: fmt.Sprintf("   in a storm of %.0f unrelated requests/s: CPU of each speaker", perSecond), unit: "%", values: usage, worst: 2},
		figure{what: "   its probes lost", values: []float64{float64(during.lost)}, none: true},
		figure{what: "   its p99 over the quiet one's", unit: "x", values: []float64{p99(during.ours) / p99(quiet.ours)}, bar: 2},
		figure{what: "   the kernel's p99 over its quiet one's", unit: "x", values: []float64{p99(during.kernel) / p99(quiet.kernel)}})
	return nil
}

// cpuOfSpeakers returns how much of a core each speaker took while something was done, in percent.
func (s *segment) cpuOfSpeakers(do func() error) ([]float64, error) {
	ticks := func() (all []float64, err error) {
		for _, n := range s.Lab.Nodes() {
			p, err := s.speakerOn(n.Name)
			if err != nil {
				return nil, err
			}
			used, err := cpuTicks(p.PID)
			if err != nil {
				return nil, err
			}
			all = append(all, used)
		}
		return all, nil
	}
	before, err := ticks()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := do(); err != nil {
		return nil, err
	}
	took := time.Since(begun).Seconds()
	after, err := ticks()
	if err != nil {
		return nil, err
	}
	for i := range after {
		after[i] = (after[i] - before[i]) / ticksPerSecond / took * 100
	}
	return after, nil
}

// ticksPerSecond is USER_HZ, which is 100 on all of Linux's architectures that matter here.
const ticksPerSecond = 100

// cpuTicks is the time that a process has run, in its own code and in the kernel (proc(5), /proc/pid/stat).
func cpuTicks(pid int) (float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has only %d fields", pid, len(fields))
	}
	var sum float64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// idle looks at what speakers take when nothing happens.
func (s *segment) idle(ctx context.Context, present int, rss float64) error {
	if present == 1 {
		if _, _, err := s.single(ctx); err != nil {
			return err
		}
	}
	time.Sleep(30 * time.Second) // the Go runtime gives memory back little by little
	usage, err := s.cpuOfSpeakers(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(30 * time.Second):
			return nil
		}
	})
	if err != nil {
		return err
	}
	memory := figure{what: "   resident memory of each", unit: "MB", worst: rss}
	for _, n := range s.Lab.Nodes() {
		p, err := s.speakerOn(n.Name)
		if err != nil {
			return err
		}
		now, _, err := residentOf(p)
		if err != nil {
			return err
		}
		memory.values = append(memory.values, now)
	}
	s.table = append(s.table, figure{what: fmt.Sprintf("idle speakers, %d Services: CPU of each", present), unit: "%", values: usage, worst: 0.5}, memory)
	if present == 1 {
		return s.empty(ctx)
	}
	return nil
}
