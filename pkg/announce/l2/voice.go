package l2

import (
	"container/heap"
	"net/netip"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// phase is where a voice is in its life.
type phase int

const (
	inquiring phase = iota // the segment is asked whether somebody has the address; not answering
	queued                 // its first announcement waits for its turn; not answering
	live                   // announced and answering
	yielding               // answering until its new owner is heard; announces nothing
	gone                   // removed; queues that still name it pass it over
)

// voice is one address on one line whose socket is open. Owned by the Announcer's goroutine.
type voice struct {
	addr  netip.Addr
	line  *line
	phase phase
	ear   *ear

	since    time.Time // when it began to answer, or to yield
	said     int       // announcements made
	due      time.Time // inquiring: the next step; live: the next announcement; yielding: the bound
	asked    int       // questions put in this round
	round    int64     // when this round began, in the ears' time
	defended time.Time
	rival    cluster.MAC // the last other station that claimed it; none when a round of questions found nobody
	doubted  bool        // inquiring of its own accord, whatever the plan says
	first    bool        // inquiring because nobody had it before: strangers are heeded
	doubtAt  time.Time   // live: the next question about it; zero where there is none
	index    int         // in the schedule, or -1
}

// answers reports whether questions for the voice's address are answered.
func (v *voice) answers() bool { return v.phase == live || v.phase == yielding }

// schedule holds live voices by when they speak next. It is a container/heap.
type schedule []*voice

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	v, ok := x.(*voice)
	if !ok {
		return
	}
	v.index = len(*s)
	*s = append(*s, v)
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	old := *s
	v := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	v.index = -1
	return v
}

// at puts a voice at its time, whether it is in the schedule or not.
func (s *schedule) at(v *voice, due time.Time) {
	v.due = due
	if v.index >= 0 {
		heap.Fix(s, v.index)
		return
	}
	heap.Push(s, v)
}

// drop takes a voice out if it is in.
func (s *schedule) drop(v *voice) {
	if v.index >= 0 {
		heap.Remove(s, v.index)
	}
}

// bucket is a token bucket: rate tokens a second, at most depth at once.
type bucket struct {
	rate, depth, level float64
	at                 time.Time
}

// newBucket returns a full bucket that holds a twentieth of a second's tokens, and never less than one announcement.
func newBucket(rate int, now time.Time) bucket {
	depth := max(float64(rate)/20, 2)
	return bucket{rate: float64(rate), depth: depth, level: depth, at: now}
}

// take takes n tokens if they are there.
func (b *bucket) take(now time.Time, n int) bool {
	b.level = min(b.depth, b.level+now.Sub(b.at).Seconds()*b.rate)
	b.at = now
	if b.level < float64(n) {
		return false
	}
	b.level -= float64(n)
	return true
}

// wait returns how long n tokens are away, counted from the last take.
func (b *bucket) wait(n int) time.Duration {
	return time.Duration(max(0, float64(n)-b.level) / b.rate * float64(time.Second))
}
