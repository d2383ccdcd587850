package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CommunityAlias gives a BGP community a name.
type CommunityAlias struct {
	// Name that BGPAdvertisements use.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z][-A-Za-z0-9_.]*$`
	Name string `json:"name"`
	// Value is a standard community (64512:100, RFC 1997) or a large one (large:64512:1:2, RFC 8092).
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^([0-9]+:[0-9]+|large:[0-9]+:[0-9]+:[0-9]+)$`
	Value string `json:"value"`
}

// CommunitySpec gives names to BGP communities.
type CommunitySpec struct {
	// Communities by name.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	// +listType=map
	// +listMapKey=name
	Communities []CommunityAlias `json:"communities,omitempty"`
}

// CommunityStatus is what the controller says about a Community.
type CommunityStatus struct {
	// Conditions: Accepted.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Community gives names to BGP communities, for BGPAdvertisements to use.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=communities,singular=community,categories=bellwether
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Community struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec CommunitySpec `json:"spec,omitempty"`
	// +optional
	Status CommunityStatus `json:"status,omitempty"`
}

// CommunityList is a list of Communities.
//
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Community `json:"items"`
}
