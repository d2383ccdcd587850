package cluster

import (
	"cmp"
	"net/netip"
)

// Key names a namespaced object.
type Key struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String renders the key the way kubectl does: namespace/name.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name))
}

// MarshalText lets a Key be the key of a JSON object in a dumped view.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *Key) UnmarshalText(text []byte) error {
	for i, b := range text {
		if b == '/' {
			k.Namespace, k.Name = string(text[:i]), string(text[i+1:])
			return nil
		}
	}
	k.Namespace, k.Name = "", string(text)
	return nil
}

// Family is an IP address family.
type Family uint8

// The two address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of a valid address; IPv4-mapped IPv6 addresses count as IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Index is 0 for IPv4 and 1 for IPv6, for arrays of the two.
func (f Family) Index() int {
	if f == IPv4 {
		return 0
	}
	return 1
}

// String returns "IPv4" or "IPv6", the names that the Kubernetes API uses.
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// TrafficPolicy is a Service's externalTrafficPolicy.
type TrafficPolicy uint8

// The two external traffic policies.
const (
	// TrafficCluster lets any node forward to any endpoint.
	TrafficCluster TrafficPolicy = iota
	// TrafficLocal forwards only to endpoints on the node that received the packet.
	TrafficLocal
)

// String returns the policy's name in the Kubernetes API.
func (p TrafficPolicy) String() string {
	if p == TrafficLocal {
		return "Local"
	}
	return "Cluster"
}

// Port is one port of a Service as the outside sees it.
type Port struct {
	Protocol string `json:"protocol"` // TCP, UDP or SCTP
	Number   uint16 `json:"number"`
}

// Service is a `type: LoadBalancer` Service that is ours to serve, reduced to what allocation and announcing read.
type Service struct {
	Key     Key    `json:"key"`
	UID     string `json:"uid,omitempty"`
	Created int64  `json:"created,omitempty"` // seconds since the epoch: who waits longest is served first

	Labels          map[string]string `json:"labels,omitempty"`
	NamespaceLabels map[string]string `json:"namespaceLabels,omitempty"`

	// Families are the families asked for, in the order of spec.ipFamilies. A PreferDualStack Service on a
	// single-stack cluster has one.
	Families []Family `json:"families"`
	// AllFamilies is true for RequireDualStack: every family of Families or nothing.
	AllFamilies bool `json:"allFamilies,omitempty"`

	Ports         []Port        `json:"ports,omitempty"`
	TrafficPolicy TrafficPolicy `json:"trafficPolicy,omitempty"`
	Selector      string        `json:"selector,omitempty"` // canonical "k=v,k=v" of spec.selector

	SharingKey   string       `json:"sharingKey,omitempty"`
	WantAddrs    []netip.Addr `json:"wantAddrs,omitempty"`    // asked for by annotation or spec.loadBalancerIP
	WantPool     string       `json:"wantPool,omitempty"`     // asked for by annotation
	RequestError string       `json:"requestError,omitempty"` // why the annotations cannot be understood; "" when they can

	// Held are the addresses in status.loadBalancer.ingress. A Service that we never allocated for holds none
	// here, whatever its status says.
	Held []netip.Addr `json:"held,omitempty"`
	// HeldFrom names the pool of each address of Held, as recorded when it was given; "" where no record exists.
	HeldFrom []string `json:"heldFrom,omitempty"`
	// SharedAs is what allocator.Terms was when the addresses were given, or "": who has changed it since, and not
	// the others, gives way where a shared address can be shared no longer.
	SharedAs string `json:"sharedAs,omitempty"`
	// OldMayGo says that a Service which holds two addresses of a family, since it moves from one to the other, has
	// done so for long enough.
	OldMayGo bool `json:"oldMayGo,omitempty"`

	// Serving lists, sorted, the nodes that have a serving endpoint of this Service. Only announcing reads it, and
	// only where TrafficPolicy is Local.
	Serving []string `json:"serving,omitempty"`
	// HealthPort is the healthCheckNodePort; 0 where there is none.
	HealthPort uint16 `json:"healthPort,omitempty"`
	// NotYetHere is true where externalTrafficPolicy is Local and this node is not known to forward to endpoints of it: routers are not to
	// be told of it yet.
	NotYetHere bool `json:"notYetHere,omitempty"`
}
