// Package heartbeat tells in a tenth of a second or two which nodes' links are no longer heard on the segments that addresses are
// announced on: a dead node, a dead NIC and a cut segment look different there, and gossip over node addresses sees none of
// them as what it is.
//
// Speakers speak Ethernet to each other, EtherType 0x88b5 (IEEE 802 Local Experimental, RFC 9542), on every link. Each says hello
// to all once a second, and less often where there are more than a hundred. On each segment all stand in a ring, by a hash of
// their names, and each watches the one before and the one after it: who has not been heard for 200 ms is asked, and who has
// left four questions unanswered, 25 ms apart, is accused, to all, in a hello out of turn. So whatever the number of nodes, a node
// sends and receives about 13 frames a second for watching; what grows is the hellos, one a second for every node, up to a hundred a
// second. An accusation ends when the accused is heard; an accused that lives and hears of it says so at once.
//
// Who hears nobody suspects itself first: it calls the roll, and unless somebody answers, or other frames come in on the link, it
// takes its own link for cut and accuses nobody.
//
// Frames are authenticated with HMAC-SHA-256, truncated to 128 bits (RFC 2104 5), under a key made from that of gossip. A run of a
// speaker is believed once it has answered a question with a number that the asker has just made up, and from then on its sequence
// numbers must grow: frames that are recorded and sent again count for nothing.
//
// One goroutine per link owns everything of it. Its state machine, segment, does no I/O and reads no clock.
package heartbeat
