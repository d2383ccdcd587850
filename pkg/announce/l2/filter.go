package l2

import (
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
	p := program{
		{load: bpf.LoadExtension{Num: bpf.ExtInterfaceIndex}}, {test: bpf.JumpNotEqual, than: uint32(index), to: refusal},
		{load: bpf.LoadExtension{Num: bpf.ExtType}}, {test: bpf.JumpGreaterThan, than: pktTypeMulticast, to: refusal},
	}
	if family == cluster.IPv4 {
		p = append(p,
			step{load: bpf.LoadAbsolute{Off: 12, Size: 2}}, step{test: bpf.JumpNotEqual, than: etherTypeARP, to: refusal},
			step{load: bpf.LoadAbsolute{Off: ethLen + 6, Size: 2}},
			step{test: bpf.JumpGreaterThan, than: arpReply, to: refusal}, step{test: bpf.JumpLessThan, than: arpRequest, to: refusal})
		p = p.among(arpTargetAt, spans).among(arpSenderAt, spans)
	} else {
		p = append(p,
			step{load: bpf.LoadAbsolute{Off: 12, Size: 2}}, step{test: bpf.JumpNotEqual, than: etherTypeIPv6, to: refusal},
			step{load: bpf.LoadAbsolute{Off: ethLen + 6, Size: 1}}, step{test: bpf.JumpNotEqual, than: protocolICMPv6, to: refusal},
			step{load: bpf.LoadAbsolute{Off: ethLen + ipv6Len, Size: 1}},
			step{test: bpf.JumpGreaterThan, than: typeAdvertisement, to: refusal}, step{test: bpf.JumpLessThan, than: typeSolicitation, to: refusal})
		p = p.among(ndpTargetAt, spans)
	}
	return p.assemble()
}

// program is a filter in the making, without its end: the refusal of a frame, and then its acceptance.
type program []step

// step loads something, or compares what was loaded last and jumps.
type step struct {
	load bpf.Instruction
	test bpf.JumpTest
	than uint32
	to   target
}

// target is where a jump leads: to one of the two ends, or over so many steps.
type target int

const (
	acceptance target = -1
	refusal    target = -2
)

// among accepts a frame if the address that stands there is in one of the spans, which are ascending.
func (p program) among(at uint32, spans []span) program {
	p = append(p, step{load: bpf.LoadAbsolute{Off: at, Size: 4}})
	for i, s := range spans {
		rest := target(2*(len(spans)-i) - 1)
		p = append(p, step{test: bpf.JumpLessThan, than: s.from, to: rest}, step{test: bpf.JumpLessOrEqual, than: s.to, to: acceptance})
	}
	return p
}

func (p program) assemble() ([]bpf.RawInstruction, error) {
	var out []bpf.Instruction
	for i, s := range p {
		if s.load != nil {
			out = append(out, s.load)
			continue
		}
		skip := int(s.to)
		switch s.to {
		case refusal:
			skip = len(p) - i - 1
		case acceptance:
			skip = len(p) - i
		}
		out = append(out, bpf.JumpIf{Cond: s.test, Val: s.than, SkipTrue: uint8(skip)})
	}
	return bpf.Assemble(append(out, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: ndpFrameMax}))
}
