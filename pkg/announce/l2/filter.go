package l2

import (
	"golang.org/x/net/bpf"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// pktTypeMulticast is the largest sll_pkttype that is for this host: PACKET_HOST is 0, PACKET_BROADCAST 1 and
// PACKET_MULTICAST 2. Above are PACKET_OTHERHOST, where frames of unknown VLANs also arrive stripped of their tag, and
// PACKET_OUTGOING.
const pktTypeMulticast = 2

// filter returns the program that the kernel runs on every frame of one family on the link of an index, so that readers wake
// up only for questions and claims.
//
// The index matters although the socket is bound to it: the kernel also shows a link's sockets what it takes off that link
// for another device, such as a VLAN's, with no trace of a tag. That is another segment.
func filter(family cluster.Family, index int) ([]bpf.RawInstruction, error) {
	// Every jump is to the last instruction, the refusal; the numbers count what lies between.
	if family == cluster.IPv4 {
		return bpf.Assemble([]bpf.Instruction{
			bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(index), SkipTrue: 8},
			bpf.LoadExtension{Num: bpf.ExtType},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: pktTypeMulticast, SkipTrue: 6},
			bpf.LoadAbsolute{Off: 12, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherTypeARP, SkipTrue: 4},
			bpf.LoadAbsolute{Off: ethLen + 6, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: arpRequest, SkipTrue: 1}, // to acceptance
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: arpReply, SkipTrue: 1},
			bpf.RetConstant{Val: ndpFrameMax},
			bpf.RetConstant{Val: 0},
		})
	}
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(index), SkipTrue: 10},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: pktTypeMulticast, SkipTrue: 8},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherTypeIPv6, SkipTrue: 6},
		bpf.LoadAbsolute{Off: ethLen + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolICMPv6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: ethLen + ipv6Len, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeSolicitation, SkipTrue: 1}, // to acceptance
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeAdvertisement, SkipTrue: 1},
		bpf.RetConstant{Val: ndpFrameMax},
		bpf.RetConstant{Val: 0},
	})
}
