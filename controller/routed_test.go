package main

import (
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

func TestAPeerSaysWhereAnElderHasItsSessions(t *testing.T) {
	peer := func(name string, made int64, racks ...string) v1beta1.BGPPeer {
		p := v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(made, 0)},
			Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: new(int64(65001)), PeerAddress: "10.0.0.1"}}
		for _, r := range racks {
			p.Spec.NodeSelectors = append(p.Spec.NodeSelectors, metav1.LabelSelector{MatchLabels: map[string]string{"rack": r}})
		}
		return p
	}
	var nodes []*kube.Record[cluster.Node]
	for _, rack := range []string{"1", "2", "2"} {
		nodes = append(nodes, &kube.Record[cluster.Node]{Value: cluster.Node{Labels: map[string]string{"rack": rack}}})
	}
	c, _ := config.Parse(config.Objects{BGPPeers: []v1beta1.BGPPeer{peer("elder", 1, "1"), peer("younger", 2, "1", "2")}})
	for i, want := range []string{"", "on 1 nodes BGPPeer elder, the elder, has the session with this router: change that one, or select other nodes with nodeSelectors"} {
		if got := strings.Join(insteadHints(c, c.Peers[i].Name, nodes), ";"); got != want {
			t.Errorf("%s: %q", c.Peers[i].Name, got)
		}
	}
}

func TestWhatIsAnnouncedToRouters(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	nodes := []*kube.Record[cluster.Node]{{Value: cluster.Node{Name: "n", Labels: map[string]string{"rack": "1"}}}}
	asn := int64(65001)
	peer := v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: &asn, PeerAddress: "10.0.0.1"}}
	elsewhere := []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": "2"}}}
	for _, c := range []struct {
		says      string
		advertise []v1beta1.Protocol
		advs      []v1beta1.BGPAdvertisementSpec
		change    func(p *v1beta1.BGPPeerSpec)
		sessions  []string
		v4, v6    bool
	}{
		{says: "nothing announces the pool", sessions: []string{"r"}},
		{says: "the pool says that it is announced", advertise: []v1beta1.Protocol{"BGP"}, sessions: []string{"r"}, v4: true},
		{says: "the session is for both families", advertise: []v1beta1.Protocol{"BGP"}, sessions: []string{"r"}, v4: true, v6: true,
			change: func(p *v1beta1.BGPPeerSpec) { p.DualStackAddressFamily = true }},
		{says: "there is no session", advertise: []v1beta1.Protocol{"BGP"}},
		{says: "the session is another's", advertise: []v1beta1.Protocol{"BGP"}, sessions: []string{"x"}},
		{says: "an advertisement", advs: []v1beta1.BGPAdvertisementSpec{{}}, sessions: []string{"r"}, v4: true},
		{says: "an advertisement to another", advs: []v1beta1.BGPAdvertisementSpec{{Peers: []string{"x"}}}, sessions: []string{"r"}},
		{says: "an advertisement of other pools", advs: []v1beta1.BGPAdvertisementSpec{{IPAddressPools: []string{"x"}}}, sessions: []string{"r"}},
		{says: "an advertisement of other Services", advs: []v1beta1.BGPAdvertisementSpec{{ServiceSelectors: elsewhere}}, sessions: []string{"r"}},
		{says: "an advertisement from other nodes, and one from this", advs: []v1beta1.BGPAdvertisementSpec{{NodeSelectors: elsewhere}, {}}, sessions: []string{"r"}, v4: true},
		{says: "a peer of other nodes", advertise: []v1beta1.Protocol{"BGP"}, sessions: []string{"r"}, change: func(p *v1beta1.BGPPeerSpec) { p.NodeSelectors = elsewhere }},
	} {
		t.Run(c.says, func(t *testing.T) {
			pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "p"},
				Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/24", "2001:db8::/64"}, Advertise: c.advertise}}
			objects := config.Objects{Pools: []v1beta1.IPAddressPool{pool}, BGPPeers: []v1beta1.BGPPeer{*peer.DeepCopy()}}
			if c.change != nil {
				c.change(&objects.BGPPeers[0].Spec)
			}
			for i, spec := range c.advs {
				objects.BGPAdvertisements = append(objects.BGPAdvertisements, v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: string(rune('a' + i))}, Spec: spec})
			}
			parsed, _ := config.Parse(objects)
			reached := routed(parsed, nodes, []*kube.Record[kube.Said]{{Value: kube.Said{Node: "n", Peers: c.sessions}}})
			for a, want := range map[netip.Addr]bool{v4: c.v4, v6: c.v6} {
				if got := reached.reaches(parsed, parsed.Pools[0], nil, a); got != want {
					t.Errorf("%s is announced: %t, want %t", a, got, want)
				}
			}
		})
	}
}
