package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SpeakerLink is a network interface that a speaker can announce on.
type SpeakerLink struct {
	// Name of the interface.
	Name string `json:"name"`
	// MAC address that the speaker answers with.
	MAC string `json:"mac"`
	// Up is true when the interface is up and has carrier.
	Up bool `json:"up"`
	// Silent is true when no other speaker is heard on the interface any more, though it is up.
	//
	// +optional
	Silent bool `json:"silent,omitempty"`
	// Prefixes are the subnets that the interface is in.
	//
	// +optional
	// +listType=atomic
	Prefixes []string `json:"prefixes,omitempty"`
	// Gateways are the node's default routers on this interface.
	//
	// +optional
	// +listType=atomic
	Gateways []string `json:"gateways,omitempty"`
}

// OwnedAddress is an address that a speaker answers for.
type OwnedAddress struct {
	// Address that is answered for.
	Address string `json:"address"`
	// Interfaces that it is answered on.
	//
	// +listType=atomic
	Interfaces []string `json:"interfaces"`
}

// AddressConflict is an address that another machine on the network has too.
type AddressConflict struct {
	// Address that both have.
	Address string `json:"address"`
	// Station is the hardware address of the other machine.
	Station string `json:"station"`
	// Announced is false where this speaker does not announce the address because of it.
	Announced bool `json:"announced"`
}

// SpeakerLayer2 is what a speaker announces over ARP and NDP.
type SpeakerLayer2 struct {
	// Addresses counts Owned.
	//
	// +optional
	Addresses int32 `json:"addresses"`
	// Owned are the addresses that this speaker answers for now, sorted.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	Owned []OwnedAddress `json:"owned,omitempty"`
	// Conflicts are the addresses of this speaker that other machines have too, sorted; a hundred at most.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	Conflicts []AddressConflict `json:"conflicts,omitempty"`
}

// SessionEstablished is the state of a BGP session that routes are exchanged in.
const SessionEstablished = "Established"

// SpeakerBGPSession is a session of a speaker with the router of a BGPPeer.
type SpeakerBGPSession struct {
	// Peer is the name of the BGPPeer.
	Peer string `json:"peer"`
	// State of the session as in RFC 4271: Idle, Connect, Active, OpenSent, OpenConfirm or Established.
	State string `json:"state"`
	// Since when it is in that state.
	Since metav1.Time `json:"since"`
	// Advertised counts the routes that the router has been told.
	//
	// +optional
	Advertised int32 `json:"advertised"`
	// LastError says why there is no session, or why the last one ended.
	//
	// +optional
	LastError string `json:"lastError,omitempty"`
	// BFD is the state of the BFD session beside it: AdminDown, Down, Init or Up. Empty where there is none.
	//
	// +optional
	BFD string `json:"bfd,omitempty"`
}

// SpeakerBGP is what a speaker announces over BGP.
type SpeakerBGP struct {
	// Established counts the sessions that routes are exchanged in.
	//
	// +optional
	Established int32 `json:"established"`
	// BFDUp counts the sessions whose BFD session is Up.
	//
	// +optional
	BFDUp int32 `json:"bfdUp"`
	// Sessions of this speaker, by peer.
	//
	// +optional
	// +listType=map
	// +listMapKey=peer
	Sessions []SpeakerBGPSession `json:"sessions,omitempty"`
	// Local are the addresses of Services with externalTrafficPolicy Local that this speaker has told a router, as they have endpoints
	// here, sorted.
	//
	// +optional
	// +listType=set
	Local []string `json:"local,omitempty"`
}

// SpeakerStatus is what a speaker says about itself, at most once a second.
type SpeakerStatus struct {
	// Version of the speaker that wrote this.
	//
	// +optional
	Version string `json:"version,omitempty"`
	// Links that the speaker can announce on.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	Links []SpeakerLink `json:"links,omitempty"`
	// Layer2 is what it announces over ARP and NDP.
	//
	// +optional
	Layer2 SpeakerLayer2 `json:"layer2"`
	// BGP is what it announces over BGP.
	//
	// +optional
	BGP SpeakerBGP `json:"bgp"`
	// Conditions: Ready, MembersAgree, ConfigApplied, and KubeProxyHealthy where kube-proxy is asked.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Speaker shows what the speaker on one node announces. It is named after the node, owned by the Node object, and written
// by that node's speaker; there is nothing to configure in it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=bellwether
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="L2",type=integer,JSONPath=`.status.layer2.addresses`
// +kubebuilder:printcolumn:name="BGP",type=integer,JSONPath=`.status.bgp.established`
// +kubebuilder:printcolumn:name="BFD",type=integer,JSONPath=`.status.bgp.bfdUp`
// +kubebuilder:printcolumn:name="Members agree",type=string,JSONPath=`.status.conditions[?(@.type=="MembersAgree")].status`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Speaker struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Status SpeakerStatus `json:"status,omitempty"`
}

// SpeakerList is a list of Speakers.
//
// +kubebuilder:object:root=true
type SpeakerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Speaker `json:"items"`
}
