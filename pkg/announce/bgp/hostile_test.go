package bgp

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// rogue is a peer that says what a test has it say, on every connection anew.
type rogue struct {
	t        *testing.T
	addr     netip.Addr
	listener net.Listener
	done     chan struct{}
	instead  atomic.Pointer[router]
}

const (
	rogueASN = 65001
	ourASN   = 64512
)

func newRogue(t *testing.T, addr string, talk func(c *rogueConn)) *rogue {
	t.Helper()
	g := &rogue{t: t, addr: netip.MustParseAddr(addr), done: make(chan struct{})}
	var err error
	if g.listener, err = net.Listen("tcp", netip.AddrPortFrom(g.addr, routerPort).String()); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(g.done)
		for {
			conn, err := g.listener.Accept()
			if err != nil {
				return
			}
			if r := g.instead.Load(); r != nil {
				go r.answer(conn)
				continue
			}
			talk(&rogueConn{conn})
			_ = conn.Close()
		}
	}()
	t.Cleanup(g.end)
	return g
}

func (g *rogue) end() {
	_ = g.listener.Close()
	<-g.done
}

// answer has the router answer a connection to somebody else.
func (r *router) answer(conn net.Conn) {
	to, err := net.Dial("tcp", netip.AddrPortFrom(r.addr, r.port).String())
	if err == nil {
		go func() {
			_, _ = io.Copy(to, conn)
			_ = to.Close()
		}()
		_, _ = io.Copy(conn, to)
	}
	_ = conn.Close()
}

func (g *rogue) session(routes ...string) announce.BGPSession {
	s := announce.BGPSession{
		Session: config.BGPSession{MyASN: ourASN, PeerASN: rogueASN, Address: g.addr, Port: routerPort, Source: netip.MustParseAddr("127.0.0.1"),
			RouterID: netip.MustParseAddr("192.0.2.1"), Hold: 3 * time.Second, Keepalive: time.Second, Connect: time.Second},
		DualStack: true, NextHop6: netip.MustParseAddr("2001:db8::1"), Routes: map[netip.Prefix]*announce.Route{},
	}
	for _, r := range routes {
		s.Routes[prefix(r)] = &announce.Route{}
	}
	return s
}

// rogueConn is one connection to a speaker. Errors end the talk, and nothing else: the speaker may hang up at any time.
type rogueConn struct{ net.Conn }

func (c *rogueConn) say(messages ...*bgp.BGPMessage) {
	for _, m := range messages {
		raw, err := m.Serialize()
		if err != nil {
			panic(err)
		}
		_, _ = c.Write(raw)
	}
}

// drain reads until the speaker hangs up, or for a time.
func (c *rogueConn) drain(atMost time.Duration) {
	_ = c.SetReadDeadline(time.Now().Add(atMost))
	_, _ = io.Copy(io.Discard, c)
}

// hello opens the session in order.
func (c *rogueConn) hello(hold uint16, capabilities ...bgp.ParameterCapabilityInterface) {
	c.say(open(rogueASN, hold, capabilities...), bgp.NewBGPKeepAliveMessage())
}

func open(asn uint32, hold uint16, capabilities ...bgp.ParameterCapabilityInterface) *bgp.BGPMessage {
	all := append([]bgp.ParameterCapabilityInterface{bgp.NewCapFourOctetASNumber(asn)}, capabilities...)
	return bgp.NewBGPOpenMessage(uint16(min(asn, 23456)), hold, "192.0.2.99", []bgp.OptionParameterInterface{bgp.NewOptionParameterCapability(all)})
}

func both() []bgp.ParameterCapabilityInterface {
	return []bgp.ParameterCapabilityInterface{bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC), bgp.NewCapMultiProtocol(bgp.RF_IPv6_UC)}
}

// foreignRoutes are n routes, each message full.
func foreignRoutes(n int) []*bgp.BGPMessage {
	var out []*bgp.BGPMessage
	attributes := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(0),
		bgp.NewPathAttributeAsPath([]bgp.AsPathParamInterface{bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, []uint32{rogueASN})}),
		bgp.NewPathAttributeNextHop("127.0.0.9")}
	for from := 0; from < n; from += 500 {
		var nlri []*bgp.IPAddrPrefix
		for i := from; i < min(n, from+500); i++ {
			nlri = append(nlri, bgp.NewIPAddrPrefix(32, netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}).String()))
		}
		out = append(out, bgp.NewBGPUpdateMessage(nil, attributes, nlri))
	}
	return out
}

// misbehaviour is what a peer may do.
type misbehaviour struct {
	name string
	talk func(c *rogueConn)
	want string // a part of what the status says then
}

func misbehaviours() []misbehaviour {
	return []misbehaviour{
		{name: "closes the connection at once", talk: func(*rogueConn) {}, want: "the connection broke"},
		{name: "is silent from the start", talk: func(c *rogueConn) { c.drain(15 * time.Second) }, want: "the router does not answer"},
		{name: "speaks HTTP", talk: func(c *rogueConn) {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
			c.drain(time.Second)
		}, want: "this speaker refused what the router sent"},
		{name: "has another AS number", talk: func(c *rogueConn) {
			c.say(open(65009, 9, both()...))
			c.drain(time.Second)
		}, want: "this speaker refused what the router sent: as number mismatch expected 65001, received 65009"},
		{name: "asks for a hold time of one second", talk: func(c *rogueConn) {
			c.hello(1, both()...)
			c.drain(time.Second)
		}, want: "this speaker refused what the router sent"},
		{name: "asks for hold time 0", talk: func(c *rogueConn) {
			c.hello(0, both()...)
			c.drain(5 * time.Second)
		}, want: "the router asks for hold time 0"},
		{name: "has another version", talk: func(c *rogueConn) {
			_, _ = c.Write(message(bgp.BGP_MSG_OPEN, 3, 0xfd, 0xe9, 0, 9, 192, 0, 2, 99, 0))
			c.drain(time.Second)
		}, want: "this speaker refused what the router sent"},
		{name: "has optional parameters that are longer than the message", talk: func(c *rogueConn) {
			_, _ = c.Write(message(bgp.BGP_MSG_OPEN, 4, 0xfd, 0xe9, 0, 9, 192, 0, 2, 99, 200, 2, 100, 1))
			c.drain(time.Second)
		}, want: "this speaker refused what the router sent"},
		{name: "says a message is shorter than its header", talk: func(c *rogueConn) {
			m := message(bgp.BGP_MSG_OPEN)
			m[17] = 5
			_, _ = c.Write(m)
			c.drain(time.Second)
		}, want: "this speaker refused what the router sent"},
		{name: "sends an UPDATE before it has opened", talk: func(c *rogueConn) {
			c.say(foreignRoutes(1)...)
			c.drain(time.Second)
		}, want: "the router refused to open it, or said something else"},
		{name: "falls silent once the session is up", talk: func(c *rogueConn) {
			c.hello(3, both()...)
			c.drain(10 * time.Second)
		}, want: "the router was silent for the hold time"},
	}
}

// TestPeersThatMisbehaveEndInAClearState: each session says what is wrong, another router in the peer's place has its routes in the end,
// and a session beside them all never notices.
func TestPeersThatMisbehaveEndInAClearState(t *testing.T) {
	good := newRouter(t, "127.0.1.100", rogueASN)
	good.accept(t, "127.0.0.1", ourASN)
	var instead []*router // all routers start before the speaker works: see servers
	for i := range misbehaviours() {
		r := newRouter(t, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 101)}).String(), rogueASN)
		r.accept(t, "127.0.0.1", ourASN)
		instead = append(instead, r)
	}
	b, plan, rogues := run(t), announce.BGPPlan{"good": good.to(ourASN, map[netip.Prefix]*announce.Route{prefix("198.51.100.1/32"): {}})}, map[string]*rogue{}
	for i, c := range misbehaviours() {
		rogues[c.name] = newRogue(t, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}).String(), c.talk)
		plan[c.name] = rogues[c.name].session("198.51.100.1/32")
	}
	b.Set(plan)
	for _, c := range misbehaviours() {
		last := ""
		for end := time.Now().Add(time.Minute); !strings.Contains(last, c.want) && time.Now().Before(end); time.Sleep(time.Millisecond) {
			last = b.Have()[c.name].Problem
		}
		if !strings.Contains(last, c.want) {
			t.Errorf("of a peer that %s it says %q, want %q", c.name, last, c.want)
		}
	}
	for i, c := range misbehaviours() {
		r := instead[i]
		rogues[c.name].instead.Store(r)
		await(t, "a router has the route in the place of one that "+c.name, func() bool { return len(r.rib(t)) == 1 })
		await(t, "nothing is wrong any more", func() bool { s := b.Have()[c.name]; return s.State == Established && s.Problem == "" })
	}
	if s := b.Have()["good"]; s.State != Established || s.Flaps > 0 {
		t.Errorf("the session beside them is %+v", s)
	}
}

// TestARouterThatTakesOneFamily is told the routes of that family, and the status says what is left out.
func TestARouterThatTakesOneFamily(t *testing.T) {
	for i, c := range []struct {
		name         string
		capabilities []bgp.ParameterCapabilityInterface
		advertised   int
		want         string
	}{
		{"none, as of old", nil, 1, "takes no IPv6 routes over this session, and 2 of them are not announced"},
		{"IPv4", both()[:1], 1, "takes no IPv6 routes over this session, and 2 of them are not announced"},
		{"IPv6", both()[1:], 2, "takes no IPv4 routes over this session, and 1 of them are not announced"},
		{"both", both(), 3, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRogue(t, netip.AddrFrom4([4]byte{127, 0, 2, byte(i + 1)}).String(), func(conn *rogueConn) {
				conn.hello(9, c.capabilities...)
				for err := error(nil); err == nil; _, err = conn.Write(message(bgp.BGP_MSG_KEEPALIVE)) {
					conn.drain(time.Second)
				}
			})
			b := run(t)
			b.Set(announce.BGPPlan{"r": g.session("198.51.100.1/32", "2001:db8:1::1/128", "2001:db8:1::2/128")})
			await(t, "the session is up", func() bool { return b.Have()["r"].State == Established })
			if have := b.Have()["r"]; have.Advertised != c.advertised || !strings.Contains(have.Problem, c.want) || c.want == "" && have.Problem != "" {
				t.Errorf("%d routes advertised, and it says %q", have.Advertised, have.Problem)
			}
		})
	}
}

// spoil changes some bytes of a message.
func spoil(t *testing.T, random *rand.Rand, m *bgp.BGPMessage) []byte {
	b, err := m.Serialize()
	if err != nil {
		t.Error(err)
	}
	for range 1 + random.IntN(4) {
		b[random.IntN(len(b))] = byte(random.IntN(256))
	}
	return b
}

// TestNoMessageStopsTheParser: what gobgp makes of a peer's bytes happens in its own goroutines, where a panic would end the speaker.
func TestNoMessageStopsTheParser(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 13))
	understood := 0
	for range 100_000 {
		spoilt := spoil(t, random, []*bgp.BGPMessage{
			open(rogueASN, 9, both()...), foreignRoutes(1)[0], bgp.NewBGPKeepAliveMessage(), bgp.NewBGPRouteRefreshMessage(bgp.AFI_IP, 0, bgp.SAFI_UNICAST),
			bgp.NewBGPNotificationMessage(bgp.BGP_ERROR_CEASE, bgp.BGP_ERROR_SUB_PEER_DECONFIGURED, []byte("as a text")),
		}[random.IntN(5)])
		var heard bytes.Buffer
		r := &relay{counts: &counters{}}
		inbound{relay: r, to: &heard, opened: true, up: random.IntN(2) == 0}.run(bytes.NewReader(spoilt))
		if heard.Len() == 0 {
			continue
		}
		if _, err := bgp.ParseBGPMessage(heard.Bytes()); err == nil {
			understood++
		}
	}
	if understood < 1000 {
		t.Errorf("only %d messages were understood", understood)
	}
}

// malformedUpdates have attributes of the kinds up to 40 with flags and lengths that they cannot have, before and after those that belong there.
func malformedUpdates() (all [][]byte) {
	mandatory := [][]byte{{0x40, 1, 1, 0}, {0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9}, {0x40, 3, 4, 127, 0, 0, 9}}
	for kind := range 41 {
		others := slices.Concat(slices.DeleteFunc(slices.Clone(mandatory), func(a []byte) bool { return int(a[1]) == kind })...)
		for flags := 0; flags < 0x100; flags += 0x20 {
			for length := range 12 {
				for _, fill := range []byte{0, 1, 2, 0xff} {
					spoilt := append([]byte{byte(flags), byte(kind), byte(length)}, slices.Repeat([]byte{fill}, length)...)
					for _, attributes := range [][]byte{slices.Concat(spoilt, others), slices.Concat(others, spoilt)} {
						body := append([]byte{0, 0, 0, byte(len(attributes))}, attributes...)
						all = append(all, message(bgp.BGP_MSG_UPDATE, append(body, 32, 20, 0, 0, 1)...))
					}
				}
			}
		}
	}
	return all
}

// TestNothingOfARoutersRoutesIsRead has a peer send what would end the session or the speaker if it was, and a full table, and nothing but
// routes for longer than the hold time, which says that it is alive (RFC 4271 section 4.4).
func TestNothingOfARoutersRoutesIsRead(t *testing.T) {
	const hold = 3
	fatal := message(bgp.BGP_MSG_UPDATE, slices.Concat([]byte{0, 0, 0, 29}, // CVE-2026-41643: an AS4_PATH, and the AS_PATH comes last
		[]byte{0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe9}, []byte{0x40, 1, 1, 0}, []byte{0x40, 3, 4, 127, 0, 0, 9}, []byte{0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9},
		[]byte{32, 20, 0, 0, 1})...)
	lies := message(bgp.BGP_MSG_UPDATE, 0xff, 0xff, 0, 0)
	sent := malformedUpdates()
	g := newRogue(t, "127.0.3.2", func(c *rogueConn) {
		c.hello(hold, both()...)
		c.say(foreignRoutes(100_000)...)
		for _, m := range slices.Concat(sent, [][]byte{fatal, lies}) {
			_, _ = c.Write(m)
		}
		for range 2 * hold * 4 {
			c.drain(time.Second / 4)
			c.say(foreignRoutes(1)...)
		}
		c.say(bgp.NewBGPRouteRefreshMessage(bgp.AFI_IP, 0, bgp.SAFI_UNICAST)) // read when all before it is
		for err := error(nil); err == nil; _, err = c.Write(message(bgp.BGP_MSG_KEEPALIVE)) {
			c.drain(time.Second)
		}
	})
	b := run(t)
	b.Set(announce.BGPPlan{"r": g.session("198.51.100.1/32")})
	await(t, "every message is read", func() bool { return b.Have()["r"].Messages()["received"]["route-refresh"] > 0 })
	have := b.Have()["r"]
	if have.State != Established || have.Flaps > 0 || have.Problem != "" {
		t.Errorf("the session is %+v", have)
	}
	if n := have.Messages()["received"]["update"]; n < uint64(len(sent)) {
		t.Errorf("%d UPDATEs were received, want at least %d", n, len(sent))
	}
}

// TestSpoiltMessages has a peer send messages that are spoilt at random, before and after it has opened. Whatever comes of it, the
// speaker goes on, and has its session when the peer behaves.
func TestSpoiltMessages(t *testing.T) {
	r := newRouter(t, "127.0.3.100", rogueASN)
	r.accept(t, "127.0.0.1", ourASN)
	random := rand.New(rand.NewPCG(7, 11))
	var sent atomic.Int64
	g := newRogue(t, "127.0.3.1", func(c *rogueConn) {
		if random.IntN(4) == 0 {
			_, _ = c.Write(spoil(t, random, open(rogueASN, 9, both()...)))
			c.drain(100 * time.Millisecond)
			return
		}
		c.hello(9, both()...)
		for range 100 {
			sent.Add(1)
			if _, err := c.Write(spoil(t, random, foreignRoutes(3)[0])); err != nil {
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := io.Copy(io.Discard, c); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
		}
	})
	b := run(t)
	b.Set(announce.BGPPlan{"r": g.session("198.51.100.1/32")})
	time.Sleep(10 * time.Second)
	g.instead.Store(r)
	if n := sent.Load(); n < 5 { // most cost a session, and the next one takes a second
		t.Errorf("only %d spoilt messages were sent", n)
	}
	await(t, "a router in its place has the route", func() bool { return len(r.rib(t)) == 1 })
}
