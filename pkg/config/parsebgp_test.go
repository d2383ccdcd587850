package config

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
)

// aged is the metadata of an object; age is the second that it was created in.
func aged(name string, age int64) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(age, 0))}
}

// bgpPeer is a peer that nothing is wrong with, changed.
func bgpPeer(name string, age int64, change func(*v1beta1.BGPPeerSpec)) v1beta1.BGPPeer {
	p := v1beta1.BGPPeer{ObjectMeta: aged(name, age), Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: new(int64(65001)), PeerAddress: "192.0.2.1"}}
	change(&p.Spec)
	return p
}

func TestBGPPeers(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*v1beta1.BGPPeerSpec)
		problem string // of the peer; empty: it is taken
	}{
		{"the least that is needed", func(*v1beta1.BGPPeerSpec) {}, ""},
		{"everything at once", func(p *v1beta1.BGPPeerSpec) {
			p.LocalASN, p.SourceAddress, p.PeerPort = new(int64(64999)), "192.0.2.7", 1790
			p.HoldTime, p.KeepaliveTime, p.ConnectTime, p.RouterID = "30s", "10s", "5s", "10.0.0.1"
			p.GracefulRestart = &v1beta1.GracefulRestart{Enabled: true, RestartTime: "2m"}
			p.EBGPMultiHop, p.VRF, p.PasswordSecret = true, "red", &v1beta1.SecretReference{Name: "s"}
		}, ""},
		{"any AS but ours", func(p *v1beta1.BGPPeerSpec) { p.PeerASN, p.DynamicASN = nil, "external" }, ""},
		{"no AS", func(p *v1beta1.BGPPeerSpec) { p.PeerASN = nil },
			"InvalidASN: set one of peerASN and dynamicASN: the router's AS number, or internal or external for any that fits"},
		{"two ways to say the AS", func(p *v1beta1.BGPPeerSpec) { p.DynamicASN = "external" },
			"InvalidASN: set one of peerASN and dynamicASN: the router's AS number, or internal or external for any that fits"},
		{"a dynamic AS from the future", func(p *v1beta1.BGPPeerSpec) { p.PeerASN, p.DynamicASN = nil, "auto" },
			`InvalidASN: dynamicASN is "auto": set it to internal or external`},
		{"AS_TRANS", func(p *v1beta1.BGPPeerSpec) { p.MyASN = 23456 }, "InvalidASN: myASN is 23456: set it to an AS number, 1 to 4294967295 and not 23456"},
		{"an AS of 33 bits", func(p *v1beta1.BGPPeerSpec) { p.PeerASN = new(int64(1) << 32) },
			"InvalidASN: peerASN is 4294967296: set it to an AS number, 1 to 4294967295 and not 23456"},
		{"another AS for a router of ours", func(p *v1beta1.BGPPeerSpec) { p.PeerASN, p.LocalASN = new(int64(64512)), new(int64(64999)) },
			"InvalidASN: localASN is for routers of another AS: leave it out, or set peerASN to another number than myASN"},
		{"the router's own AS", func(p *v1beta1.BGPPeerSpec) { p.LocalASN = new(int64(65001)) },
			"InvalidASN: localASN and peerASN are both 65001, which makes the session internal: set myASN to it and leave out localASN"},
		{"nowhere", func(p *v1beta1.BGPPeerSpec) { p.PeerAddress = "" },
			"InvalidValue: set one of peerAddress and interface: the router's address, or the link that it is the only router on"},
		{"no address", func(p *v1beta1.BGPPeerSpec) { p.PeerAddress = "router.example" },
			`InvalidValue: peerAddress: "router.example" is not an IP address: write one such as 192.0.2.1 or 2001:db8::1`},
		{"two families", func(p *v1beta1.BGPPeerSpec) { p.SourceAddress = "2001:db8::1" },
			"InvalidValue: sourceAddress 2001:db8::1 and peerAddress 192.0.2.1 are of two families: use addresses of one"},
		{"a hold time that is too short", func(p *v1beta1.BGPPeerSpec) { p.HoldTime = "2s" },
			`InvalidValue: holdTime: "2s" cannot be used: write whole seconds, 3s to 65535s`},
		{"half a second", func(p *v1beta1.BGPPeerSpec) { p.HoldTime = "3500ms" },
			`InvalidValue: holdTime: "3500ms" cannot be used: write whole seconds, 3s to 65535s`},
		{"keepalives that come too late", func(p *v1beta1.BGPPeerSpec) { p.HoldTime, p.KeepaliveTime = "9s", "9s" },
			"InvalidValue: keepaliveTime is 9s and holdTime 9s: the router would give up before it hears anything; set keepaliveTime to a third of holdTime, or leave it out"},
		{"a router ID of IPv6", func(p *v1beta1.BGPPeerSpec) { p.RouterID = "2001:db8::1" },
			`InvalidValue: routerID: "2001:db8::1" is not in the form of an IPv4 address: write it like 192.0.2.10`},
		{"far and near", func(p *v1beta1.BGPPeerSpec) { p.EBGPMultiHop, p.TTLSecurity = true, new(int32(1)) },
			"InvalidValue: ttlSecurity and ebgpMultiHop exclude each other: ttlSecurity says how far away the router may be by itself"},
		{"a password on a link without addresses", func(p *v1beta1.BGPPeerSpec) {
			p.PeerAddress, p.Interface, p.PasswordSecret = "", "eth0", &v1beta1.SecretReference{Name: "s"}
		}, `InvalidValue: a session on interface "eth0" cannot have a password: the kernel takes none for link-local addresses; leave out passwordSecret, or set peerAddress`},
		{"a VRF of a link without addresses", func(p *v1beta1.BGPPeerSpec) { p.PeerAddress, p.Interface, p.VRF = "", "eth0", "red" },
			`InvalidValue: a session on interface "eth0" is between the two ends of that link: leave out sourceAddress, vrf and ebgpMultiHop, or set peerAddress`},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, problems := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{bgpPeer("r", 1, c.change)}})
			var want []string
			if c.problem != "" {
				want = []string{"BGPPeer r: " + c.problem}
			}
			if diff := cmp.Diff(want, sentences(problems)); diff != "" {
				t.Error(diff)
			}
			if taken := len(config.Peers) == 1; taken != (c.problem == "") {
				t.Errorf("taken: %t", taken)
			}
		})
	}
}

func TestTheElderOfTwoPeersOfOneRouterIsKept(t *testing.T) {
	same := func(*v1beta1.BGPPeerSpec) {}
	onRed := func(p *v1beta1.BGPPeerSpec) { p.VRF = "red" }
	config, problems := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{bgpPeer("younger", 2, same), bgpPeer("elder", 1, same), bgpPeer("vrf", 3, onRed)}})
	if len(config.Peers) != 2 || config.Peers[0].Name != "elder" || config.Peers[1].Name != "vrf" {
		t.Errorf("there are %+v", config.Peers)
	}
	if diff := cmp.Diff([]string{"BGPPeer younger: Duplicate: BGPPeer elder has a session with this router already: change that one, or select other nodes with nodeSelectors"},
		sentences(problems)); diff != "" {
		t.Error(diff)
	}
}

func TestARouterIsKnownHoweverItsAddressIsWritten(t *testing.T) {
	at := func(text string) func(*v1beta1.BGPPeerSpec) {
		return func(p *v1beta1.BGPPeerSpec) { p.PeerAddress = text }
	}
	config, problems := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{bgpPeer("elder", 1, at("2001:db8::1")), bgpPeer("younger", 2, at("2001:DB8:0:0::1"))}})
	if len(config.Peers) != 1 || len(problems) != 1 || problems[0].Reason != ReasonDuplicate {
		t.Errorf("there are %+v, and %v", config.Peers, problems)
	}
}

// TestTheElderHasTheSession: where two peers of one router select a node both, the elder one has it there.
func TestTheElderHasTheSession(t *testing.T) {
	on := func(rack ...string) func(*v1beta1.BGPPeerSpec) {
		return func(p *v1beta1.BGPPeerSpec) {
			for _, r := range rack {
				p.NodeSelectors = append(p.NodeSelectors, metav1.LabelSelector{MatchLabels: map[string]string{"rack": r}})
			}
		}
	}
	config, problems := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{bgpPeer("elder", 1, on("1")), bgpPeer("younger", 2, on("1", "2"))}})
	if len(config.Peers) != 2 || len(problems) > 0 {
		t.Fatalf("there are %+v, and %v", config.Peers, problems)
	}
	for rack, want := range map[string]int{"1": 0, "2": -1} {
		if got := config.Instead(1, map[string]string{"rack": rack}); got != want {
			t.Errorf("in rack %s the peer %d has the session of the younger, want %d", rack, got, want)
		}
	}
}

func TestAPeerThatNamesNoProfileRunsWithoutBFD(t *testing.T) {
	config, problems := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{
		bgpPeer("a", 1, func(p *v1beta1.BGPPeerSpec) { p.BFDProfile = "fast" }),
		bgpPeer("b", 2, func(p *v1beta1.BGPPeerSpec) { p.BFDProfile, p.PeerAddress = "fats", "192.0.2.2" }),
	}, BFDProfiles: []v1beta1.BFDProfile{{ObjectMeta: aged("fast", 1), Spec: v1beta1.BFDProfileSpec{TransmitInterval: new(int32(50)), EchoMode: true}}}})
	if got, want := config.Peers[0].BFD, (&BFDProfile{Receive: 300 * time.Millisecond, Transmit: 50 * time.Millisecond, Multiplier: 3, MinimumTTL: 254, Echo: 50 * time.Millisecond}); *got != *want {
		t.Errorf("the profile is %+v, want %+v", got, want)
	}
	if len(config.Peers) != 2 || config.Peers[1].BFD != nil {
		t.Errorf("there are %+v", config.Peers)
	}
	if diff := cmp.Diff([]string{`BGPPeer b: UnknownBFDProfile: bfdProfile names "fats", but there is no BFDProfile of that name: ` +
		"create it or correct the name; until then the session runs without BFD"}, sentences(problems)); diff != "" {
		t.Error(diff)
	}
}

func TestBGPAdvertisements(t *testing.T) {
	names := v1beta1.Community{ObjectMeta: aged("names", 1), Spec: v1beta1.CommunitySpec{Communities: []v1beta1.CommunityAlias{{Name: "blue", Value: "64512:9"}}}}
	for _, c := range []struct {
		name        string
		spec        v1beta1.BGPAdvertisementSpec
		communities []string
		problem     string
		refused     bool
	}{
		{name: "an empty one"},
		{name: "communities of every kind", spec: v1beta1.BGPAdvertisementSpec{Communities: []string{"large:64512:1:2", "no-export", "blue", "64512:100", "64512:9"}},
			communities: []string{"64512:9", "64512:100", "65535:65281", "large:64512:1:2"}},
		{name: "a community that nobody knows", spec: v1beta1.BGPAdvertisementSpec{Communities: []string{"green", "blue"}}, communities: []string{"64512:9"},
			problem: `UnknownCommunity: communities: "green" is not a community: write two numbers up to 65535, such as 64512:100, a well-known name such as no-export, ` +
				"or a name that a Community gives; until then it is announced without"},
		{name: "a community that is too large", spec: v1beta1.BGPAdvertisementSpec{Communities: []string{"65536:1"}},
			problem: `UnknownCommunity: communities: "65536:1" is not a community: write two numbers up to 65535, such as 64512:100, a well-known name such as no-export, ` +
				"or a name that a Community gives; until then it is announced without"},
		{name: "a peer that does not exist is a hint", spec: v1beta1.BGPAdvertisementSpec{Peers: []string{"r", "x"}},
			problem: `UnknownPeer: peers names "x", but there is no BGPPeer of that name that is accepted: create it or correct the name`},
		{name: "an aggregate that is too long", spec: v1beta1.BGPAdvertisementSpec{AggregationLength: new(int32(33))},
			problem: "InvalidValue: aggregationLength is 33: set it to 1 to 32", refused: true},
		{name: "a preference that is too great", spec: v1beta1.BGPAdvertisementSpec{LocalPref: new(int64(1) << 32)},
			problem: "InvalidValue: localPref is 4294967296: set it to 0 to 4294967295", refused: true},
		{name: "a path that is too long", spec: v1beta1.BGPAdvertisementSpec{ASPathPrepend: 11}, problem: "InvalidValue: asPathPrepend is 11: set it to 0 to 10", refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, problems := Parse(Objects{Communities: []v1beta1.Community{names}, BGPPeers: []v1beta1.BGPPeer{bgpPeer("r", 1, func(*v1beta1.BGPPeerSpec) {})},
				BGPAdvertisements: []v1beta1.BGPAdvertisement{{ObjectMeta: aged("adv", 1), Spec: c.spec}}})
			var want []string
			if c.problem != "" {
				want = []string{"BGPAdvertisement adv: " + c.problem}
			}
			if diff := cmp.Diff(want, sentences(problems)); diff != "" {
				t.Error(diff)
			}
			if refused := len(config.BGP) == 0; refused != c.refused {
				t.Fatalf("refused: %t", refused)
			}
			if c.refused {
				return
			}
			var communities []string
			for _, one := range config.BGP[0].Communities {
				communities = append(communities, one.String())
			}
			if diff := cmp.Diff(c.communities, communities); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheLocalPreferenceOfTheElderCounts(t *testing.T) {
	adv := func(name string, age, pref int64, peers ...string) v1beta1.BGPAdvertisement {
		return v1beta1.BGPAdvertisement{ObjectMeta: aged(name, age), Spec: v1beta1.BGPAdvertisementSpec{LocalPref: &pref, Peers: peers}}
	}
	objects := Objects{Pools: []v1beta1.IPAddressPool{pool("p", 1, "192.0.2.0/24")}, BGPPeers: []v1beta1.BGPPeer{bgpPeer("r", 1, func(*v1beta1.BGPPeerSpec) {})},
		BGPAdvertisements: []v1beta1.BGPAdvertisement{adv("b", 2, 200), adv("a", 1, 100), adv("c", 3, 300, "none")}}
	config, problems := Parse(objects)
	if len(config.BGP) != 3 || config.BGP[0].Name != "a" {
		t.Errorf("there are %+v", config.BGP)
	}
	if diff := cmp.Diff([]string{
		"BGPAdvertisement b: LocalPrefConflict: localPref is 200, but BGPAdvertisement a announces pool p to peer r with 100, and it is the elder: " +
			"set both to one value, or let them select other pools or peers",
		`BGPAdvertisement c: UnknownPeer: peers names "none", but there is no BGPPeer of that name that is accepted: create it or correct the name`,
	}, sentences(problems)); diff != "" {
		t.Error(diff)
	}
}

func TestPrefixesOfAnAdvertisement(t *testing.T) {
	l := Lengths{IPv4: 24, IPv6: 64}
	for a, want := range map[string]string{"198.51.100.77": "198.51.100.0/24", "2001:db8::5:1": "2001:db8::/64"} {
		if got := l.Prefix(netip.MustParseAddr(a)); got.String() != want {
			t.Errorf("%s is announced by %s, want %s", a, got, want)
		}
	}
}
