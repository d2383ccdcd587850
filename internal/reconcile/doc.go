// Package reconcile is the whole framework: a Loop that turns pokes into passes, a mailbox of one, and a poke.
//
// Sources publish a value and poke; they never call back and can never block. One goroutine decides, one goroutine per
// actuator acts.
package reconcile
