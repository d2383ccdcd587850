package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DynamicASN says which AS numbers a peer may have.
//
// +kubebuilder:validation:Enum=internal;external
type DynamicASN string

// The AS numbers that a peer may have.
const (
	DynamicASNInternal DynamicASN = "internal" // myASN
	DynamicASNExternal DynamicASN = "external" // any but myASN
)

// SecretReference names a Secret in the namespace that Bellwether runs in.
type SecretReference struct {
	// Name of the Secret.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// GracefulRestart keeps the peer's routes while a speaker is restarted (RFC 4724).
type GracefulRestart struct {
	// Enabled turns it on.
	Enabled bool `json:"enabled"`
	// RestartTime is how long the peer keeps routes for a speaker that is gone, 1s to 4095s.
	//
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('4095s')",messageExpression="\"restartTime \" + self + \" cannot be used: write 1s to 4095s\""
	RestartTime string `json:"restartTime,omitempty"`
}

// BGPPeerSpec is a router that speakers have BGP sessions with. Times are of whole seconds.
//
// +kubebuilder:validation:XValidation:rule="has(self.peerASN) != has(self.dynamicASN)",message="set one of peerASN and dynamicASN: the router's AS number, or internal or external for any that fits"
// +kubebuilder:validation:XValidation:rule="has(self.peerAddress) != has(self.interface)",message="set one of peerAddress and interface: the router's address, or the link that it is the only router on"
// +kubebuilder:validation:XValidation:rule="!(has(self.ttlSecurity) && has(self.ebgpMultiHop) && self.ebgpMultiHop)",message="ttlSecurity and ebgpMultiHop exclude each other: ttlSecurity says how far away the router may be by itself"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || !has(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()",message="sourceAddress and peerAddress must both be IPv4, or both IPv6"
// +kubebuilder:validation:XValidation:rule="!(has(self.interface) && (has(self.sourceAddress) || has(self.passwordSecret)))",message="a session by interface uses link-local addresses: leave out sourceAddress, and passwordSecret, which routers do not support there"
type BGPPeerSpec struct {
	// MyASN is the AS number of the speakers.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	MyASN int64 `json:"myASN"`

	// PeerASN is the AS number of the router. One of PeerASN and DynamicASN is set.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN *int64 `json:"peerASN,omitempty"`

	// DynamicASN takes the router with the AS number that it has: internal takes myASN, external any other.
	//
	// +optional
	DynamicASN DynamicASN `json:"dynamicASN,omitempty"`

	// LocalASN is the AS number that this peer, of another AS, sees instead of MyASN.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN *int64 `json:"localASN,omitempty"`

	// PeerAddress is the router's address. One of PeerAddress and Interface is set.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).isGlobalUnicast()",messageExpression="\"'\" + self + \"' is not the address of a router: write one such as 192.0.2.1 or 2001:db8::1; for a link-local one set interface instead\""
	PeerAddress string `json:"peerAddress,omitempty"`

	// Interface is a link on which the only router is found by its router advertisements (unnumbered BGP). It leaves no room for
	// SourceAddress, VRF, EBGPMultiHop and PasswordSecret.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[^/\s]+$`
	Interface string `json:"interface,omitempty"`

	// PeerPort is the router's TCP port.
	//
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort int32 `json:"peerPort,omitempty"`

	// SourceAddress is an address of the node to speak from. Default: as the node's routes have it.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).isGlobalUnicast()",messageExpression="\"'\" + self + \"' is not an address to speak from: write one that the node has, such as 192.0.2.10\""
	SourceAddress string `json:"sourceAddress,omitempty"`

	// HoldTime is how long the router may be silent, 3s to 65535s; the shorter one of both ends counts.
	//
	// +optional
	// +kubebuilder:default="90s"
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(ms|s|m|h))+$') && duration(self) >= duration('3s') && duration(self) <= duration('65535s')",messageExpression="\"holdTime \" + self + \" cannot be used: write 3s to 65535s\""
	HoldTime string `json:"holdTime,omitempty"`

	// KeepaliveTime is how often the router hears of the speaker. Default: a third of HoldTime.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('21845s')",messageExpression="\"keepaliveTime \" + self + \" cannot be used: write 1s to 21845s\""
	KeepaliveTime string `json:"keepaliveTime,omitempty"`

	// ConnectTime is how long to wait between attempts to connect, 1s to 65535s.
	//
	// +optional
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('65535s')",messageExpression="\"connectTime \" + self + \" cannot be used: write 1s to 65535s\""
	ConnectTime string `json:"connectTime,omitempty"`

	// RouterID is the BGP identifier of the speakers, in the form of an IPv4 address; set it only where one node has the session.
	// Default: the node's IPv4 address, or one made from its name.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'",messageExpression="\"'\" + self + \"' is not a router ID: write it like an IPv4 address, such as 192.0.2.10\""
	RouterID string `json:"routerID,omitempty"`

	// NodeSelectors restrict the nodes that have the session; one that matches is enough. Empty: all nodes.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// PasswordSecret is a Secret of type kubernetes.io/basic-auth whose password signs the session's segments (RFC 2385).
	//
	// +optional
	PasswordSecret *SecretReference `json:"passwordSecret,omitempty"`

	// BFDProfile is the BFDProfile of the session's BFD session. Empty: none.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	BFDProfile string `json:"bfdProfile,omitempty"`

	// EBGPMultiHop lets a router of another AS be more than one hop away.
	//
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// TTLSecurity refuses what comes from farther away than so many hops (RFC 5082). The router must have it too. It takes the place of
	// EBGPMultiHop.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	TTLSecurity *int32 `json:"ttlSecurity,omitempty"`

	// GracefulRestart keeps routes while a speaker is restarted.
	//
	// +optional
	GracefulRestart *GracefulRestart `json:"gracefulRestart,omitempty"`

	// VRF is the device of the VRF that the router is in.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[^/\s]*$`
	VRF string `json:"vrf,omitempty"`

	// DualStackAddressFamily announces IPv4 and IPv6 over this one session. Default: the family of its addresses.
	//
	// +optional
	DualStackAddressFamily bool `json:"dualStackAddressFamily,omitempty"`
}

// BGPPeerStatus is what the controller says about a peer.
type BGPPeerStatus struct {
	// MatchedNodes counts the nodes that have the session.
	//
	// +optional
	MatchedNodes int32 `json:"matchedNodes"`
	// Conditions: Accepted.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPPeer is a router that speakers announce addresses to.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=bellwether
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="BFD",type=string,JSONPath=`.spec.bfdProfile`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.matchedNodes`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec BGPPeerSpec `json:"spec"`
	// +optional
	Status BGPPeerStatus `json:"status,omitempty"`
}

// BGPPeerList is a list of BGPPeers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPPeer `json:"items"`
}
