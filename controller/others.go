package main

import (
	"context"
	"fmt"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// others works out what the statuses of all objects but pools shall say, and returns the ones that say something else.
func (s *syncer) others(now metav1.Time) []told {
	var all []told
	for _, r := range s.objects.L2Advertisements.Records() {
		o := &r.Value
		status := v1beta1.L2AdvertisementStatus{Conditions: s.verdict(config.KindL2Advertisement, o.Name, o.Status.Conditions, now)}
		if i := slices.IndexFunc(s.config.L2, func(a config.L2Advertisement) bool { return a.Name == o.Name }); i >= 0 {
			status.MatchedPools, status.MatchedNodes = s.matched(s.config.L2[i].Selection)
		}
		all = append(all, tell(s.client.L2, config.KindL2Advertisement, o, o.Status, status))
	}
	for _, r := range s.objects.BGPAdvertisements.Records() {
		o := &r.Value
		status := v1beta1.BGPAdvertisementStatus{Conditions: s.verdict(config.KindBGPAdvertisement, o.Name, o.Status.Conditions, now)}
		if i := slices.IndexFunc(s.config.BGP, func(a config.BGPAdvertisement) bool { return a.Name == o.Name }); i >= 0 {
			status.MatchedPools, status.MatchedNodes = s.matched(s.config.BGP[i].Selection)
			for _, peer := range s.config.Peers {
				if s.config.BGP[i].SelectsPeer(peer.Name) {
					status.MatchedPeers++
				}
			}
		}
		all = append(all, tell(s.client.BGP, config.KindBGPAdvertisement, o, o.Status, status))
	}
	for _, r := range s.objects.BGPPeers.Records() {
		o := &r.Value
		status := v1beta1.BGPPeerStatus{Conditions: s.verdict(config.KindBGPPeer, o.Name, o.Status.Conditions, now)}
		if i := slices.IndexFunc(s.config.Peers, func(p config.BGPPeer) bool { return p.Name == o.Name }); i >= 0 {
			for _, node := range s.nodes.Records() {
				if labels := node.Value.Labels; s.config.Peers[i].SelectsNode(labels) && s.config.Instead(i, labels) < 0 {
					status.MatchedNodes++
				}
			}
		}
		all = append(all, tell(s.client.Peers, config.KindBGPPeer, o, o.Status, status))
	}
	for _, r := range s.objects.BFDProfiles.Records() {
		o := &r.Value
		status := v1beta1.BFDProfileStatus{Conditions: s.verdict(config.KindBFDProfile, o.Name, o.Status.Conditions, now)}
		for _, peer := range s.objects.BGPPeers.Records() {
			if peer.Value.Spec.BFDProfile == o.Name {
				status.UsedBy++
			}
		}
		all = append(all, tell(s.client.Profiles, config.KindBFDProfile, o, o.Status, status))
	}
	for _, r := range s.objects.Communities.Records() {
		o := &r.Value
		status := v1beta1.CommunityStatus{Conditions: s.verdict(config.KindCommunity, o.Name, o.Status.Conditions, now)}
		all = append(all, tell(s.client.Communities, config.KindCommunity, o, o.Status, status))
	}
	return slices.DeleteFunc(all, func(t told) bool { return t.write == nil })
}

// told is what one object's status shall say that it does not say yet.
type told struct {
	kind, name string
	write      func(context.Context) error // nil where there is nothing to write
}

// patcher writes objects of one kind.
type patcher[O any] interface {
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (O, error)
}

// tell prepares the write of a status that is another than it was.
func tell[O metav1.Object, S any](client patcher[O], kind string, o O, was, now S) told {
	t := told{kind: kind, name: o.GetName()}
	if apiequality.Semantic.DeepEqual(was, now) {
		return t
	}
	version := o.GetResourceVersion()
	t.write = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, kube.RequestTimeout)
		defer cancel()
		patch, err := kube.StatusPatch(now, version)
		if err != nil {
			return fmt.Errorf("preparing the status of %s %s: %w", kind, t.name, err)
		}
		if _, err := client.Patch(ctx, t.name, types.JSONPatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			return fmt.Errorf("writing the status of %s %s: %w", kind, t.name, err)
		}
		return nil
	}
	return t
}

// matched counts what an advertisement selects.
func (s *syncer) matched(selection config.Selection) (pools, nodes int32) {
	for _, pool := range s.config.Pools {
		if selection.SelectsPool(pool) {
			pools++
		}
	}
	for _, node := range s.nodes.Records() {
		if selection.SelectsNode(node.Value.Labels) {
			nodes++
		}
	}
	return pools, nodes
}

// verdict is the conditions of an object of which nothing more is to be said.
func (s *syncer) verdict(kind, name string, old []metav1.Condition, now metav1.Time) []metav1.Condition {
	return stamp(old, []metav1.Condition{s.accepted(kind, name)}, now)
}

// insteadHints says on which nodes elder BGPPeers have the session with the router of this one.
func insteadHints(c config.Config, name string, nodes []*kube.Record[cluster.Node]) (hints []string) {
	i := slices.IndexFunc(c.Peers, func(p config.BGPPeer) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	on := map[int]int{}
	for _, n := range nodes {
		if labels := n.Value.Labels; c.Peers[i].SelectsNode(labels) {
			on[c.Instead(i, labels)]++
		}
	}
	for elder, p := range c.Peers[:i] {
		if n := on[elder]; n > 0 {
			hints = append(hints, fmt.Sprintf("on %d nodes BGPPeer %s, the elder, has the session with this router: change that one, or select other nodes with nodeSelectors", n, p.Name))
		}
	}
	return hints
}
