package explain_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// edited are the objects of a world after an edit; the lists are its own.
func edited(o config.Objects, edit func(*config.Objects)) config.Objects {
	o.Pools = append([]v1beta1.IPAddressPool(nil), o.Pools...)
	o.BGPPeers = append([]v1beta1.BGPPeer(nil), o.BGPPeers...)
	edit(&o)
	return o
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name  string
		peers []string
		edit  func(*config.Objects)
		want  []string
	}{
		{name: "nothing", edit: func(*config.Objects) {}},
		{name: "a pool grows", edit: func(o *config.Objects) { o.Pools[0].Spec.Addresses = []v1beta1.AddressRange{"192.0.2.0/23"} }},
		{name: "a pool gives up the address, and it is kept", edit: func(o *config.Objects) { o.Pools[0].Spec.Addresses = []v1beta1.AddressRange{"192.0.2.128/25"} },
			want: []string{"shop/web: 192.0.2.10 on OWNER -> 192.0.2.10 on OWNER (OutOfPool)"}},
		{name: "a pool gives up the address, and it is to be another", edit: func(o *config.Objects) {
			o.Pools[0].Spec.Addresses, o.Pools[0].Spec.OnChange = []v1beta1.AddressRange{"192.0.2.128/32"}, v1beta1.OnChangeRenumber
		}, want: []string{"shop/web: 192.0.2.10 on OWNER -> 192.0.2.128 on"}},
		{name: "the other address would be announced by nobody: the old one stays", edit: func(o *config.Objects) {
			quiet := *o.Pools[0].DeepCopy()
			quiet.Name, quiet.Spec.Addresses, quiet.Spec.Advertise = "quiet", []v1beta1.AddressRange{"192.0.2.192/28"}, nil
			o.Pools[0].Spec.Addresses, o.Pools[0].Spec.OnChange = []v1beta1.AddressRange{"192.0.2.128/32"}, v1beta1.OnChangeRenumber
			o.Pools[0].Spec.AutoAssign = new(bool)
			o.Pools = append(o.Pools, quiet)
		}, want: []string{"shop/web: 192.0.2.10 on OWNER -> 192.0.2.10 on OWNER, 192.0.2.192 announced by nobody (Allocated)"}},
		{name: "nobody advertises any more", edit: func(o *config.Objects) { o.Pools[0].Spec.Advertise = nil },
			want: []string{"shop/web: 192.0.2.10 on OWNER -> 192.0.2.10 announced by nobody (Allocated)"}},
		{name: "a pool in use goes: it stays until its last Service has gone", edit: func(o *config.Objects) { o.Pools = nil }},
		{name: "a peer is added", peers: []string{"router"}, edit: func(o *config.Objects) {
			more := *o.BGPPeers[0].DeepCopy()
			more.Name, more.Spec.PeerAddress = "second", "192.0.2.253"
			o.BGPPeers = append(o.BGPPeers, more)
		}, want: []string{"shop/web: 192.0.2.10 over 2 sessions of BGP -> 192.0.2.10 over 4 sessions of BGP (Allocated)", "node-1 second begins", "node-2 second begins"}},
		{name: "a peer's AS number is another", peers: []string{"router"}, edit: func(o *config.Objects) { o.BGPPeers[0].Spec.MyASN = 64513 },
			want: []string{"node-1 router is opened anew", "node-2 router is opened anew"}},
		{name: "a peer's timers are others, and its session goes on", peers: []string{"router"}, edit: func(o *config.Objects) { o.BGPPeers[0].Spec.HoldTime = "30s" }},
		{name: "a peer goes", peers: []string{"router"}, edit: func(o *config.Objects) { o.BGPPeers = nil },
			want: []string{"shop/web: 192.0.2.10 over 2 sessions of BGP -> 192.0.2.10 announced by nobody (Allocated)", "node-1 router ends", "node-2 router ends"}},
		{name: "an object that cannot be", edit: func(o *config.Objects) { o.Pools[0].Spec.Addresses = append(o.Pools[0].Spec.Addresses, "192.0.2.300") },
			want: []string{"refused: IPAddressPool public"}},
	} {
		w := healthy(c.peers...)
		w.Objects.Pools[0].Finalizers = []string{v1beta1.FinalizerInUse}
		w.Objects.Pools[0].CreationTimestamp = metav1.Now()
		p := w.Plan(edited(w.Objects, c.edit))
		var got []string
		for _, s := range p.Services {
			got = append(got, fmt.Sprintf("%s: %s -> %s (%s)", s.Service, s.Before, s.After, s.After.Allocation))
		}
		for _, s := range p.Sessions {
			got = append(got, fmt.Sprintf("%s %s %s", s.Node, s.Peer, s.What))
		}
		for _, r := range p.Refused {
			got = append(got, "refused: "+r)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for i := range got {
			if want := strings.ReplaceAll(c.want[i], "OWNER", owner(w)); !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: %q, want %q", c.name, got[i], want)
			}
		}
	}
}
