package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/bfd"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// router is a gobgp that listens, and believes all that it is told.
type router struct {
	*server.BgpServer
	addr netip.Addr
	asn  uint32
	port uint16
}

const routerPort = 1790

func newRouter(t *testing.T, addr string, asn uint32) *router {
	t.Helper()
	r := &router{BgpServer: server.NewBgpServer(server.LoggerOption(&serverLog{})), addr: netip.MustParseAddr(addr), asn: asn, port: routerPort}
	go r.Serve()
	ctx := context.Background()
	if err := r.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: asn, RouterId: addr, ListenPort: routerPort, ListenAddresses: []string{addr}}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

// accept has the router take a speaker's session.
func (r *router) accept(t *testing.T, from string, asn uint32) {
	t.Helper()
	peer := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: from, PeerAsn: asn},
		Transport: &api.Transport{PassiveMode: true, LocalAddress: r.addr.String()},
		Timers:    &api.Timers{Config: &api.TimersConfig{HoldTime: 9, KeepaliveInterval: 3}},
		AfiSafis: []*api.AfiSafi{{Config: &api.AfiSafiConfig{Family: ipv4(), Enabled: true}},
			{Config: &api.AfiSafiConfig{Family: ipv6(), Enabled: true}}},
	}
	if err := r.AddPeer(context.Background(), &api.AddPeerRequest{Peer: peer}); err != nil {
		t.Fatal(err)
	}
}

// rib is what the router has: the attributes of each prefix, as a text.
func (r *router) rib(t *testing.T) map[netip.Prefix]string {
	t.Helper()
	rib := map[netip.Prefix]string{}
	for _, f := range []*api.Family{ipv4(), ipv6()} {
		err := r.ListPath(context.Background(), &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: f}, func(d *api.Destination) {
			for _, p := range d.Paths {
				rib[netip.MustParsePrefix(d.Prefix)] = describe(t, p)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return rib
}

// describe says what a path carries.
func describe(t *testing.T, p *api.Path) string {
	t.Helper()
	var said []string
	for _, packed := range p.Pattrs {
		m, err := packed.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		switch a := m.(type) {
		case *api.AsPathAttribute:
			for _, s := range a.Segments {
				said = append(said, fmt.Sprint("path ", s.Numbers))
			}
		case *api.NextHopAttribute:
			said = append(said, "via "+a.NextHop)
		case *api.MpReachNLRIAttribute:
			said = append(said, "via "+strings.Join(a.NextHops, ","))
		case *api.MultiExitDiscAttribute:
			said = append(said, fmt.Sprint("med ", a.Med))
		case *api.LocalPrefAttribute:
			said = append(said, fmt.Sprint("pref ", a.LocalPref))
		case *api.CommunitiesAttribute:
			for _, c := range a.Communities {
				said = append(said, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
			}
		case *api.LargeCommunitiesAttribute:
			for _, c := range a.Communities {
				said = append(said, fmt.Sprintf("large:%d:%d:%d", c.GlobalAdmin, c.LocalData1, c.LocalData2))
			}
		}
	}
	slices.Sort(said)
	return strings.Join(said, " ")
}

// fakeBFD says what the test wants.
type fakeBFD struct {
	mu   sync.Mutex
	want map[bfd.Peer]bfd.Config
	have map[bfd.Peer]bfd.Status
}

func (f *fakeBFD) Set(want map[bfd.Peer]bfd.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want = want
	return nil
}

func (f *fakeBFD) Have() map[bfd.Peer]bfd.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.have)
}

func (f *fakeBFD) say(state bfd.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have = map[bfd.Peer]bfd.Status{}
	since := time.Now()
	for p := range f.want {
		f.have[p] = bfd.Status{State: state, RemoteState: state, Since: since}
	}
}

// adminDown reports whether every session is to be held down.
func (f *fakeBFD) adminDown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, cfg := range f.want {
		if !cfg.AdminDown {
			return false
		}
	}
	return len(f.want) > 0
}

type bench struct {
	*Announcer
	poke reconcile.Poke
	bfd  *fakeBFD
}

func run(t *testing.T) *bench {
	t.Helper()
	b := &bench{poke: reconcile.NewPoke(), bfd: &fakeBFD{}}
	b.Announcer = New(Config{Log: slog.New(slog.DiscardHandler), BFD: b.bfd, Poke: b.poke, Changed: reconcile.NewPoke(), DrainTime: 300 * time.Millisecond,
		Password: func(secret string) (string, error) { return "", fmt.Errorf("there is no Secret %s", secret) }})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		b.Set(announce.BGPPlan{})
		await(t, "all sessions are ended", func() bool { return len(b.Have()) == 0 })
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("not within a minute: %s", what)
}

// to is a session with a router, with routes of one kind.
func (r *router) to(myASN uint32, routes map[netip.Prefix]*announce.Route) announce.BGPSession {
	return announce.BGPSession{
		Session: config.BGPSession{MyASN: myASN, PeerASN: r.asn, Internal: myASN == r.asn, Address: r.addr, Port: r.port, Source: netip.MustParseAddr("127.0.0.1"),
			RouterID: netip.MustParseAddr("192.0.2.1"), Hold: 9 * time.Second, Keepalive: 3 * time.Second, Connect: time.Second},
		DualStack: true, NextHop6: netip.MustParseAddr("2001:db8::1"), Routes: routes,
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestEveryPeerGetsWhatIsMeantForIt(t *testing.T) {
	outside, inside := newRouter(t, "127.0.0.11", 65001), newRouter(t, "127.0.0.12", 64512)
	outside.accept(t, "127.0.0.1", 64512)
	inside.accept(t, "127.0.0.1", 64512)
	b := run(t)
	rich := &announce.Route{LocalPref: new(uint32(300)), MED: new(uint32(50)), Prepend: 2,
		Communities: []config.BGPCommunity{{Values: [3]uint32{64512, 100}}, {Large: true, Values: [3]uint32{64512, 1, 2}}}}
	plan := announce.BGPPlan{
		"outside": outside.to(64512, map[netip.Prefix]*announce.Route{prefix("198.51.100.1/32"): rich, prefix("2001:db8:1::1/128"): {}}),
		"inside":  inside.to(64512, map[netip.Prefix]*announce.Route{prefix("198.51.100.1/32"): rich, prefix("198.51.100.64/26"): {}}),
	}
	b.Set(plan)
	is := func(r *router, want map[netip.Prefix]string) func() bool {
		return func() bool { return maps.Equal(r.rib(t), want) }
	}
	await(t, "the outside router has its routes", is(outside, map[netip.Prefix]string{
		prefix("198.51.100.1/32"):   "64512:100 large:64512:1:2 med 50 path [64512 64512 64512] via 127.0.0.1",
		prefix("2001:db8:1::1/128"): "path [64512] via 2001:db8::1",
	}))
	await(t, "the inside router has its routes", is(inside, map[netip.Prefix]string{
		prefix("198.51.100.1/32"):  "64512:100 large:64512:1:2 med 50 pref 300 via 127.0.0.1",
		prefix("198.51.100.64/26"): "pref 100 via 127.0.0.1",
	}))
	await(t, "the state counts them", func() bool {
		have := b.Have()
		return have["outside"].Advertised == 2 && have["inside"].Advertised == 2 && have["outside"].PeerASN == 65001
	})
	if m := b.Have()["outside"].Messages(); m["sent"]["update"] < 2 || m["sent"]["open"] != 1 || m["received"]["open"] != 1 {
		t.Errorf("counted %v", m)
	}

	changed := plan["outside"]
	changed.Routes = map[netip.Prefix]*announce.Route{prefix("198.51.100.1/32"): {}}
	b.Set(announce.BGPPlan{"outside": changed, "inside": plan["inside"]})
	await(t, "the outside router has the one that is left, and nothing with it", is(outside, map[netip.Prefix]string{
		prefix("198.51.100.1/32"): "path [64512] via 127.0.0.1"}))
	b.Set(announce.BGPPlan{"inside": plan["inside"]})
	await(t, "the outside router has nothing", is(outside, map[netip.Prefix]string{}))
	if have := b.Have(); have["inside"].Flaps != 0 || have["inside"].State != Established {
		t.Errorf("the inside session is %+v after the other was edited", have["inside"])
	}
}

func TestADrainedSessionIsClosedInOrder(t *testing.T) {
	r := newRouter(t, "127.0.0.13", 65001)
	r.accept(t, "127.0.0.1", 64512)
	b := run(t)
	address := prefix("198.51.100.1/32")
	session := r.to(64512, map[netip.Prefix]*announce.Route{address: {}})
	session.BFD = &config.BFDProfile{Transmit: 50 * time.Millisecond, Receive: 50 * time.Millisecond, Multiplier: 3}
	b.Set(announce.BGPPlan{"r": session})
	await(t, "the router has the route", func() bool { return len(r.rib(t)) == 1 })
	b.bfd.say(bfd.Up)
	b.poke.Ring()
	await(t, "BFD is Up", func() bool { s := b.Have()["r"].BFD; return s != nil && s.State == bfd.Up })

	session.Routes, session.Close = map[netip.Prefix]*announce.Route{address: {Drain: true}}, true
	plan := announce.BGPPlan{"r": session}
	b.Set(plan)
	await(t, "the router is asked to prefer others", func() bool { return strings.Contains(r.rib(t)[address], "65535:0") })
	if b.Quiet(plan) {
		t.Error("it is quiet while routes are being drained")
	}
	await(t, "the route is withdrawn", func() bool { return len(r.rib(t)) == 0 })
	await(t, "the session is closed", func() bool { return b.Have()["r"].Closed && b.Quiet(plan) })
	await(t, "BFD is told to go down with it", func() bool { return b.bfd.adminDown() })
	b.bfd.say(bfd.Down) // as the router sees it
	b.poke.Ring()

	session.Routes, session.Close = map[netip.Prefix]*announce.Route{address: {}}, false
	b.Set(announce.BGPPlan{"r": session})
	await(t, "BFD is told to come up again", func() bool { return !b.bfd.adminDown() })
	await(t, "the session is opened again", func() bool { return len(r.rib(t)) == 1 && !strings.Contains(r.rib(t)[address], "65535:0") })
}

// TestADrainThatIsTakenBack: wherever in the closing of the session it happens, the session is soon there again.
func TestADrainThatIsTakenBack(t *testing.T) {
	r := newRouter(t, "127.0.0.20", 65001)
	r.accept(t, "127.0.0.1", 64512)
	b := run(t)
	session := r.to(64512, nil)
	b.Set(announce.BGPPlan{"r": session})
	for _, after := range []time.Duration{farewell / 2, farewell * 13 / 10} {
		await(t, "the session is there", func() bool { return b.Have()["r"].State == Established })
		session.Close = true
		b.Set(announce.BGPPlan{"r": session})
		time.Sleep(after)
		session.Close = false
		b.Set(announce.BGPPlan{"r": session})
		back := time.Now()
		await(t, "the session is there again", func() bool { return b.Have()["r"].State == Established && time.Since(back) > farewell })
		if took := time.Since(back); took > 30*time.Second {
			t.Errorf("taken back after %s, it took %s", after, took)
		}
	}
}

func TestBFDTakesTheSessionDownAndHoldsIt(t *testing.T) {
	r := newRouter(t, "127.0.0.14", 65001)
	r.accept(t, "127.0.0.1", 64512)
	b := run(t)
	session := r.to(64512, map[netip.Prefix]*announce.Route{prefix("198.51.100.1/32"): {}})
	session.BFD = &config.BFDProfile{Transmit: 50 * time.Millisecond, Receive: 50 * time.Millisecond, Multiplier: 3}
	b.Set(announce.BGPPlan{"r": session})
	await(t, "a router that does not speak BFD has its routes", func() bool { return len(r.rib(t)) == 1 })
	say := func(s bfd.State) {
		b.bfd.say(s)
		b.poke.Ring()
	}
	say(bfd.Up)
	await(t, "BFD is Up", func() bool { s := b.Have()["r"].BFD; return s != nil && s.State == bfd.Up })
	say(bfd.Down)
	await(t, "the session is down", func() bool { return b.Have()["r"].State == "Idle" && len(r.rib(t)) == 0 })
	if p := b.Have()["r"].Problem; !strings.HasPrefix(p, "BFD does not see the router any more") {
		t.Errorf("it says %q", p)
	}
	time.Sleep(3 * time.Second)
	if s := b.Have()["r"].State; s != "Idle" {
		t.Errorf("it is %s while BFD is down", s)
	}
	say(bfd.Up)
	await(t, "the router has the routes again", func() bool { return len(r.rib(t)) == 1 })
	begun := time.Now()
	say(bfd.Down)
	await(t, "the session is down again", func() bool { return len(r.rib(t)) == 0 })
	await(t, "a router that begins with BFD only when the session is there has its routes", func() bool { return len(r.rib(t)) == 1 })
	if took := time.Since(begun); took < withoutBFD {
		t.Errorf("it was tried without BFD after %s", took)
	}
}

func TestWhatCannotBeSaysWhy(t *testing.T) {
	r := newRouter(t, "127.0.0.15", 65001)
	r.accept(t, "127.0.0.1", 64512)
	b := run(t)
	wrong, secret := r.to(64512, nil), r.to(64512, nil)
	wrong.Session.PeerASN, wrong.Session.MyASN, wrong.Session.Internal = 64512, 64512, true
	secret.PasswordSecret = "none"
	problem := func(s announce.BGPSession, want string) {
		t.Helper()
		b.Set(announce.BGPPlan{"r": s})
		await(t, want, func() bool { return strings.Contains(b.Have()["r"].Problem, want) })
		if have := b.Have()["r"]; have.State == Established {
			t.Errorf("it is %+v", have)
		}
	}
	problem(wrong, "this speaker refused what the router sent: as number mismatch expected 64512, received 65001")
	problem(secret, "there is no Secret none")
	b.Set(announce.BGPPlan{})
	await(t, "the session is gone", func() bool { return len(b.Have()) == 0 })
}

// TestASessionOutlivesItsSecret: a Secret that is deleted, or cannot be used, takes nothing away that stands.
func TestASessionOutlivesItsSecret(t *testing.T) {
	r := newRouter(t, "127.0.0.24", 65001)
	r.accept(t, "127.0.0.1", 64512)
	b := run(t)
	session := r.to(64512, nil)
	b.Set(announce.BGPPlan{"r": session})
	await(t, "the session is up", func() bool { return b.Have()["r"].State == Established })
	since := b.Have()["r"].Since
	session.PasswordSecret = "none"
	b.Set(announce.BGPPlan{"r": session})
	await(t, "it says what is wrong", func() bool { return strings.Contains(b.Have()["r"].Problem, "there is no Secret none") })
	time.Sleep(2 * retry)
	if have := b.Have()["r"]; have.State != Established || !have.Since.Equal(since) {
		t.Errorf("it is %+v", have)
	}
}

func TestAServerIsUsedAgainAfterASessionThatFailed(t *testing.T) {
	r := newRouter(t, "127.0.0.20", 65001)
	r.accept(t, "127.0.0.1", 64512)
	b := run(t)
	for range 2 {
		wrong := r.to(64512, nil)
		wrong.Session.PeerASN = 65009
		b.Set(announce.BGPPlan{"wrong": wrong})
		await(t, "the wrong session says why", func() bool { return strings.Contains(b.Have()["wrong"].Problem, "as number mismatch") })
		b.Set(announce.BGPPlan{})
		await(t, "it is gone", func() bool { return len(b.Have()) == 0 })
		b.Set(announce.BGPPlan{"right": r.to(64512, nil)})
		await(t, "the right one is up", func() bool { return b.Have()["right"].State == Established })
		b.Set(announce.BGPPlan{})
		await(t, "it is gone", func() bool { return len(b.Have()) == 0 })
	}
}

// TestEditsEndWhereAFreshStartDoes edits routes at random: the router ends with exactly the set that is wanted.
func TestEditsEndWhereAFreshStartDoes(t *testing.T) {
	r, other := newRouter(t, "127.0.0.16", 65001), newRouter(t, "127.0.0.17", 65002)
	r.accept(t, "127.0.0.1", 64512)
	other.accept(t, "127.0.0.1", 64512)
	b := run(t)
	random := rand.New(rand.NewPCG(1, 2))
	still := other.to(64512, map[netip.Prefix]*announce.Route{prefix("203.0.113.1/32"): {}})
	routes := map[netip.Prefix]*announce.Route{}
	b.Set(announce.BGPPlan{"r": r.to(64512, maps.Clone(routes)), "other": still})
	await(t, "both sessions are up", func() bool {
		return b.Have()["r"].State == Established && b.Have()["other"].State == Established
	})
	for range 1000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(random.IntN(64))}), 32)
		if random.IntN(3) == 0 {
			delete(routes, p)
		} else {
			routes[p] = &announce.Route{MED: new(uint32(random.IntN(3))), Prepend: random.IntN(2)}
		}
		b.Set(announce.BGPPlan{"r": r.to(64512, maps.Clone(routes)), "other": still})
		time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
	}
	want := map[netip.Prefix]string{}
	for p, route := range routes {
		path := slices.Repeat([]uint32{64512}, route.Prepend+1)
		want[p] = fmt.Sprintf("med %d path %v via 127.0.0.1", *route.MED, path)
	}
	await(t, "the router has exactly what is wanted", func() bool { return maps.Equal(r.rib(t), want) })
	for name, s := range b.Have() {
		if s.Flaps > 0 || s.State != Established {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
