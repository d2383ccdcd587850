// Package bgp carries a BGPPlan out: it has sessions with routers and tells each exactly the routes that are meant for it. It is the
// only room that sees a gobgp type.
//
// Every session has a gobgp server of its own, so that what one peer does, or is told, is nothing to the others. A server is loaded with
// its routes before its session opens: a peer that kept them over a restart (RFC 4724) finds them all again. One goroutine, in Run,
// owns every session.
package bgp
