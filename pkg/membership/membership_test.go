package membership

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/memberlist"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// speaker is one member on loopback.
type speaker struct {
	*Membership
	members chan cluster.Members
	kill    context.CancelFunc
	ended   chan error
}

func start(t *testing.T, node, addr string, key []byte) *speaker {
	t.Helper()
	s := &speaker{members: make(chan cluster.Members, 1000), ended: make(chan error, 1)}
	s.Membership = New(Config{Node: node, Bind: netip.MustParseAddr(addr), Port: 17948, Key: key, Log: quiet(),
		Publish: func(m cluster.Members) { s.members <- m }})
	ctx, cancel := context.WithCancel(t.Context())
	s.kill = cancel
	go func() { s.ended <- s.Run(ctx) }()
	t.Cleanup(cancel)
	return s
}

// until waits for members that satisfy ok.
func (s *speaker) until(t *testing.T, what string, ok func(cluster.Members) bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	var last cluster.Members
	for {
		select {
		case last = <-s.members:
			if ok(last) {
				return
			}
		case <-deadline:
			t.Fatalf("%s: not in 15 s; last members %+v", what, last)
		}
	}
}

func peers() map[string]netip.Addr {
	return map[string]netip.Addr{"a": netip.MustParseAddr("127.0.7.1"), "b": netip.MustParseAddr("127.0.7.2"), "c": netip.MustParseAddr("127.0.7.3")}
}

func TestMembersMeetTellAndLeave(t *testing.T) {
	key := Key([]byte("secret"))
	a, b := start(t, "a", "127.0.7.1", key[:]), start(t, "b", "127.0.7.2", key[:])
	links := []cluster.Link{{Name: "eth0", Index: 2, Up: true, MAC: cluster.MAC{2, 0, 0, 0, 0, 1}, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.0.1/24")}}}
	a.State(cluster.Member{Ready: true, Links: links})
	b.State(cluster.Member{})
	a.Peers(peers())
	b.Peers(peers())
	b.until(t, "b hears that a is ready, with its links", func(m cluster.Members) bool {
		return m.Alive["a"].Ready && cmp.Equal(m.Alive["a"].Links, links, cmpopts.EquateComparable(netip.Prefix{}))
	})
	a.until(t, "a hears of b, which is not ready", func(m cluster.Members) bool {
		_, alive := m.Alive["b"]
		return alive && !m.Alive["b"].Ready
	})
	b.State(cluster.Member{Ready: true})
	a.until(t, "a hears that b is ready", func(m cluster.Members) bool { return m.Alive["b"].Ready })
	b.State(cluster.Member{Ready: true, Leaving: true})
	a.until(t, "a hears that b is leaving", func(m cluster.Members) bool { return m.Alive["b"].Leaving })
	b.Leave(t.Context())
	a.until(t, "a hears that b has gone", func(m cluster.Members) bool { _, alive := m.Alive["b"]; return !alive })

	again := start(t, "b", "127.0.7.2", key[:])
	again.State(cluster.Member{Ready: false})
	again.Peers(peers())
	a.until(t, "b is back, and not ready, whatever it said before", func(m cluster.Members) bool {
		member, alive := m.Alive["b"]
		return alive && !member.Ready && !member.Leaving
	})
}

func TestADeadMemberIsMissed(t *testing.T) {
	a, b := start(t, "a", "127.0.7.1", nil), start(t, "b", "127.0.7.2", nil)
	c := start(t, "c", "127.0.7.3", nil)
	for _, s := range []*speaker{a, b, c} {
		s.State(cluster.Member{Ready: true})
		s.Peers(peers())
	}
	ready := func(m cluster.Members) bool { return m.Alive["a"].Ready && m.Alive["b"].Ready && m.Alive["c"].Ready }
	a.until(t, "a knows all", ready)
	b.until(t, "b knows all", ready)
	c.kill()
	<-c.ended
	gone := func(m cluster.Members) bool { _, alive := m.Alive["c"]; return !alive }
	a.until(t, "a misses c", gone)
	b.until(t, "b misses c", gone)
}

func TestAMemberWithAnotherKeyIsNoMember(t *testing.T) {
	right, wrong := Key([]byte("right")), Key([]byte("wrong"))
	a, b := start(t, "a", "127.0.7.1", right[:]), start(t, "b", "127.0.7.2", wrong[:])
	for _, s := range []*speaker{a, b} {
		s.State(cluster.Member{Ready: true})
		s.Peers(peers())
	}
	deadline := time.After(2 * time.Second)
	for {
		select {
		case m := <-a.members:
			if _, alive := m.Alive["b"]; alive {
				t.Fatal("a takes b for a member, though b does not have the key")
			}
		case <-deadline:
			return
		}
	}
}

func TestKeyIsAHashOfTheWholeSecret(t *testing.T) {
	short, long := Key([]byte("0123456789abcdef0123456789abcdef")), Key([]byte("0123456789abcdef0123456789abcdef, and more"))
	if short == long {
		t.Error("two secrets with the same first 32 bytes have the same key")
	}
	if bytes.Contains(short[:], []byte("0123")) {
		t.Error("the key shows the secret")
	}
}

func FuzzDecode(f *testing.F) {
	good, err := state{Node: "a", Epoch: 1, Seq: 2, Member: cluster.Member{Ready: true}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{stateVersion})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decode(data)
		if err != nil {
			return
		}
		if _, err := s.encode(); err != nil {
			t.Errorf("what was decoded cannot be encoded: %v", err)
		}
	})
}

// TestWhoIsHeardOnASegmentIsAlive: b never meets a by gossip, and hears of it all the same.
func TestWhoIsHeardOnASegmentIsAlive(t *testing.T) {
	spread := make(chan []byte, 100)
	a := New(Config{Node: "a", Bind: netip.MustParseAddr("127.0.7.11"), Port: 17948, Log: quiet(), Publish: func(cluster.Members) {},
		Spread: func(state []byte) { spread <- state }})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	b := start(t, "b", "127.0.7.12", nil)
	a.State(cluster.Member{Ready: true})
	first := <-spread
	a.State(cluster.Member{Ready: true, Leaving: true})
	second := <-spread
	for _, c := range []struct {
		says   string
		states [][]byte
		ok     func(cluster.Members) bool
	}{
		{"nobody is heard", nil, func(m cluster.Members) bool { return len(m.Alive) == 1 }},
		{"a is heard", [][]byte{first}, func(m cluster.Members) bool {
			return m.Alive["a"].Ready && m.Alive["a"].OnSegmentOnly && !m.Alive["a"].Leaving
		}},
		{"a has told one segment later than the other", [][]byte{second, first, []byte("noise")}, func(m cluster.Members) bool { return m.Alive["a"].Leaving }},
		{"a is not heard any more", nil, func(m cluster.Members) bool { return len(m.Alive) == 1 }},
		{"a is heard again", [][]byte{second}, func(m cluster.Members) bool { return m.Alive["a"].OnSegmentOnly }},
	} {
		b.Heard(c.states)
		b.until(t, c.says, c.ok)
		if heard := len(c.states) > 0; heard && !b.Settled() {
			t.Errorf("%s, and it is still waiting to meet somebody", c.says)
		}
	}
	b.Peers(map[string]netip.Addr{"a": netip.MustParseAddr("127.0.7.11")})
	b.until(t, "gossip has met a", func(m cluster.Members) bool { return m.Alive["a"].Leaving && !m.Alive["a"].OnSegmentOnly })
}

// TestWhoComesBackToGossipIsWhatWasHeard: between being known to gossip again and having told its state by it, a member is what it says on
// the segment; another run of it is not.
func TestWhoComesBackToGossipIsWhatWasHeard(t *testing.T) {
	heard := []state{{Node: "a", Epoch: 7, Seq: 3, Member: cluster.Member{Ready: true}}, {Node: "a", Epoch: 7, Seq: 2, Member: cluster.Member{Leaving: true}}}
	for epoch, want := range map[uint64]cluster.Member{7: {Ready: true}, 8: {}} {
		is := members([]*memberlist.Node{{Name: "a", Meta: epochMeta(epoch)}}, map[origin]state{}, heard).Alive["a"]
		if diff := cmp.Diff(want, is); diff != "" {
			t.Errorf("epoch 7 is heard, and gossip knows of %d (-want +got):\n%s", epoch, diff)
		}
	}
}
