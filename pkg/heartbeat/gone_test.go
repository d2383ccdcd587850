package heartbeat

import (
	"testing"
	"time"
)

// TestASilentNodeThatIsNoMoreIsForgotten: by all, and by those who start later too.
func TestASilentNodeThatIsNoMoreIsForgotten(t *testing.T) {
	w := newWorld(5, 1)
	w.until(t, "all meet", w.quiet)
	w.nodes[4].off = true
	w.until(t, "the dead node is missed", func() bool { return w.missedByAll(4) })
	w.run(2 * time.Minute)
	if !w.missedByAll(4) {
		t.Fatal("a node that there is is not missed any more")
	}
	w.gone = "node-4"
	w.boot(3, "secret")
	w.run(5 * time.Second)
	for i, n := range w.nodes[:4] {
		if _, remembered := n.peers[w.nodes[4].self]; remembered || !w.missedByAll() {
			t.Errorf("node %d: remembered: %t, misses %v", i, remembered, w.misses(i))
		}
	}
	w.gone = ""
	w.boot(4, "secret")
	w.until(t, "all meet again", w.quiet)
}
