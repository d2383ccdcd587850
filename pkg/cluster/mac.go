package cluster

import (
	"bytes"
	"fmt"
	"net"
)

// ParseMAC reads an EUI-48 address in any form that net.ParseMAC takes.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil {
		return MAC{}, err
	}
	return MACFrom(hw)
}

// MACFrom converts a hardware address; anything but six bytes is an error.
func MACFrom(hw net.HardwareAddr) (MAC, error) {
	if len(hw) != 6 {
		return MAC{}, fmt.Errorf("hardware address %q has %d bytes, an Ethernet address has 6", hw, len(hw))
	}
	return MAC(hw), nil
}

// Compare orders addresses by their bytes.
func (m MAC) Compare(other MAC) int { return bytes.Compare(m[:], other[:]) }
