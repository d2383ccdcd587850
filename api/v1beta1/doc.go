// Package v1beta1 holds the wire types of the API group bellwether.dev, all of them cluster-scoped. The CRDs in
// config/crd and the deep-copy functions are generated from these files by `make generate`.
//
// +kubebuilder:object:generate=true
// +groupName=bellwether.dev
package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of every kind here.
const Group = "bellwether.dev"

// GroupVersion returns the group and version of every kind here.
func GroupVersion() schema.GroupVersion { return schema.GroupVersion{Group: Group, Version: "v1beta1"} }

// AddToScheme registers the kinds of this group.
func AddToScheme(s *runtime.Scheme) error {
	gv := GroupVersion()
	s.AddKnownTypes(gv,
		&IPAddressPool{}, &IPAddressPoolList{},
		&L2Advertisement{}, &L2AdvertisementList{},
		&BGPPeer{}, &BGPPeerList{},
		&BGPAdvertisement{}, &BGPAdvertisementList{},
		&BFDProfile{}, &BFDProfileList{},
		&Community{}, &CommunityList{},
		&Speaker{}, &SpeakerList{},
	)
	metav1.AddToGroupVersion(s, gv)
	return nil
}
