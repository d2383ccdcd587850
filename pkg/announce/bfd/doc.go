// Package bfd tells within milliseconds whether a router is still there: Bidirectional Forwarding Detection in asynchronous mode
// (RFC 5880), over one hop (RFC 5881) and over several (RFC 5883). It is the only room that knows BFD packets.
//
// A session's state machine (session.go) is a value without a clock or a socket: time and packets come in, packets go out. The
// Engine runs all of them on one goroutine, which reads every packet that has come in before it believes that none did.
package bfd
