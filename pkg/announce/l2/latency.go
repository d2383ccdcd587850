package l2

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Latencies counts durations in buckets, each of which is twice as wide as the one before. Any goroutine may add and read.
type Latencies struct {
	counts [latencyBuckets]atomic.Uint64 // the last one is unbounded
	sum    atomic.Int64
}

const (
	latencyBuckets = 16
	latencyFirst   = 16 * time.Microsecond // the bound of the first bucket
)

func (l *Latencies) add(d time.Duration) {
	d = max(d, 0) // the clock was set
	l.counts[min(bits.Len64(uint64(d/latencyFirst)), latencyBuckets-1)].Add(1)
	l.sum.Add(int64(d))
}

// Read returns how many durations were below each bound, in seconds, how many there were, and their sum in seconds.
func (l *Latencies) Read() (below map[float64]uint64, count uint64, sum float64) {
	below = make(map[float64]uint64, latencyBuckets)
	for i := range l.counts {
		count += l.counts[i].Load()
		if i < latencyBuckets-1 {
			below[(latencyFirst << i).Seconds()] = count
		}
	}
	return below, count, time.Duration(l.sum.Load()).Seconds()
}
