package l2

import (
	"testing"
	"time"
)

func TestLatencies(t *testing.T) {
	var l Latencies
	for _, d := range []time.Duration{-time.Second, 0, 15 * time.Microsecond, 16 * time.Microsecond, 100 * time.Microsecond, time.Hour} {
		l.add(d)
	}
	below, count, sum := l.Read()
	if count != 6 || sum < 3600 || sum > 3600.001 || len(below) != latencyBuckets-1 {
		t.Errorf("%d durations of %v s, %d bounds", count, sum, len(below))
	}
	for bound, want := range map[time.Duration]uint64{latencyFirst: 3, 2 * latencyFirst: 4, 4 * latencyFirst: 4, 8 * latencyFirst: 5, latencyFirst << 14: 5} {
		if got := below[bound.Seconds()]; got != want {
			t.Errorf("%d below %v, want %d", got, bound, want)
		}
	}
}
