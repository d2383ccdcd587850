package scenarios

import (
	"context"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/probe"
)

// lossless checks that every question was answered, by one.
func (s *trial) lossless() {
	s.Helper()
	s.allAnswered(s.stop(), s.prober)
}

// TestPlannedMovesLoseNothing: all ways in which a node is asked to give its addresses up, and the way back.
func TestPlannedMovesLoseNothing(t *testing.T) {
	for _, c := range []struct {
		name       string
		leave, end func(s *trial, node string)
	}{
		{"drain", func(s *trial, node string) { s.must("annotate", "node", node, "bellwether.dev/drain=true") },
			func(s *trial, node string) { s.must("annotate", "node", node, "bellwether.dev/drain-") }},
		{"out of service",
			func(s *trial, node string) {
				s.must("taint", "node", node, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
			},
			func(s *trial, node string) { s.must("taint", "node", node, "node.kubernetes.io/out-of-service-") }},
		{"excluded",
			func(s *trial, node string) {
				s.must("label", "node", node, "node.kubernetes.io/exclude-from-external-load-balancers=")
			},
			func(s *trial, node string) {
				s.must("label", "node", node, "node.kubernetes.io/exclude-from-external-load-balancers-")
			}},
		{"SIGTERM", func(s *trial, node string) { s.act(s.speaker(node).Stop(20 * time.Second)) },
			func(s *trial, node string) { s.act(s.Lab.Restart(s.speaker(node))) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := tried(t, 6, 5*time.Millisecond)
			node, owned := s.victim()
			mac := s.hardware(node)
			c.leave(s, node)
			end := s.later(func() { c.end(s, node) })
			s.taken(mac, owned)
			time.Sleep(3500 * time.Millisecond) // longer than an old owner answers that hears no new one
			end()
			s.back()
			s.lossless()
		})
	}
}

// TestCordonMovesNothing: it is about new Pods.
func TestCordonMovesNothing(t *testing.T) {
	s := tried(t, 6, 5*time.Millisecond)
	node, owned := s.victim()
	s.must("cordon", node)
	t.Cleanup(func() {
		if _, err := s.Kubectl(context.Background(), "uncordon", node); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(3 * time.Second)
	mac, err := s.MAC(s.ctx, node)
	s.act(err)
	record := s.stop()
	for _, a := range owned {
		if macs := record.Of(a).MACs(); !slices.Equal(macs, []string{mac}) {
			t.Errorf("%s was answered for by %v, want only %s", a, macs, mac)
		}
	}
}

// TestASegmentIsPartedAndHeals: on each half there is one owner, and soon after it is whole there is one again.
func TestASegmentIsPartedAndHeals(t *testing.T) {
	s := tried(t, 6, 5*time.Millisecond)
	node, owned := s.victim()
	there, err := probe.NewProber(s.Lab.NetNS(lab.Router), "eth0", 5*time.Millisecond, s.addrs...)
	s.act(err)
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan error, 1)
	go func() { done <- there.Run(ctx) }()
	heal, err := s.Lab.Part(node, lab.Router)
	s.act(err)
	mend := s.later(func() {
		if err := heal(); err != nil {
			t.Error(err)
		}
	})
	s.taken(s.hardware(node), owned) // as the client's half hears it
	time.Sleep(3 * time.Second)
	whole := time.Now() // from here on, frames may cross
	mend()
	s.back()
	cancel()
	s.act(<-done)
	for half, record := range map[string]probe.Record{"client": s.stop(), "router": there.Record()} {
		if twice := record.Between(s.from, whole).Doubles(); len(twice) > 0 {
			t.Errorf("from the %s, while the segment was parted %d questions were answered twice, first %v", half, len(twice), twice[0])
		}
		after := record.Between(whole, time.Now()).Doubles()
		last := time.Duration(0)
		for _, d := range after {
			last = max(last, d.Asked.Sub(whole))
		}
		t.Logf("from the %s, %d questions were answered twice after the segment was whole, the last %v after", half, len(after), last.Round(time.Millisecond))
		if last > 3*time.Second {
			t.Errorf("from the %s, questions were still answered twice %v after the segment was whole", half, last)
		}
	}
}

// TestABusyMachineMovesNothing: with more to do than there are processors, nobody is taken for dead.
func TestABusyMachineMovesNothing(t *testing.T) {
	s := tried(t, 6, 5*time.Millisecond)
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	var busy []*exec.Cmd
	for range 4 {
		cmd := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		s.act(cmd.Start())
		busy = append(busy, cmd)
	}
	for _, cmd := range busy {
		_ = cmd.Wait() // it is killed when the time is over
	}
	record := s.stop()
	for a, node := range s.owners {
		mac, err := s.MAC(s.ctx, node)
		s.act(err)
		if macs := record.Of(a).MACs(); !slices.Equal(macs, []string{mac}) {
			t.Errorf("%s was answered for by %v, want only its owner %s", a, macs, mac)
		}
	}
	if twice := record.Doubles(); len(twice) > 0 {
		t.Errorf("%d questions were answered twice, first %v", len(twice), twice[0])
	}
}
