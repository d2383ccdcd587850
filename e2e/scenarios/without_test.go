package scenarios

import (
	"testing"
	"time"
)

// TestEveryAddressAnswersWhileTheAPIServerIsAway is the last on its lab, by the name of this file: Kubernetes' own controllers come back half a
// minute later, and Pods wait for them.
func TestEveryAddressAnswersWhileTheAPIServerIsAway(t *testing.T) {
	s := onFullLab(t)
	before := s.several(4)
	stop, prober := s.probing(20*time.Millisecond, values(before)...)
	restart, err := s.Lab.StopAPIServer(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Second)
	if err := restart(s.ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	s.allAnswered(stop(), prober)
	s.have(manifest("later", ""))
	a := s.addresses("later", 1)[0]
	s.owner(a, "")
	s.unmoved(before)
}
