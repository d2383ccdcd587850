// Package arch holds the floor plan as a test: which room may import what, and the house rules that a parser can see.
//
// The plan is in plan_test.go, in the same words as docs/architecture.md. A room that is new goes into both.
package arch
