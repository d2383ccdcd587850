// Package membership turns memberlist into one value: who is alive, and what each says of its node.
//
// memberlist detects failures and spreads who is alive; beside that every speaker gossips a small state of its own (is it
// ready, is it leaving, which links has it). A member whose state is not known yet is alive, but not ready.
package membership
