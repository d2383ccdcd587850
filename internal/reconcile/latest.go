package reconcile

import "time"

// Latest is a mailbox of one: a new value replaces one that was not taken yet, so a slow taker never delays a putter and
// always sees the newest. One goroutine takes; any may put.
type Latest[T any] struct {
	ch chan T
}

// NewLatest returns an empty mailbox.
func NewLatest[T any]() *Latest[T] { return &Latest[T]{ch: make(chan T, 1)} }

// Put replaces whatever waits in the mailbox. It never blocks for longer than a concurrent Put takes.
func (l *Latest[T]) Put(v T) {
	for {
		select {
		case l.ch <- v:
			return
		default:
		}
		select {
		case <-l.ch:
		default:
		}
	}
}

// C delivers values; each is delivered once.
func (l *Latest[T]) C() <-chan T { return l.ch }

// Poke is a wake-up: a channel of size one that any number of sources may ring without blocking. It carries when it was rung first.
type Poke chan time.Time

// NewPoke returns a Poke that has not been rung.
func NewPoke() Poke { return make(Poke, 1) }

// Ring wakes the taker; pokes that were not taken yet melt into one.
func (p Poke) Ring() {
	select {
	case p <- time.Now():
	default:
	}
}
