package main

import (
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func TestANodeIsNotReadyWhenItHasNotBeenForAWhile(t *testing.T) {
	s := &speaker{notReadyDelay: time.Minute}
	nodes := []cluster.Node{{Name: "ready"}, {Name: "long ago", NotReadySince: 1000}, {Name: "just now", NotReadySince: 1050}, {Name: "later", NotReadySince: 1055}}
	if again := s.unready(nodes, time.Unix(1060, 0)); again != 50*time.Second {
		t.Errorf("looks again after %v", again)
	}
	for _, n := range nodes {
		if n.NotReady != (n.Name == "long ago") {
			t.Errorf("%s: not ready %t", n.Name, n.NotReady)
		}
	}
	if again := s.unready(nodes[:2], time.Unix(1060, 0)); again != 0 {
		t.Errorf("nothing to wait for, and looks again after %v", again)
	}
}
