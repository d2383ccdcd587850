package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// L2AdvertisementSpec says which addresses are announced over ARP and NDP, from which nodes, on which interfaces.
type L2AdvertisementSpec struct {
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

	// NodeSelectors restrict the nodes that may announce; one that matches is enough. Empty: all nodes.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// PreferredNodeSelectors prefer nodes: of those that may announce an address, the ones with the greatest sum of weights do.
	// A preferred node that comes back takes its addresses back.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// Interfaces restrict the network interfaces to announce on: exact names or globs such as eth* (the characters
	// * ? and [...] have their shell meaning). Empty: the interfaces whose subnet holds the address, or all where none does.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=40
	// +kubebuilder:validation:items:Pattern=`^[^/\s]+$`
	// +listType=set
	Interfaces []string `json:"interfaces,omitempty"`
}

// PreferredNodeSelector prefers the nodes that it selects.
type PreferredNodeSelector struct {
	// Weight is added for a node that Preference selects, from 1 to 100.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// Preference selects nodes by label.
	Preference metav1.LabelSelector `json:"preference"`
}

// L2AdvertisementStatus is what the controller says about an advertisement.
type L2AdvertisementStatus struct {
	// MatchedPools counts the pools that this advertisement announces.
	//
	// +optional
	MatchedPools int32 `json:"matchedPools"`
	// MatchedNodes counts the nodes that may announce.
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

// L2Advertisement announces addresses of pools over ARP (IPv4) and NDP (IPv6).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=l2adv,categories=bellwether
// +kubebuilder:printcolumn:name="Pools",type=integer,JSONPath=`.status.matchedPools`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.matchedNodes`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitempty"`
	// +optional
	Status L2AdvertisementStatus `json:"status,omitempty"`
}

// L2AdvertisementList is a list of L2Advertisements.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []L2Advertisement `json:"items"`
}
