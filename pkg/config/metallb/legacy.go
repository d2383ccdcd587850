package metallb

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
)

// configMap reads the configuration of MetalLB before version 0.13.
func (c *converter) configMap(name, text string) {
	raw, err := c.toJSON([]byte(text))
	if err != nil {
		c.refuse(name, "config", "it cannot be read: %v", err)
		return
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		c.refuse(name, "config", "it cannot be read: %v", err)
		return
	}
	var old legacy
	c.read(name, tree, &old)
	if len(old.BGPCommunities) > 0 {
		community := v1beta1.Community{TypeMeta: kind("Community"), ObjectMeta: metav1.ObjectMeta{Name: "communities"}}
		for _, alias := range slices.Sorted(maps.Keys(old.BGPCommunities)) {
			community.Spec.Communities = append(community.Spec.Communities, v1beta1.CommunityAlias{Name: alias, Value: old.BGPCommunities[alias]})
		}
		c.Communities = append(c.Communities, community)
	}
	for _, b := range old.BFDProfiles {
		c.BFDProfiles = append(c.BFDProfiles, v1beta1.BFDProfile{TypeMeta: kind("BFDProfile"), ObjectMeta: metav1.ObjectMeta{Name: b.Name}, Spec: v1beta1.BFDProfileSpec{
			ReceiveInterval: b.ReceiveInterval, TransmitInterval: b.TransmitInterval, DetectMultiplier: b.DetectMultiplier,
			EchoMode: b.EchoMode, EchoInterval: b.EchoInterval, PassiveMode: b.PassiveMode, MinimumTTL: b.MinimumTTL}})
	}
	for i, p := range old.Peers {
		c.legacyPeer(name, fmt.Sprintf("peer%d", i+1), p)
	}
	for _, p := range old.AddressPools {
		c.legacyPool(name, p)
	}
}

func (c *converter) legacyPeer(config, name string, p legacyPeer) {
	peer := v1beta1.BGPPeer{TypeMeta: kind("BGPPeer"), ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1beta1.BGPPeerSpec{
		MyASN: p.MyASN, PeerAddress: p.PeerAddress, PeerPort: p.PeerPort, SourceAddress: p.SourceAddress, HoldTime: p.HoldTime,
		KeepaliveTime: p.KeepaliveTime, RouterID: p.RouterID, BFDProfile: p.BFDProfile, EBGPMultiHop: p.EBGPMultiHop}}
	if p.PeerASN != 0 {
		peer.Spec.PeerASN = &p.PeerASN
	}
	for _, s := range p.NodeSelectors {
		selector := metav1.LabelSelector{MatchLabels: s.MatchLabels}
		for _, e := range s.MatchExpressions {
			selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: e.Key, Operator: e.Operator, Values: e.Values})
		}
		peer.Spec.NodeSelectors = append(peer.Spec.NodeSelectors, selector)
	}
	c.inlinePassword(config, &peer, p.Password)
	c.BGPPeers = append(c.BGPPeers, peer)
}

// legacyPool makes a pool, and what announces it.
func (c *converter) legacyPool(config string, p legacyPool) {
	if p.Protocol != "layer2" && p.Protocol != "bgp" {
		c.refuse(config, "address-pools", "the protocol of pool %q is %q: set it to layer2 or bgp", p.Name, p.Protocol)
		return
	}
	c.Pools = append(c.Pools, v1beta1.IPAddressPool{TypeMeta: kind("IPAddressPool"), ObjectMeta: metav1.ObjectMeta{Name: p.Name}, Spec: v1beta1.IPAddressPoolSpec{
		Addresses: p.Addresses, AutoAssign: p.AutoAssign, AvoidBuggyIPs: p.AvoidBuggyIPs}})
	of := []string{p.Name}
	if p.Protocol == "layer2" {
		if len(p.BGPAdvertisements) > 0 {
			c.refuse(config, "bgp-advertisements", "pool %q is announced by layer 2: leave them out, or set its protocol to bgp", p.Name)
		}
		c.L2Advertisements = append(c.L2Advertisements, v1beta1.L2Advertisement{TypeMeta: kind("L2Advertisement"), ObjectMeta: metav1.ObjectMeta{Name: p.Name},
			Spec: v1beta1.L2AdvertisementSpec{IPAddressPools: of}})
		return
	}
	if len(p.BGPAdvertisements) == 0 {
		p.BGPAdvertisements = []legacyBGPAdvertisement{{}}
	}
	for i, a := range p.BGPAdvertisements {
		name := p.Name
		if len(p.BGPAdvertisements) > 1 {
			name = fmt.Sprintf("%s-%d", p.Name, i+1)
		}
		c.BGPAdvertisements = append(c.BGPAdvertisements, v1beta1.BGPAdvertisement{TypeMeta: kind("BGPAdvertisement"), ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: v1beta1.BGPAdvertisementSpec{IPAddressPools: of, AggregationLength: a.AggregationLength, AggregationLengthV6: a.AggregationLengthV6,
				LocalPref: a.LocalPref, Communities: a.Communities}})
	}
}
