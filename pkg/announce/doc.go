// Package announce decides what this node says on the network, and why.
//
// Decide is a pure function of a View: no clock, no logger, no goroutine, and no error for a decision. A decision is a
// value with a Reason, so that "why can I not reach it?" has an answer.
package announce
