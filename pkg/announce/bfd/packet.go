package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// State is of a session, RFC 5880 section 4.1.
type State uint8

// The states of RFC 5880 section 6.2.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

func (s State) String() string {
	switch s {
	case AdminDown:
		return "AdminDown"
	case Down:
		return "Down"
	case Init:
		return "Init"
	case Up:
		return "Up"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Diagnostic says why a session last changed its state for the worse, RFC 5880 section 4.1.
type Diagnostic uint8

// The diagnostics that this package sends.
const (
	NoDiagnostic                Diagnostic = 0
	ControlDetectionTimeExpired Diagnostic = 1
	EchoFunctionFailed          Diagnostic = 2
	NeighborSignaledDown        Diagnostic = 3
	AdministrativelyDown        Diagnostic = 7
)

func (d Diagnostic) String() string {
	switch d {
	case NoDiagnostic:
		return "no diagnostic"
	case ControlDetectionTimeExpired:
		return "control detection time expired"
	case EchoFunctionFailed:
		return "echo function failed"
	case NeighborSignaledDown:
		return "neighbor signaled session down"
	case 4:
		return "forwarding plane reset"
	case 5:
		return "path down"
	case 6:
		return "concatenated path down"
	case AdministrativelyDown:
		return "administratively down"
	case 8:
		return "reverse concatenated path down"
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// packet is a BFD Control packet without authentication, RFC 5880 section 4.1. Intervals are whole microseconds.
type packet struct {
	Diagnostic              Diagnostic
	State                   State
	Poll, Final             bool
	ControlPlaneIndependent bool
	Demand                  bool
	DetectMultiplier        uint8
	MyDiscriminator         uint32
	YourDiscriminator       uint32
	DesiredMinTx            time.Duration
	RequiredMinRx           time.Duration
	RequiredMinEchoRx       time.Duration
}

// packetLen is the length of a packet without an authentication section.
const packetLen = 24

const (
	flagMultipoint = 1 << iota
	flagDemand
	flagAuthenticated
	flagControlPlaneIndependent
	flagFinal
	flagPoll
)

// append appends the packet to b.
func (p packet) append(b []byte) []byte {
	flags := byte(p.State) << 6
	for _, f := range []struct {
		set bool
		bit byte
	}{
		{p.Poll, flagPoll},
		{p.Final, flagFinal},
		{p.ControlPlaneIndependent, flagControlPlaneIndependent},
		{p.Demand, flagDemand},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, 1<<5|byte(p.Diagnostic), flags, p.DetectMultiplier, packetLen)
	b = binary.BigEndian.AppendUint32(b, p.MyDiscriminator)
	b = binary.BigEndian.AppendUint32(b, p.YourDiscriminator)
	for _, d := range []time.Duration{p.DesiredMinTx, p.RequiredMinRx, p.RequiredMinEchoRx} {
		b = binary.BigEndian.AppendUint32(b, uint32(d/time.Microsecond))
	}
	return b
}

// Why a packet is discarded before a session is looked for, in the order of RFC 5880 section 6.8.6.
var (
	errTruncated     = errors.New("shorter than it says")
	errVersion       = errors.New("not of version 1")
	errLength        = errors.New("its Length is too small")
	errMultiplier    = errors.New("its Detect Mult is 0")
	errMultipoint    = errors.New("its Multipoint bit is set")
	errDiscriminator = errors.New("its My Discriminator is 0")
	errNoSession     = errors.New("its Your Discriminator is 0, and its state is neither Down nor AdminDown")
	errAuthenticated = errors.New("it is authenticated, and no key is in use")
	errPollAndFinal  = errors.New("it polls and answers a poll at once")
)

// parse reads the payload of a UDP datagram.
func parse(b []byte) (packet, error) {
	if len(b) < packetLen {
		return packet{}, errTruncated
	}
	p := packet{
		Diagnostic:              Diagnostic(b[0] & 0x1f),
		State:                   State(b[1] >> 6),
		Poll:                    b[1]&flagPoll != 0,
		Final:                   b[1]&flagFinal != 0,
		ControlPlaneIndependent: b[1]&flagControlPlaneIndependent != 0,
		Demand:                  b[1]&flagDemand != 0,
		DetectMultiplier:        b[2],
		MyDiscriminator:         binary.BigEndian.Uint32(b[4:]),
		YourDiscriminator:       binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:            microseconds(b[12:]),
		RequiredMinRx:           microseconds(b[16:]),
		RequiredMinEchoRx:       microseconds(b[20:]),
	}
	authenticated := b[1]&flagAuthenticated != 0
	switch length := int(b[3]); {
	case b[0]>>5 != 1:
		return packet{}, errVersion
	case length < packetLen, authenticated && length < packetLen+2:
		return packet{}, errLength
	case length > len(b):
		return packet{}, errTruncated
	case p.DetectMultiplier == 0:
		return packet{}, errMultiplier
	case b[1]&flagMultipoint != 0:
		return packet{}, errMultipoint
	case p.MyDiscriminator == 0:
		return packet{}, errDiscriminator
	case p.YourDiscriminator == 0 && p.State != Down && p.State != AdminDown:
		return packet{}, errNoSession
	case authenticated:
		return packet{}, errAuthenticated
	case p.Poll && p.Final:
		return packet{}, errPollAndFinal
	}
	return p, nil
}

func microseconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}
