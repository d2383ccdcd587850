package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// The kinds that a Problem can be about.
const (
	KindIPAddressPool    = "IPAddressPool"
	KindL2Advertisement  = "L2Advertisement"
	KindBGPPeer          = "BGPPeer"
	KindBGPAdvertisement = "BGPAdvertisement"
	KindBFDProfile       = "BFDProfile"
	KindCommunity        = "Community"
)

// Kinds returns them all.
func Kinds() []string {
	return []string{KindIPAddressPool, KindL2Advertisement, KindBGPPeer, KindBGPAdvertisement, KindBFDProfile, KindCommunity}
}

// ProblemReason says what is wrong with an object, in the form of a condition's reason.
type ProblemReason string

// What can be wrong with an object.
const (
	ReasonInvalidAddresses ProblemReason = "InvalidAddresses"
	ReasonNoAddresses      ProblemReason = "NoAddresses"
	ReasonOverlaps         ProblemReason = "Overlaps"
	ReasonInvalidSelector  ProblemReason = "InvalidSelector"
	ReasonInvalidInterface ProblemReason = "InvalidInterface"
	ReasonUnknownPool      ProblemReason = "UnknownPool"
	ReasonUnknownProtocol  ProblemReason = "UnknownProtocol"
	ReasonInvalidRetention ProblemReason = "InvalidRetention"
	ReasonInvalidQuota     ProblemReason = "InvalidQuota"
	ReasonReservation      ProblemReason = "ReservationNotCovered"

	ReasonInvalidValue      ProblemReason = "InvalidValue"
	ReasonInvalidASN        ProblemReason = "InvalidASN"
	ReasonDuplicate         ProblemReason = "Duplicate"
	ReasonUnknownBFDProfile ProblemReason = "UnknownBFDProfile"
	ReasonUnknownPeer       ProblemReason = "UnknownPeer"
	ReasonInvalidCommunity  ProblemReason = "InvalidCommunity"
	ReasonUnknownCommunity  ProblemReason = "UnknownCommunity"
	ReasonLocalPref         ProblemReason = "LocalPrefConflict"
)

// Problem is something wrong with one object. Its message is a sentence that says what to change.
type Problem struct {
	Kind    string
	Name    string
	Reason  ProblemReason
	Message string
}

// Rejects reports whether the problem makes (part of) the object inert. The others are warnings: overlaps take only the
// overlap, a pool, a peer or a profile that does not exist yet may come, a reservation of what the pool does not have reserves nothing,
// and where two advertisements differ, the elder one counts.
func (p Problem) Rejects() bool {
	return !slices.Contains([]ProblemReason{ReasonOverlaps, ReasonUnknownPool, ReasonReservation, ReasonUnknownBFDProfile, ReasonUnknownPeer,
		ReasonUnknownCommunity, ReasonLocalPref}, p.Reason)
}

// Parse reads objects in any order. The result does not depend on that order.
func Parse(objects Objects) (Config, []Problem) {
	p := parser{config: Config{source: objects}}
	taken := newTaken()
	for _, wire := range elderFirst(objects.Pools) {
		pool := p.pool(wire)
		pool.Covers = p.withoutOverlap(pool, taken)
		pool.Reservations = p.reservations(wire, pool.Covers)
		p.config.Pools = append(p.config.Pools, pool)
	}
	slices.SortFunc(p.config.Pools, func(a, b Pool) int { return cmp.Compare(a.Name, b.Name) })
	p.config.spans = spans(p.config.Pools)

	for _, wire := range objects.L2Advertisements {
		p.l2(wire)
	}
	slices.SortFunc(p.config.L2, func(a, b L2Advertisement) int { return cmp.Compare(a.Name, b.Name) })
	p.bgp(objects)
	slices.SortStableFunc(p.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return p.config, p.problems
}

type parser struct {
	config   Config
	problems []Problem
}

func (p *parser) problem(kind, name string, reason ProblemReason, format string, args ...any) {
	p.problems = append(p.problems, Problem{Kind: kind, Name: name, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) pool(wire v1beta1.IPAddressPool) Pool {
	before := len(p.problems)
	pool := Pool{
		Name:          wire.Name,
		Labels:        wire.Labels,
		AutoAssign:    wire.Spec.AutoAssign == nil || *wire.Spec.AutoAssign,
		AvoidBuggyIPs: wire.Spec.AvoidBuggyIPs,
		ShareAcross:   wire.Spec.Sharing == v1beta1.SharingAcrossNamespaces,
		Allocation:    Allocation{Priority: NoPriority},
		Renumber:      wire.Spec.OnChange == v1beta1.OnChangeRenumber,
		Detection:     cluster.ParseDetection(string(wire.Spec.ConflictDetection)),
	}
	for _, protocol := range wire.Spec.Advertise {
		switch protocol {
		case v1beta1.ProtocolL2:
			pool.AdvertiseL2 = true
		case v1beta1.ProtocolBGP:
			pool.AdvertiseBGP = true
		default:
			p.problem(KindIPAddressPool, wire.Name, ReasonUnknownProtocol, "advertise names %q, which this version cannot announce with: use L2, BGP or both", protocol)
		}
	}
	pool.Covers = p.addresses(wire)
	if sa := wire.Spec.ServiceAllocation; sa != nil {
		pool.Allocation = p.allocation(wire.Name, *sa)
	}
	p.limits(wire, &pool)
	pool.Inert = len(p.problems) > before || wire.DeletionTimestamp != nil
	return pool
}

// limits reads the quota and the retention. The API server refuses what is refused here, but for objects that it stored
// before it knew the rule.
func (p *parser) limits(wire v1beta1.IPAddressPool, pool *Pool) {
	if quota := wire.Spec.MaxPerNamespace; quota != nil {
		pool.MaxPerNamespace = int(*quota)
		if *quota < 1 {
			p.problem(KindIPAddressPool, wire.Name, ReasonInvalidQuota, "maxPerNamespace is %d: set it to 1 or more, or leave it out for no limit", *quota)
		}
	}
	if wire.Spec.RetainFor == "" {
		return
	}
	d, err := time.ParseDuration(wire.Spec.RetainFor)
	if err != nil || d < 0 {
		p.problem(KindIPAddressPool, wire.Name, ReasonInvalidRetention, "retainFor: %q is not a length of time: write one such as 10m or 24h", wire.Spec.RetainFor)
		return
	}
	pool.RetainFor = d
}

// reservations keeps those of addresses that the pool covers.
func (p *parser) reservations(wire v1beta1.IPAddressPool, covers *netipx.IPSet) []Reservation {
	var kept []Reservation
	for i, r := range wire.Spec.Reservations {
		a, err := netip.ParseAddr(string(r.Address))
		if err != nil || a.Zone() != "" || !covers.Contains(a) {
			p.problem(KindIPAddressPool, wire.Name, ReasonReservation, "reservations[%d]: this pool does not give %s: add it to addresses, or take the reservation out", i, r.Address)
			continue
		}
		kept = append(kept, Reservation{Addr: a, Service: cluster.Key{Namespace: r.Service.Namespace, Name: r.Service.Name}})
	}
	return kept
}

func (p *parser) addresses(wire v1beta1.IPAddressPool) *netipx.IPSet {
	before := len(p.problems)
	var b netipx.IPSetBuilder
	for _, entry := range wire.Spec.Addresses {
		r, err := ParseRange(string(entry))
		if err != nil {
			p.problem(KindIPAddressPool, wire.Name, ReasonInvalidAddresses, "addresses: %v", err)
			continue
		}
		b.AddRange(r)
	}
	for _, entry := range wire.Spec.ExcludedAddresses {
		r, err := ParseRange(string(entry))
		if err != nil {
			p.problem(KindIPAddressPool, wire.Name, ReasonInvalidAddresses, "excludedAddresses: %v", err)
			continue
		}
		b.RemoveRange(r)
	}
	set, err := b.IPSet()
	if err != nil { // the ranges were checked one by one, so the builder has nothing left to refuse
		p.problem(KindIPAddressPool, wire.Name, ReasonInvalidAddresses, "addresses: %v", err)
		return &netipx.IPSet{}
	}
	if len(set.Ranges()) == 0 && len(p.problems) == before {
		p.problem(KindIPAddressPool, wire.Name, ReasonNoAddresses, "no address is left to give: excludedAddresses holds all of addresses; add addresses or exclude fewer")
	}
	return set
}

func (p *parser) allocation(name string, sa v1beta1.ServiceAllocation) Allocation {
	a := Allocation{
		Restricted: len(sa.Namespaces)+len(sa.NamespaceSelectors)+len(sa.ServiceSelectors) > 0,
		Priority:   NoPriority,
		Namespaces: sa.Namespaces,
		NamespaceSelectors: p.selectors(KindIPAddressPool, name, "serviceAllocation.namespaceSelectors",
			sa.NamespaceSelectors),
		ServiceSelectors: p.selectors(KindIPAddressPool, name, "serviceAllocation.serviceSelectors", sa.ServiceSelectors),
	}
	if sa.Priority != nil {
		a.Priority = int64(*sa.Priority)
	}
	return a
}

// selectors parses label selectors. One that cannot be parsed selects nothing, rather than everything.
func (p *parser) selectors(kind, name, field string, wire []metav1.LabelSelector) []labels.Selector {
	parsed := make([]labels.Selector, 0, len(wire))
	for i := range wire {
		s, err := metav1.LabelSelectorAsSelector(&wire[i])
		if err != nil {
			p.problem(kind, name, ReasonInvalidSelector, "%s[%d]: %v", field, i, err)
			s = labels.Nothing()
		}
		parsed = append(parsed, s)
	}
	return parsed
}

func (p *parser) l2(wire v1beta1.L2Advertisement) {
	spec, name := wire.Spec, wire.Name
	a := L2Advertisement{
		Name: name,
		Selection: p.selection(KindL2Advertisement, name, wireSelection{spec.IPAddressPools, spec.IPAddressPoolSelectors,
			spec.ServiceSelectors, spec.NodeSelectors}),
		Interfaces: spec.Interfaces,
	}
	for i, wire := range spec.PreferredNodeSelectors {
		nodes := p.selectors(KindL2Advertisement, name, fmt.Sprintf("preferredNodeSelectors[%d].preference", i), []metav1.LabelSelector{wire.Preference})
		a.Preferences = append(a.Preferences, Preference{Weight: int(wire.Weight), Nodes: nodes[0]})
	}
	for _, glob := range a.Interfaces {
		if _, err := path.Match(glob, "eth0"); err != nil {
			p.problem(KindL2Advertisement, name, ReasonInvalidInterface, "interfaces: %q is not a name or a glob: close every [ with a ]", glob)
		}
	}
	p.config.L2 = append(p.config.L2, a)
}

func (p *parser) didYouMean() string {
	if len(p.config.Pools) == 0 || len(p.config.Pools) > 10 {
		return ""
	}
	names := make([]string, 0, len(p.config.Pools))
	for _, pool := range p.config.Pools {
		names = append(names, pool.Name)
	}
	return " (there are: " + strings.Join(names, ", ") + ")"
}
