package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
	"github.com/bellwether-lb/bellwether/pkg/heartbeat"
	"github.com/bellwether-lb/bellwether/pkg/membership"
)

// speakers are all speakers of a cluster, in a synctest bubble.
type speakers struct {
	t    *testing.T
	wire *segment
	view announce.View // with every node alive

	mu     sync.Mutex
	nodes  []*node
	begun  bool               // the nodes act as they find
	owners map[string][]int16 // by what is found: the owner of each address, or -1

	// Of each address: how many living nodes take themselves for its owner, since when, and for how long it had none, or more than one.
	claims     []int
	since      []time.Time
	none, over []time.Duration
}

// node is one speaker.
type node struct {
	port     *port
	gossip   *gossip
	heard    int // on the segment
	gossiped int // whom gossip knows, itself among them
	finds    finds
	acts     finds // what it found when it decided last
	passes   bool  // it is about to decide
	off      bool
}

// finds is what a node knows of the others that they are not all well: numbers of nodes, sorted.
type finds struct{ silent, absent []int }

func name(i int) string { return fmt.Sprint("node-", i) }

// number is the node of a name, -1 of none.
func number(name string) int16 {
	n, err := strconv.ParseInt(strings.TrimPrefix(name, "node-"), 10, 16)
	if err != nil {
		return -1
	}
	return int16(n)
}

func start(t *testing.T, n, services int, seed uint64) *speakers {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	s := &speakers{t: t, wire: &segment{rng: rand.New(rand.NewPCG(seed, 1)), gossips: map[string]*gossip{}}, owners: map[string][]int16{},
		claims: make([]int, services), since: make([]time.Time, services), none: make([]time.Duration, services), over: make([]time.Duration, services)}
	s.view = viewOf(n, services)
	peers := map[string]netip.Addr{}
	for i := range n {
		peers[name(i)] = s.linkOf(i).Prefixes[0].Addr()
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i := range n {
		s.nodes = append(s.nodes, s.newNode(i))
		heart, members := s.speaker(i)
		members.Peers(peers)
		wait := time.Duration(rng.IntN(1000)) * time.Millisecond
		for _, run := range []func(context.Context) error{heart.Run, members.Run} {
			running.Go(func() {
				time.Sleep(wait)
				if err := run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
		time.Sleep(time.Minute) // memberlist does not wait for its own
	})
	return s
}

func (s *speakers) linkOf(i int) cluster.Link { return s.view.Alive.Alive[name(i)].Links[0] }

func (s *speakers) newNode(i int) *node {
	link := s.linkOf(i)
	port := s.wire.port(i, link.MAC)
	return &node{port: port, gossip: newGossip(port, link.Prefixes[0].Addr())}
}

// speaker makes the heartbeat and the membership of a node, and joins them as the speaker does.
func (s *speakers) speaker(i int) (*heartbeat.Heartbeat, *membership.Membership) {
	link, own := s.linkOf(i), s.nodes[i]
	var members *membership.Membership
	heart := heartbeat.New(heartbeat.Config{Node: name(i), Key: []byte("the key of gossip"),
		Open:    func(cluster.Link) (heartbeat.Port, error) { return own.port, nil },
		Traffic: func(int) uint64 { return own.port.got.Load() },
		Publish: func(f heartbeat.Findings) {
			members.Heard(f.States())
			s.found(i, func(n *node) { n.hears(i, f) })
		}})
	members = membership.New(membership.Config{Node: name(i), Bind: link.Prefixes[0].Addr(), Port: gossipPort, Transport: own.gossip,
		Log: slog.New(slog.DiscardHandler), Spread: heart.State,
		Publish: func(m cluster.Members) { s.found(i, func(n *node) { n.meets(len(s.nodes), m) }) }})
	heart.Links([]cluster.Link{link})
	members.State(cluster.Member{Ready: true, Links: []cluster.Link{link}})
	return heart, members
}

// viewOf is a cluster where all is well.
func viewOf(n, services int) announce.View {
	v := announce.View{Self: name(0), Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{}}}
	for i := range n {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 8)
		mac := cluster.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		v.Nodes = append(v.Nodes, cluster.Node{Name: name(i)})
		v.Alive.Alive[name(i)] = cluster.Member{Ready: true, Links: []cluster.Link{{Name: "eth0", Index: 2, MAC: mac, Up: true, Prefixes: []netip.Prefix{prefix}}}}
	}
	v.Config, _ = config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "pool"},
		Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"10.2.0.0/16"}, Advertise: []v1beta1.Protocol{v1beta1.ProtocolL2}}}}})
	for i := range services {
		v.Services = append(v.Services, cluster.Service{Key: cluster.Key{Namespace: "default", Name: fmt.Sprint("service-", i)}, Held: []netip.Addr{address(i)}, HeldFrom: []string{"pool"}})
	}
	return v
}

func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24|2<<16|uint32(i))))
}

// ownersFor decides with the links of some nodes silent, and others absent. All who find the same decide the same: that is a law with a test
// of its own.
func (s *speakers) ownersFor(found finds) []int16 {
	key := fmt.Sprint(found)
	if known, is := s.owners[key]; is {
		return known
	}
	v := s.view
	v.Alive.Alive = maps.Clone(s.view.Alive.Alive)
	for _, i := range found.silent {
		m := v.Alive.Alive[name(i)]
		m.Links = slices.Clone(m.Links)
		m.Links[0].Silent = true
		v.Alive.Alive[name(i)] = m
	}
	for _, i := range found.absent {
		delete(v.Alive.Alive, name(i))
	}
	plan := announce.Decide(v)
	owners := make([]int16, len(v.Services))
	for a := range v.Services {
		owners[a] = number(plan.Why[v.Services[a].Key][0].Owner)
	}
	s.owners[key] = owners
	return owners
}

// passTakes is how long after a change a node acts as it finds: what comes meanwhile counts too.
const passTakes = 10 * time.Millisecond

// hears takes in what the segment says.
func (n *node) hears(self int, f heartbeat.Findings) {
	n.heard, n.finds.silent = len(f.Heard), nil
	for _, p := range f.Silent {
		n.finds.silent = append(n.finds.silent, int(number(p.Node)))
	}
	if len(f.Cut) > 0 {
		n.finds.silent = append(n.finds.silent, self)
	}
	slices.Sort(n.finds.silent)
}

// meets takes in who is a member.
func (n *node) meets(of int, m cluster.Members) {
	n.gossiped, n.finds.absent = 0, nil
	for i := range of {
		member, alive := m.Alive[name(i)]
		if !alive || !member.Ready {
			n.finds.absent = append(n.finds.absent, i)
		} else if !member.OnSegmentOnly {
			n.gossiped++
		}
	}
}

// found has a node take something in, and pass.
func (s *speakers) found(i int, take func(*node)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.nodes[i]
	if own.off {
		return
	}
	take(own)
	if s.begun && !own.passes {
		own.passes = true
		time.AfterFunc(passTakes, func() { s.pass(i) })
	}
}

// begin has the nodes act as they find, from a state where all is well.
func (s *speakers) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
	for a, owner := range s.ownersFor(finds{}) {
		s.claims[a], s.since[a] = 1, time.Now()
		if owner < 0 {
			s.t.Fatalf("nobody owns address %d", a)
		}
	}
}

// pass has a node decide.
func (s *speakers) pass(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.nodes[i]
	own.passes = false
	if own.off || slices.Equal(own.finds.silent, own.acts.silent) && slices.Equal(own.finds.absent, own.acts.absent) {
		return
	}
	was, is := s.ownersFor(own.acts), s.ownersFor(own.finds)
	own.acts = own.finds
	for a := range is {
		switch self := int16(i); {
		case was[a] != self && is[a] == self:
			s.claim(a, 1)
		case was[a] == self && is[a] != self:
			s.claim(a, -1)
		}
	}
}

// claim counts a node that takes itself for an address's owner, or that does no more. s.mu is held.
func (s *speakers) claim(a, by int) {
	now := time.Now()
	switch lasted := now.Sub(s.since[a]); {
	case s.claims[a] == 0:
		s.none[a] += lasted
	case s.claims[a] > 1:
		s.over[a] += lasted * time.Duration(s.claims[a]-1)
	}
	s.claims[a], s.since[a] = s.claims[a]+by, now
}

// powerOff takes a node's power.
func (s *speakers) powerOff(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.nodes[i]
	own.port.off.Store(true)
	own.off = true
	for a, owner := range s.ownersFor(own.acts) {
		if owner == int16(i) {
			s.claim(a, -1)
		}
	}
}

// until lets time pass until something is so of every living node, and returns how long it took.
func (s *speakers) until(what string, of func(i int, n *node) bool) time.Duration {
	s.t.Helper()
	all := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, n := range s.nodes {
			if !n.off && !of(i, n) {
				return false
			}
		}
		return true
	}
	began := time.Now()
	for !all() {
		if time.Since(began) > time.Minute {
			s.t.Fatalf("%s: not within a minute", what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}
