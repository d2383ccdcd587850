package announce

import (
	"net/netip"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// View is one instant of the world as a speaker sees it. It is immutable by convention, holds no secret, and its JSON form
// can be read back: a dumped View is a test.
type View struct {
	Self     string            `json:"self"`
	Nodes    []cluster.Node    `json:"nodes,omitempty"`
	Alive    cluster.Members   `json:"alive"` // who is alive, with the links of each; this node included
	Services []cluster.Service `json:"services,omitempty"`
	Config   config.Config     `json:"config"`
}

// Reason says why a node announces an address, or why it does not.
type Reason string

// The reasons of a Verdict.
const (
	// Announced: this node owns the address.
	Announced Reason = "Announced"
	// NotOwner: another node owns it.
	NotOwner Reason = "NotOwner"
	// NoAdvertisement: no advertisement selects the address's pool and the Service.
	NoAdvertisement Reason = "NoAdvertisement"
	// NoEndpoints: externalTrafficPolicy is Local and no node that could announce has a serving endpoint.
	NoEndpoints Reason = "NoEndpoints"
	// NoPeer: a BGPAdvertisement selects it, but none of this node's sessions.
	NoPeer Reason = "NoPeer"
	// NoCandidate: there is an advertisement, but every node is ruled out.
	NoCandidate Reason = "NoCandidate"
)

// Why a node is no candidate for an address.
const (
	// Candidate: it is one.
	Candidate Reason = "Candidate"
	// SpeakerDown: no living speaker is known on the node.
	SpeakerDown Reason = "SpeakerDown"
	// SpeakerStarting: the speaker is alive but has not settled among its peers yet.
	SpeakerStarting Reason = "SpeakerStarting"
	// SpeakerLeaving: the speaker hands its addresses over before a planned stop.
	SpeakerLeaving Reason = "SpeakerLeaving"
	// NodeNotSelected: no nodeSelector of the advertisements selects the node.
	NodeNotSelected Reason = "NodeNotSelected"
	// NoLink: the node has no link that is up, that the advertisement names, and whose subnet fits the address.
	NoLink Reason = "NoLink"
	// NoLocalEndpoint: externalTrafficPolicy is Local and the node has no serving endpoint.
	NoLocalEndpoint Reason = "NoLocalEndpoint"
)

// What speaks against a node: it owns an address only where there is no better candidate.
const (
	// NodeNotReady: the node has not had the condition Ready for a while.
	NodeNotReady Reason = "NodeNotReady"
	// NodeExcluded: the node carries the label node.kubernetes.io/exclude-from-external-load-balancers.
	NodeExcluded Reason = "NodeExcluded"
	// NodeNetworkUnavailable: the node has the condition NetworkUnavailable.
	NodeNetworkUnavailable Reason = "NodeNetworkUnavailable"
	// NodeDraining: the node carries the annotation bellwether.dev/drain.
	NodeDraining Reason = "NodeDraining"
	// NodeOutOfService: the node carries the taint node.kubernetes.io/out-of-service.
	NodeOutOfService Reason = "NodeOutOfService"
	// LinkSilent: the node's links that fit the address are up, as it says, but not heard on their segments.
	LinkSilent Reason = "LinkSilent"
)

// Verdict is the decision about one address of one Service, as this node sees it.
type Verdict struct {
	Addr   netip.Addr `json:"addr"`
	Reason Reason     `json:"reason"`
	Owner  string     `json:"owner,omitempty"` // the node that owns the address; "" where none does
	// Despite is what speaks against the owner, where no better candidate is left.
	Despite Reason `json:"despite,omitempty"`
	// Self says how this node stands: Candidate, or what rules it out.
	Self Reason `json:"self,omitempty"`
	// BGP is what this node does with it on BGP; nil where no BGPAdvertisement selects it. The rest is of layer 2.
	BGP *Routed `json:"bgp,omitempty"`
}
