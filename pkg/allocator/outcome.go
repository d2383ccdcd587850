package allocator

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Reason says how a Service's allocation ended. Its text is the reason of the Service's Allocated condition.
type Reason string

// The reasons. All but Allocated name something that the Service asked for and did not get; whether it holds addresses
// all the same is in Outcome.Addrs.
const (
	// Allocated: the Service holds all that it asked for.
	Allocated Reason = "Allocated"
	// OutOfPool: it holds addresses that no pool gives it any more; they are kept.
	OutOfPool Reason = "OutOfPool"
	// NoPool: there is no pool at all.
	NoPool Reason = "NoPool"
	// NoEligiblePool: there are pools, but none may be used by this Service, or none has the family.
	NoEligiblePool Reason = "NoEligiblePool"
	// Exhausted: every eligible pool is full.
	Exhausted Reason = "Exhausted"
	// PoolNotFound: the pool that was asked for does not exist.
	PoolNotFound Reason = "PoolNotFound"
	// PoolNotAllowed: the pool that was asked for, or that has the address that was asked for, does not admit the Service.
	PoolNotAllowed Reason = "PoolNotAllowed"
	// AddressNotInPool: no pool has the address that was asked for.
	AddressNotInPool Reason = "AddressNotInPool"
	// FamilyMismatch: the address that was asked for is of a family that the Service does not have.
	FamilyMismatch Reason = "FamilyMismatch"
	// ShareConflict: another Service holds the address that was asked for, and the two may not share it.
	ShareConflict Reason = "ShareConflict"
	// AddressReserved: the address that was asked for is kept for another Service.
	AddressReserved Reason = "AddressReserved"
	// AddressInUse: something else on the network has the address that was asked for.
	AddressInUse Reason = "AddressInUse"
	// QuotaExceeded: the Service's namespace has as many addresses of the eligible pools as it may have.
	QuotaExceeded Reason = "QuotaExceeded"
	// InvalidRequest: an annotation cannot be understood.
	InvalidRequest Reason = "InvalidRequest"
)

// Attribute is the property in which two Services differ that keeps them from sharing an address.
type Attribute string

// What can keep two Services from sharing.
const (
	AttrKey       Attribute = "sharing key"
	AttrNamespace Attribute = "namespace"
	AttrPort      Attribute = "port"
	AttrPolicy    Attribute = "externalTrafficPolicy"
	AttrSelector  Attribute = "selector"
)

// Detail is the data behind a Reason; which fields are set depends on it.
type Detail struct {
	Family    cluster.Family `json:"family,omitempty"`
	Addr      netip.Addr     `json:"addr,omitzero"`
	Pool      string         `json:"pool,omitempty"`
	Pools     []string       `json:"pools,omitempty"` // the pools that were tried
	Other     cluster.Key    `json:"other,omitzero"`  // the Service that is in the way
	Attribute Attribute      `json:"attribute,omitempty"`
	Namespace string         `json:"namespace,omitempty"`
	Text      string         `json:"text,omitempty"`
}

// Outcome is what one Service holds after the pass.
type Outcome struct {
	Service cluster.Key  `json:"service"`
	Addrs   []netip.Addr `json:"addrs,omitempty"` // IPv4 before IPv6; of one family the new one before the old
	Pools   []string     `json:"pools,omitempty"` // the pool of each address
	// Old are those of Addrs that the Service moves away from. They are held until Service.OldMayGo.
	Old      []netip.Addr `json:"old,omitempty"`
	Lost     []Loss       `json:"lost,omitempty"`     // what this pass took away
	SharedAs string       `json:"sharedAs,omitempty"` // Terms, where it holds addresses
	Reason   Reason       `json:"reason"`
	Detail   Detail       `json:"detail,omitzero"`
}

// Loss is an address that a Service can hold no longer, since it can no longer share it.
type Loss struct {
	Addr      netip.Addr  `json:"addr"`
	Other     cluster.Key `json:"other"`
	Attribute Attribute   `json:"attribute"`
}

// Equal reports whether two Outcomes say the same.
func (o *Outcome) Equal(other *Outcome) bool {
	a, b := o.Detail, other.Detail
	return o.Reason == other.Reason && o.SharedAs == other.SharedAs && o.Service == other.Service &&
		slices.Equal(o.Addrs, other.Addrs) && slices.Equal(o.Pools, other.Pools) && slices.Equal(o.Old, other.Old) &&
		slices.Equal(o.Lost, other.Lost) && slices.Equal(a.Pools, b.Pools) &&
		a.Family == b.Family && a.Addr == b.Addr && a.Pool == b.Pool && a.Other == b.Other &&
		a.Attribute == b.Attribute && a.Namespace == b.Namespace && a.Text == b.Text
}

// Usage counts a pool's addresses of one family, clamped to the largest int64. What is kept for somebody who does not hold
// it is neither assigned nor available.
type Usage struct {
	Total, Assigned, Available int64
}

// PoolUsage is the fill of one pool.
type PoolUsage struct {
	V4, V6 Usage
	// Services counts the Services that hold an address of the pool, or were given one from it.
	Services int
}

// Assignments is the result of a pass.
type Assignments struct {
	Services []Outcome // in the order of the input
	Pools    map[string]PoolUsage
}
