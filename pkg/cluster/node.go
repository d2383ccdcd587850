package cluster

import "net/netip"

// Node is a Kubernetes node, reduced to what announcing reads.
type Node struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Addrs  []netip.Addr      `json:"addrs,omitempty"` // InternalIP addresses, in the order of the Node's status

	// NotReadySince is since when the Node has not had the condition Ready, in seconds since the epoch; zero where it has it.
	NotReadySince int64 `json:"notReadySince,omitempty"`
	// NotReady is true when that is long ago. Whoever has a clock works it out.
	NotReady bool `json:"notReady,omitempty"`
	// Draining is true when the Node carries the annotation bellwether.dev/drain, with any value but "false".
	Draining bool `json:"draining,omitempty"`
	// OutOfService is true when the Node carries the taint node.kubernetes.io/out-of-service.
	OutOfService bool `json:"outOfService,omitempty"`
	// NetworkUnavailable mirrors the Node condition of that name.
	NetworkUnavailable bool `json:"networkUnavailable,omitempty"`
	// Excluded is true when the Node carries node.kubernetes.io/exclude-from-external-load-balancers.
	Excluded bool `json:"excluded,omitempty"`
}

// Link is a network interface that addresses can be announced on.
type Link struct {
	Name     string         `json:"name"`
	Index    int            `json:"index"` // kernel ifindex: a re-created link of the same name has another one
	MAC      MAC            `json:"mac"`
	Prefixes []netip.Prefix `json:"prefixes,omitempty"` // the link's own addresses with their prefix lengths, sorted
	Up       bool           `json:"up"`                 // administratively up and with carrier
	// Gateways are the node's default routers on this link. Only reports read them.
	Gateways []netip.Addr `json:"gateways,omitempty"`
	// Silent is true for a link that is up, as its node says, and yet not heard on its segment by those who watch it, or on
	// which its own node hears nobody.
	Silent bool `json:"silent,omitempty"`
}

// Contains reports whether one of the link's subnets holds the address. Link-local prefixes do not count.
func (l Link) Contains(a netip.Addr) bool {
	for _, p := range l.Prefixes {
		if p.Contains(a) && !p.Addr().IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}

// MAC is an Ethernet (EUI-48) hardware address.
type MAC [6]byte

const hexDigits = "0123456789abcdef"

// String renders the address as lower-case colon-separated hex.
func (m MAC) String() string {
	buf := make([]byte, 0, 17)
	for i, b := range m {
		if i > 0 {
			buf = append(buf, ':')
		}
		buf = append(buf, hexDigits[b>>4], hexDigits[b&0xf])
	}
	return string(buf)
}

// MarshalText renders the address for JSON.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads colon-separated hex.
func (m *MAC) UnmarshalText(text []byte) error {
	parsed, err := ParseMAC(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// Member is what a living speaker says of its node.
type Member struct {
	// Ready is true once the speaker may own addresses: synced, settled among its peers. A member that is not ready
	// is alive but no candidate.
	Ready bool `json:"ready"`
	// Leaving is true while the speaker hands its addresses over: before a planned stop, or since it did not run for a while
	// and others took over from it.
	Leaving bool   `json:"leaving,omitempty"`
	Links   []Link `json:"links,omitempty"`
	// OnSegmentOnly is true for a member that gossip has lost, or never met, and that is heard on a segment.
	OnSegmentOnly bool `json:"onSegmentOnly,omitempty"`
}

// Members is who is alive, this node included.
type Members struct {
	// Known is false when membership is off: then every node is assumed to be alive, with the links that are needed.
	Known bool              `json:"known"`
	Alive map[string]Member `json:"alive,omitempty"` // by node name
}
