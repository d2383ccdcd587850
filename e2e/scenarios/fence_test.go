package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/probe"
)

// The rules by which a node is cut off from the other speakers, and nothing else.
const (
	noGossip = `table inet deaf {
	chain in { type filter hook input priority -300; meta l4proto { tcp, udp } th dport 7948 drop; meta l4proto { tcp, udp } th sport 7948 drop; }
	chain out { type filter hook output priority -300; meta l4proto { tcp, udp } th dport 7948 drop; meta l4proto { tcp, udp } th sport 7948 drop; }
}
`
	noHeartbeat = `table netdev deaf {
	chain in { type filter hook ingress device eth0 priority -300; ether type 0x88b5 drop; }
	chain out { type filter hook egress device eth0 priority -300; ether type 0x88b5 drop; }
}
`
)

// undo are the rules that take others away.
func undo(rules string) string {
	var all strings.Builder
	for line := range strings.Lines(rules) {
		if table, _, is := strings.Cut(line, " {"); is && strings.HasPrefix(line, "table ") {
			all.WriteString("delete " + table + "\n")
		}
	}
	return all.String()
}

// deafen applies rules on a node until the returned function is called.
func (s *scene) deafen(node, rules string) (restore func()) {
	s.Helper()
	if err := s.nft(s.ctx, node, rules); err != nil {
		s.Fatal(err)
	}
	done := false
	restore = func() {
		if !done {
			done = true
			if err := s.nft(context.Background(), node, undo(rules)); err != nil {
				s.Error(err)
			}
		}
	}
	s.Cleanup(restore)
	return restore
}

// nft applies rules on a node.
func (s *scene) nft(ctx context.Context, node, rules string) error {
	cmd := s.Lab.CommandContext(ctx, node, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft on %s: %w: %s", node, err, out)
	}
	return nil
}

// agree is what a speaker says of the others.
func (s *scene) agree(node string) string {
	s.Helper()
	return s.must("get", "speaker", node, "-o", `jsonpath={.status.conditions[?(@.type=="MembersAgree")]['status','reason']}`)
}

// TestBlockedGossipMakesNoSecondOwner cuts a node off from gossip on a segment that is whole, then from the heartbeat too, so that
// the others take it for dead, and it them: every address goes on being answered by the one owner that it had.
func TestBlockedGossipMakesNoSecondOwner(t *testing.T) {
	for _, c := range []struct{ name, rules, reason string }{
		{"gossip", noGossip, "False GossipBlocked"},
		{"gossip and heartbeat", noGossip + noHeartbeat, "False StillAnswering"},
	} {
		stood := false
		t.Run(c.name, func(t *testing.T) { stood = blocked(t, c.rules, c.reason) })
		if stood {
			t.Run(c.name+", again", func(t *testing.T) {
				if blocked(t, c.rules, c.reason) {
					t.Error("an owner stood still again: that is not the machine's doing any more")
				}
			})
		}
	}
}

// standstill is how long an owner must not have answered to be taken for dead on the segment, when gossip and heartbeat say the same: two
// questions, 15 ms each.
const standstill = 30 * time.Millisecond

// stoodStill lists the addresses that were announced by another than their owner, whose answers had ceased to come in so long before.
func (s *scene) stoodStill(record, announced probe.Record, macs map[netip.Addr]string) (taken []netip.Addr) {
	s.Helper()
	for a, mac := range macs {
		others := slices.DeleteFunc(announced.Of(a), func(c probe.Sighting) bool { return c.MAC == mac })
		if len(others) == 0 {
			continue
		}
		at, last := others[0].Time, time.Time{}
		for _, answer := range record.Of(a) {
			if answer.MAC == mac && answer.Time.Before(at) {
				last = answer.Time
			}
		}
		if still := at.Sub(last); still >= standstill && !last.IsZero() {
			s.Logf("the owner of %s stood still for %v, and %s took it over: what gossip does is not shown", a, still, others[0].MAC)
			taken = append(taken, a)
		}
	}
	return taken
}

// blocked reports whether an owner stood still just then, which proves nothing of its addresses.
func blocked(t *testing.T, rules, reason string) (stood bool) {
	s := onFullLab(t)
	before := s.several(6)
	owners, macs := map[netip.Addr]string{}, map[netip.Addr]string{}
	for _, a := range before {
		owners[a], macs[a] = s.owner(a, "")
	}
	deaf := owners[values(before)[0]]
	stop, prober := s.probing(10*time.Millisecond, values(before)...)
	still := func() bool { return len(s.stoodStill(prober.Record(), prober.Announcements(), macs)) > 0 }
	restore := s.deafen(deaf, rules)
	for _, owner := range owners {
		if owner != deaf { // the deaf node may take itself for the only one left, and would take this over
			s.eventually(60*time.Second, deaf+" says "+reason, func() bool { return s.agree(deaf) == reason || still() })
			break
		}
	}
	// Which of the others would take an address over is the election's business.
	s.eventually(60*time.Second, "one of the others says "+reason, func() bool {
		for _, n := range s.Lab.Nodes() {
			if n.Name != deaf && s.agree(n.Name) == reason {
				return true
			}
		}
		return still()
	})
	time.Sleep(5 * time.Second)
	restore()
	for _, n := range s.Lab.Nodes() {
		s.eventually(60*time.Second, n.Name+" hears everybody again", func() bool { return s.agree(n.Name) == "True AllHeard" })
	}
	time.Sleep(2 * time.Second)
	record := stop()
	taken := s.stoodStill(record, prober.Announcements(), macs)
	for _, a := range values(before) {
		if slices.Contains(taken, a) {
			continue
		}
		if answers := record.Of(a); len(answers.MACs()) != 1 || answers.MACs()[0] != macs[a] {
			t.Errorf("%s was answered for by %v, want only its owner %s", a, answers.MACs(), macs[a])
		}
	}
	s.unmoved(before)
	if len(taken) > 0 {
		s.answeredOnce(record, prober)
		return true
	}
	s.allAnswered(record, prober)
	return false
}
