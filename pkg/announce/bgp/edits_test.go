package bgp

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// said is what a router outside has of a route that it was told.
func said(r *announce.Route, asn uint32) string {
	text := []string{"via 127.0.0.1", fmt.Sprint("path ", slices.Repeat([]uint32{asn}, r.Prepend+1))}
	if r.MED != nil {
		text = append(text, fmt.Sprint("med ", *r.MED))
	}
	for _, c := range r.Communities {
		text = append(text, c.String())
	}
	slices.Sort(text)
	return strings.Join(text, " ")
}

// world is what an operator edits.
type world struct {
	config.Objects
	services []cluster.Service
	random   *rand.Rand
}

func (w *world) plan() announce.BGPPlan {
	parsed, _ := config.Parse(w.Objects)
	view := announce.View{Self: "n", Config: parsed, Services: w.services, Nodes: []cluster.Node{{Name: "n", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}},
		Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{"n": {Ready: true}}}}
	return announce.Decide(view).BGP
}

func (w *world) some(n int) int { return w.random.IntN(n) }

// edit makes one random edit that no session should go down for.
func (w *world) edit() {
	switch w.some(6) {
	case 0: // an advertisement comes or is edited
		name := fmt.Sprint("adv-", w.some(4))
		adv := v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(w.some(1000)), 0))},
			Spec: v1beta1.BGPAdvertisementSpec{ASPathPrepend: int32(w.some(3)), AggregationLength: new(int32(24 + w.some(9)))}}
		if w.some(2) == 0 {
			adv.Spec.MED = new(int64(w.some(3)))
		}
		if w.some(2) == 0 {
			adv.Spec.Peers = []string{[]string{"edited", "still"}[w.some(2)]}
		}
		if w.some(2) == 0 {
			adv.Spec.Communities = []string{fmt.Sprintf("64512:%d", w.some(5)), fmt.Sprintf("large:64512:%d:1", w.some(3))}
		}
		if w.some(3) == 0 {
			adv.Spec.IPAddressPools = []string{"a"}
		}
		w.BGPAdvertisements = append(slices.DeleteFunc(slices.Clone(w.BGPAdvertisements), func(a v1beta1.BGPAdvertisement) bool { return a.Name == name }), adv)
	case 1: // one goes
		if n := len(w.BGPAdvertisements); n > 0 {
			i := w.some(n)
			w.BGPAdvertisements = slices.Delete(slices.Clone(w.BGPAdvertisements), i, i+1)
		}
	case 2, 3: // a Service comes or goes
		i := w.some(2 * 20)
		addr := netip.AddrFrom4([4]byte{198, 51, byte(100 + i/20), byte(i % 20)})
		key := cluster.Key{Namespace: "ns", Name: fmt.Sprint("s", i)}
		was := len(w.services)
		w.services = slices.DeleteFunc(slices.Clone(w.services), func(s cluster.Service) bool { return s.Key == key })
		if len(w.services) == was {
			w.services = append(w.services, cluster.Service{Key: key, Held: []netip.Addr{addr}})
		}
	case 4: // timers change, and a session does not go down for that
		i := slices.IndexFunc(w.BGPPeers, func(p v1beta1.BGPPeer) bool { return p.Name == "edited" })
		w.BGPPeers = slices.Clone(w.BGPPeers)
		w.BGPPeers[i].Spec.HoldTime = fmt.Sprintf("%ds", 9+w.some(3))
	case 5: // a peer of a router that is not there comes or goes
		was := len(w.BGPPeers)
		w.BGPPeers = slices.DeleteFunc(slices.Clone(w.BGPPeers), func(p v1beta1.BGPPeer) bool { return p.Name == "gone" })
		if len(w.BGPPeers) == was {
			w.BGPPeers = append(w.BGPPeers, peerAt("gone", "127.0.0.99", 65099))
		}
	}
}

func peerAt(name, address string, asn int64) v1beta1.BGPPeer {
	return v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: &asn, PeerAddress: address, PeerPort: routerPort,
		SourceAddress: "127.0.0.1", HoldTime: "9s"}}
}

// TestRandomEditsOfObjects makes a thousand edits of advertisements, Services and peers: the routers end with exactly what a fresh start
// yields, and no session went down.
func TestRandomEditsOfObjects(t *testing.T) {
	edited, still := newRouter(t, "127.0.0.18", 65001), newRouter(t, "127.0.0.19", 65002)
	edited.accept(t, "127.0.0.1", 64512)
	still.accept(t, "127.0.0.1", 64512)
	b := run(t)
	pool := func(name string, addresses v1beta1.AddressRange) v1beta1.IPAddressPool {
		return v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{addresses}}}
	}
	w := &world{random: rand.New(rand.NewPCG(7, 7)), Objects: config.Objects{
		Pools:    []v1beta1.IPAddressPool{pool("a", "198.51.100.0/24"), pool("b", "198.51.101.0/24")},
		BGPPeers: []v1beta1.BGPPeer{peerAt("edited", "127.0.0.18", 65001), peerAt("still", "127.0.0.19", 65002)},
	}}
	b.Set(w.plan())
	await(t, "both sessions are up", func() bool {
		return b.Have()["edited"].State == Established && b.Have()["still"].State == Established
	})
	for range 1000 {
		w.edit()
		b.Set(w.plan())
		time.Sleep(time.Duration(w.some(2000)) * time.Microsecond)
	}
	plan := w.plan()
	for len(plan["edited"].Routes) == 0 || len(plan["still"].Routes) == 0 { // an end without routes shows nothing
		w.edit()
		plan = w.plan()
	}
	b.Set(plan)
	for name, r := range map[string]*router{"edited": edited, "still": still} {
		want := map[netip.Prefix]string{}
		for p, route := range plan[name].Routes {
			want[p] = said(route, 64512)
		}
		await(t, name+" has exactly what is wanted", func() bool { return maps.Equal(r.rib(t), want) })
		await(t, name+" is said to", func() bool { return b.Have()[name].Advertised == len(want) })
		if s := b.Have()[name]; s.Flaps > 0 || s.State != Established {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
