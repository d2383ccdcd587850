package main

import (
	"context"
	"net/netip"
	"os/exec"
	"syscall"
	"time"
)

// move is a planned move: what asks a node to give its addresses up, and what lets it have them back.
type move struct {
	what       string
	leave, end func(ctx context.Context, node string) error
}

func (s *segment) plannedMoves() []move {
	kubectl := func(before []string, after ...string) func(context.Context, string) error {
		return func(ctx context.Context, node string) error {
			_, err := s.Kubectl(ctx, append(append(append([]string{}, before...), node), after...)...)
			return err
		}
	}
	return []move{
		{"its speaker is stopped (SIGTERM) and started", func(_ context.Context, node string) error {
			p, err := s.speakerOn(node)
			if err != nil {
				return err
			}
			return p.Stop(20 * time.Second)
		}, func(_ context.Context, node string) error {
			p, err := s.speakerOn(node)
			if err != nil {
				return err
			}
			return s.Lab.Restart(p)
		}},
		{"drained and undrained", kubectl([]string{"annotate", "node"}, "bellwether.dev/drain=true"), kubectl([]string{"annotate", "node"}, "bellwether.dev/drain-")},
		{"out-of-service taint, and without",
			kubectl([]string{"taint", "node"}, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"), kubectl([]string{"taint", "node"}, "node.kubernetes.io/out-of-service-")},
		{"exclude label, and without",
			kubectl([]string{"label", "node"}, "node.kubernetes.io/exclude-from-external-load-balancers="), kubectl([]string{"label", "node"}, "node.kubernetes.io/exclude-from-external-load-balancers-")},
	}
}

// moves has an address move away from its owner and back, and counts the questions that nobody answers.
func (s *segment) moves(ctx context.Context) error {
	a, owner, err := s.single(ctx)
	if err != nil {
		return err
	}
	for _, m := range s.plannedMoves() {
		lost := figure{what: "owner " + m.what + ": probes lost, of a thousand a second", none: true}
		twice := figure{what: "   answered twice", none: true}
		for range max(s.runs/4, 1) {
			record, unanswered, err := s.probed(ctx, time.Millisecond, []netip.Addr{a}, func() error {
				if err := m.leave(ctx, owner); err != nil {
					return err
				}
				if _, err := s.ownerBut(ctx, a, owner); err != nil {
					return err
				}
				time.Sleep(time.Second)
				if err := m.end(ctx, owner); err != nil {
					return err
				}
				_, err := s.awaitOwner(ctx, owner+" to own "+a.String()+" again", a, func(is string) bool { return is == owner })
				time.Sleep(3500 * time.Millisecond) // longer than an old owner answers that hears no new one
				return err
			})
			if err != nil {
				return err
			}
			lost.values = append(lost.values, float64(unanswered))
			twice.values = append(twice.values, float64(len(record.Doubles())))
		}
		s.table = append(s.table, lost, twice)
	}
	return s.empty(ctx)
}

// keepBusy gives the machine more to do than it can, and counts who answers.
func (s *segment) keepBusy(ctx context.Context) error {
	a, _, err := s.single(ctx)
	if err != nil {
		return err
	}
	record, unanswered, err := s.probed(ctx, 10*time.Millisecond, []netip.Addr{a}, func() error { return busy(ctx, 4, s.busy) })
	if err != nil {
		return err
	}
	s.table = append(s.table,
		figure{what: "both cores busy for " + s.busy.String() + ": stations that answered, beside the owner", values: []float64{float64(len(record.MACs()) - 1)}, none: true},
		figure{what: "   questions answered twice", values: []float64{float64(len(record.Doubles()))}, none: true},
		figure{what: "   questions without an answer, of a hundred a second", values: []float64{float64(unanswered)}})
	return s.empty(ctx)
}

// busy runs so many loops that do nothing but compute.
func busy(ctx context.Context, loops int, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var all []*exec.Cmd
	for range loops {
		cmd := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return err
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		_ = cmd.Wait() // it is killed when the time is over
	}
	return nil
}
