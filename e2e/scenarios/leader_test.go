package scenarios

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// creating makes a Service every now and then until the returned function is called, which returns them.
func (s *ledgered) creating(every time.Duration) (stop func() []*corev1.Service) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	var made []*corev1.Service
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			service, err := s.client.CoreV1().Services(metav1.NamespaceDefault).Create(ctx, wanting(metav1.NamespaceDefault, fmt.Sprintf("stream-%d", i)), metav1.CreateOptions{})
			if err == nil {
				made = append(made, service)
			} else if ctx.Err() == nil {
				s.Error(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(every):
			}
		}
	})
	return func() []*corev1.Service {
		cancel()
		wg.Wait()
		return made
	}
}

func TestALeaderThatIsKilledOrFrozenIsReplacedAndWritesNoMore(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("wide", `addresses: ["198.18.64.0/21"]`)
	s.led()
	stop := s.creating(150 * time.Millisecond)
	for round := range repeats(t) {
		s.leaderKilled(round)
		s.leaderFrozen(round)
	}
	for _, service := range stop() {
		s.becomes(service, 1, "Allocated")
	}
	s.quiet()
	s.stayed()
}

// leaderKilled kills the leader, and starts it again when the other has served a Service.
func (s *ledgered) leaderKilled(round int) {
	s.Helper()
	leader := s.led()
	s.act(s.controller(leader).Kill())
	killed := time.Now()
	s.becomes(s.create(fmt.Sprintf("killed-%d", round)), 1, "Allocated")
	s.Logf("%s killed; a Service had its address %v later", leader, time.Since(killed).Round(10*time.Millisecond))
	if now := s.leaseholder(); now != other(leader) {
		s.Errorf("%s was killed, and the lease names %s", leader, now)
	}
	s.act(s.revive(leader))
}

// leaderFrozen freezes the leader until the other has served Services in its place, and looks at what it does when it goes on.
func (s *ledgered) leaderFrozen(round int) {
	s.Helper()
	leader := s.led()
	s.act(s.controller(leader).Pause())
	frozen := time.Now()
	s.becomes(s.create(fmt.Sprintf("frozen-%d", round)), 1, "Allocated")
	s.Logf("%s frozen; a Service had its address %v later", leader, time.Since(frozen).Round(10*time.Millisecond))
	if now := s.leaseholder(); now != other(leader) {
		s.Fatalf("%s was frozen, a Service was served, and the lease names %s", leader, now)
	}
	s.act(s.controller(leader).Resume())
	s.eventually(patience, leader+" says that it does not lead", func() bool {
		leads, answers := s.metric(leader, "bellwether_controller_leading")
		return answers && leads == 0
	})
	before, _ := s.metric(leader, "bellwether_service_status_writes_total")
	for i := range 5 {
		s.becomes(s.create(fmt.Sprintf("thawed-%d-%d", round, i)), 1, "Allocated")
	}
	after, answers := s.metric(leader, "bellwether_service_status_writes_total")
	if now := s.leaseholder(); now != other(leader) {
		s.Errorf("%s went on, and the lease names %s", leader, now)
	}
	if !answers || after != before {
		s.Errorf("%s does not lead and made %v writes (answers: %t)", leader, after-before, answers)
	}
	if leads, _ := s.metric(other(leader), "bellwether_controller_leading"); leads != 1 {
		s.Errorf("%s has the lease and does not lead", other(leader))
	}
}

func TestALeaderThatIsFrozenWhileItRenewsLeavesTheLeaseToItsSuccessor(t *testing.T) {
	s := onLightLab(t, nil)
	s.poolOf("wide", `addresses: ["198.18.64.0/21"]`)
	api, err := s.Lab.Process(lab.Control, lab.APIServer)
	s.act(err)
	t.Cleanup(func() { _ = api.Resume() })
	for round := range repeats(t) {
		leader := s.led()
		s.act(api.Pause())
		time.Sleep(time.Second) // a renewal is sent every half a second: now one is under way
		s.act(s.controller(leader).Pause())
		s.act(api.Resume())
		s.becomes(s.create(fmt.Sprintf("frozen-%d", round)), 1, "Allocated")
		before := s.lease().Spec
		if *before.HolderIdentity != other(leader) {
			t.Fatalf("%s was frozen, a Service was served, and the lease names %s", leader, *before.HolderIdentity)
		}
		s.act(s.controller(leader).Resume())
		s.eventually(patience, leader+" answers again", func() bool {
			_, answers := s.metric(leader, "bellwether_controller_leading")
			return answers
		})
		time.Sleep(3 * time.Second) // it gives up within its deadline for renewals
		if after := s.lease().Spec; *after.HolderIdentity != *before.HolderIdentity || *after.LeaseTransitions != *before.LeaseTransitions {
			t.Errorf("round %d: %s went on, and the lease of %s, which renews it, changed hands %d times and is %q's now",
				round+1, leader, other(leader), *after.LeaseTransitions-*before.LeaseTransitions, *after.HolderIdentity)
		}
	}
	s.stayed()
}
