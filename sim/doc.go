// Package sim is a simulation of many speakers on one segment: the heartbeat and the decision are the real code, each node with its own
// view; the segment between them, with loss, delay and partition, and the time, are not. What it leaves out: gossip, by which the nodes would
// learn of a death too, later; the questions on the wire before a takeover (some 30 ms); and the API server. Owners are what each node
// takes itself for.
package sim
