// Package l2 makes this node answer for addresses on Ethernet: ARP (RFC 826, RFC 5227) and Neighbor Discovery
// (RFC 4861).
//
// An Announcer is told the complete desired state with Set and makes the segments match it. Who owns what:
//
//   - One goroutine, Announcer.Run, owns every table: lines (one per link), their sockets, and voices (one address on one
//     line). Set hands its plan over through a channel and waits for the result.
//   - One reader goroutine per socket answers questions. All it shares with the owner is the line's owned set: an
//     immutable map behind one atomic pointer. Answering takes no lock and allocates nothing.
//   - Readers tell the owner about claims (somebody else says that our address is theirs) and about their own death,
//     through channels; they never call it.
//
// The order of things on a gain is: join the solicited-node group, announce, then answer. A leaving owner stops as soon
// as it hears the announcement, so at no time do two nodes answer in a planned move.
package l2
