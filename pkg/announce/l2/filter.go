package l2

import (
	"slices"

	"golang.org/x/net/bpf"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// pktTypeMulticast is the largest sll_pkttype that is for this host: PACKET_HOST is 0, PACKET_BROADCAST 1 and
// PACKET_MULTICAST 2. Above are PACKET_OTHERHOST, where frames of unknown VLANs also arrive stripped of their tag, and
// PACKET_OUTGOING.
const pktTypeMulticast = 2

// Where the last 32 bits of the addresses stand in a frame.
const (
	arpSenderAt = ethLen + 14
	arpTargetAt = ethLen + 24
	ndpTargetAt = ethLen + ipv6Len + 8 + 12
)

// filter returns the program that the kernel runs on every frame of one family on the link of an index, so that readers wake
// up only for questions about, and claims of, addresses in the spans, whatever else goes on on the segment.
//
// The index matters although the socket is bound to it: the kernel also shows a link's sockets what it takes off that link
// for another device, such as a VLAN's, with no trace of a tag. That is another segment.
func filter(family cluster.Family, index int, spans []span) ([]bpf.RawInstruction, error) {
	p := program{bpf.LoadExtension{Num: bpf.ExtInterfaceIndex}}.refuse(bpf.JumpNotEqual, uint32(index))
	p = append(p, bpf.LoadExtension{Num: bpf.ExtType}).refuse(bpf.JumpGreaterThan, pktTypeMulticast)
	p = append(p, bpf.LoadAbsolute{Off: 12, Size: 2})
	if family == cluster.IPv4 {
		p = append(p.refuse(bpf.JumpNotEqual, etherTypeARP), bpf.LoadAbsolute{Off: ethLen + 6, Size: 2}).
			refuse(bpf.JumpGreaterThan, arpReply).refuse(bpf.JumpLessThan, arpRequest)
		p = p.among(arpTargetAt, spans).among(arpSenderAt, spans)
	} else {
		p = append(p.refuse(bpf.JumpNotEqual, etherTypeIPv6), bpf.LoadAbsolute{Off: ethLen + 6, Size: 1}).refuse(bpf.JumpNotEqual, protocolICMPv6)
		p = append(p, bpf.LoadAbsolute{Off: ethLen + ipv6Len, Size: 1}).
			refuse(bpf.JumpGreaterThan, typeAdvertisement).refuse(bpf.JumpLessThan, typeSolicitation)
		p = p.among(ndpTargetAt, spans)
	}
	return bpf.Assemble(append(p, refusal()))
}

// program is a filter in the making: what it neither refuses nor accepts goes on.
type program []bpf.Instruction

func refusal() bpf.Instruction    { return bpf.RetConstant{Val: 0} }
func acceptance() bpf.Instruction { return bpf.RetConstant{Val: ndpFrameMax} }

// refuse refuses a frame if what was loaded last compares so.
func (p program) refuse(test bpf.JumpTest, than uint32) program {
	return append(p, bpf.JumpIf{Cond: test, Val: than, SkipFalse: 1}, refusal())
}

// among accepts a frame if the address that stands there is in one of the spans, which are ascending.
func (p program) among(at uint32, spans []span) program {
	p = append(p, bpf.LoadAbsolute{Off: at, Size: 4})
	if len(spans) == 0 {
		return p
	}
	return append(p, search(spans, 0)...)
}

// search accepts what is in one of the spans, by bisection, and else jumps over so many instructions after its own. Jumps on a condition
// reach over 255 instructions only, so those that may be longer have none.
func search(spans []span, after int) program {
	if len(spans) == 1 {
		return program{
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: spans[0].from, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: spans[0].to, SkipTrue: 1},
			acceptance(), bpf.Jump{Skip: uint32(after)},
		}
	}
	middle := len(spans) / 2
	upper := search(spans[middle:], after)
	lower := search(spans[:middle], after+len(upper))
	return slices.Concat(program{
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: spans[middle].from, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(lower))},
	}, lower, upper)
}
