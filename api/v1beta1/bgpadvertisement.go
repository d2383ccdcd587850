package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPAdvertisementSpec says which addresses are announced to which routers, from which nodes, and with what.
type BGPAdvertisementSpec struct {
	// IPAddressPools are the names of the pools to announce. With neither this nor IPAddressPoolSelectors, all pools are.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +listType=set
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// IPAddressPoolSelectors select pools by label; they add to IPAddressPools.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// ServiceSelectors restrict this advertisement to Services by label; one that matches is enough. Empty: all Services.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// NodeSelectors restrict the nodes that announce; one that matches is enough. Empty: all nodes.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// Peers are the names of the BGPPeers to announce to. Empty: all.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +listType=set
	Peers []string `json:"peers,omitempty"`

	// AggregationLength is the length of the prefixes that IPv4 addresses are announced by.
	//
	// +optional
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// AggregationLengthV6 is the length of the prefixes that IPv6 addresses are announced by.
	//
	// +optional
	// +kubebuilder:default=128
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// LocalPref is the local preference that routers of the same AS get (RFC 4271 section 5.1.5).
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPref *int64 `json:"localPref,omitempty"`

	// MED is the multi-exit discriminator (RFC 4271 section 5.1.4).
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED *int64 `json:"med,omitempty"`

	// ASPathPrepend is how many times more than once the speakers' AS is in the path that routers of other ASes get.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	ASPathPrepend int32 `json:"asPathPrepend,omitempty"`

	// Communities to announce with: 64512:100, large:64512:1:2, a well-known name such as no-export, or a name that a Community object
	// gives.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=63
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	Communities []string `json:"communities,omitempty"`
}

// BGPAdvertisementStatus is what the controller says about an advertisement.
type BGPAdvertisementStatus struct {
	// MatchedPools counts the pools that this advertisement announces.
	//
	// +optional
	MatchedPools int32 `json:"matchedPools"`
	// MatchedNodes counts the nodes that announce.
	//
	// +optional
	MatchedNodes int32 `json:"matchedNodes"`
	// MatchedPeers counts the BGPPeers that are announced to.
	//
	// +optional
	MatchedPeers int32 `json:"matchedPeers"`
	// Conditions: Accepted.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPAdvertisement announces addresses of pools to routers over BGP, from every node at once.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=bgpadv,categories=bellwether
// +kubebuilder:printcolumn:name="Pools",type=integer,JSONPath=`.status.matchedPools`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.matchedNodes`
// +kubebuilder:printcolumn:name="Peers",type=integer,JSONPath=`.status.matchedPeers`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	// +kubebuilder:default={}
	Spec BGPAdvertisementSpec `json:"spec,omitempty"`
	// +optional
	Status BGPAdvertisementStatus `json:"status,omitempty"`
}

// BGPAdvertisementList is a list of BGPAdvertisements.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPAdvertisement `json:"items"`
}
