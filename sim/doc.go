// Package sim is a simulation of many speakers on one segment: heartbeat, membership with its gossip, and the decision are the real code, each
// node with its own view; the segment between them, with loss, delay and partition, and the time, are not. What it leaves out: the questions
// on the wire before a takeover (some 30 ms), the time that computing takes, and the API server. Owners are what each node takes itself for.
package sim
