package metallb

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
)

// object is a Kubernetes object of any kind.
type object struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec map[string]any    `json:"spec"`
	Data map[string]string `json:"data"`
}

// The specs of metallb.io/v1beta1 that are not field by field those of Bellwether, and BGPPeer's of v1beta2, which has all fields of v1beta1.
type (
	poolSpec struct {
		Addresses         []v1beta1.AddressRange     `json:"addresses"`
		AutoAssign        *bool                      `json:"autoAssign"`
		AvoidBuggyIPs     bool                       `json:"avoidBuggyIPs"`
		ServiceAllocation *v1beta1.ServiceAllocation `json:"serviceAllocation"`
	}
	bgpAdvertisementSpec struct {
		IPAddressPools         []string               `json:"ipAddressPools"`
		IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors"`
		ServiceSelectors       []metav1.LabelSelector `json:"serviceSelectors"`
		NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors"`
		Peers                  []string               `json:"peers"`
		AggregationLength      *int32                 `json:"aggregationLength"`
		AggregationLengthV6    *int32                 `json:"aggregationLengthV6"`
		LocalPref              *int64                 `json:"localPref"`
		Communities            []string               `json:"communities"`
	}
	secretReference struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	}
	peerSpec struct {
		MyASN                  int64                  `json:"myASN"`
		PeerASN                int64                  `json:"peerASN"`
		DynamicASN             v1beta1.DynamicASN     `json:"dynamicASN"`
		LocalASN               *int64                 `json:"localASN"`
		PeerAddress            string                 `json:"peerAddress"`
		Interface              string                 `json:"interface"`
		PeerPort               int32                  `json:"peerPort"`
		SourceAddress          string                 `json:"sourceAddress"`
		HoldTime               string                 `json:"holdTime"`
		KeepaliveTime          string                 `json:"keepaliveTime"`
		ConnectTime            string                 `json:"connectTime"`
		RouterID               string                 `json:"routerID"`
		NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors"`
		Password               string                 `json:"password"`
		PasswordSecret         secretReference        `json:"passwordSecret"`
		BFDProfile             string                 `json:"bfdProfile"`
		EnableGracefulRestart  bool                   `json:"enableGracefulRestart"`
		EBGPMultiHop           bool                   `json:"ebgpMultiHop"`
		VRF                    string                 `json:"vrf"`
		DisableMP              bool                   `json:"disableMP"`
		DualStackAddressFamily bool                   `json:"dualStackAddressFamily"`
	}
)

// legacy is what the ConfigMap of MetalLB before version 0.13 has under "config", as JSON.
type legacy struct {
	Peers          []legacyPeer       `json:"peers"`
	BGPCommunities map[string]string  `json:"bgp-communities"`
	AddressPools   []legacyPool       `json:"address-pools"`
	BFDProfiles    []legacyBFDProfile `json:"bfd-profiles"`
}

type (
	legacyPeer struct {
		MyASN         int64                `json:"my-asn"`
		PeerASN       int64                `json:"peer-asn"`
		PeerAddress   string               `json:"peer-address"`
		PeerPort      int32                `json:"peer-port"`
		SourceAddress string               `json:"source-address"`
		HoldTime      string               `json:"hold-time"`
		KeepaliveTime string               `json:"keepalive-time"`
		RouterID      string               `json:"router-id"`
		NodeSelectors []legacyNodeSelector `json:"node-selectors"`
		Password      string               `json:"password"`
		BFDProfile    string               `json:"bfd-profile"`
		EBGPMultiHop  bool                 `json:"ebgp-multihop"`
	}
	legacyNodeSelector struct {
		MatchLabels      map[string]string   `json:"match-labels"`
		MatchExpressions []legacyRequirement `json:"match-expressions"`
	}
	legacyRequirement struct {
		Key      string                       `json:"key"`
		Operator metav1.LabelSelectorOperator `json:"operator"`
		Values   []string                     `json:"values"`
	}
	legacyPool struct {
		Name              string                   `json:"name"`
		Protocol          string                   `json:"protocol"`
		Addresses         []v1beta1.AddressRange   `json:"addresses"`
		AvoidBuggyIPs     bool                     `json:"avoid-buggy-ips"`
		AutoAssign        *bool                    `json:"auto-assign"`
		BGPAdvertisements []legacyBGPAdvertisement `json:"bgp-advertisements"`
	}
	legacyBGPAdvertisement struct {
		AggregationLength   *int32   `json:"aggregation-length"`
		AggregationLengthV6 *int32   `json:"aggregation-length-v6"`
		LocalPref           *int64   `json:"localpref"`
		Communities         []string `json:"communities"`
	}
	legacyBFDProfile struct {
		Name             string `json:"name"`
		ReceiveInterval  *int32 `json:"receive-interval"`
		TransmitInterval *int32 `json:"transmit-interval"`
		DetectMultiplier *int32 `json:"detect-multiplier"`
		EchoInterval     *int32 `json:"echo-interval"`
		EchoMode         bool   `json:"echo-mode"`
		PassiveMode      bool   `json:"passive-mode"`
		MinimumTTL       *int32 `json:"minimum-ttl"`
	}
)
