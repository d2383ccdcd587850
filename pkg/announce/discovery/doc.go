// Package discovery finds the one router on a link, for BGP sessions without configured addresses, and makes this node found by it: each
// end learns the other's link-local address from its router advertisements (RFC 4861 section 6).
package discovery
