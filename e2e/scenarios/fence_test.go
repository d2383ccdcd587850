package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// deafen lets no gossip in or out of a node until the returned function is called; everything else goes on.
func (s *scene) deafen(node string) (restore func()) {
	s.Helper()
	nft := func(ctx context.Context, rules string) error {
		cmd := s.Lab.CommandContext(ctx, node, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft on %s: %w: %s", node, err, out)
		}
		return nil
	}
	const rules = `table inet deaf {
	chain in { type filter hook input priority -300; meta l4proto { tcp, udp } th dport 7948 drop; meta l4proto { tcp, udp } th sport 7948 drop; }
	chain out { type filter hook output priority -300; meta l4proto { tcp, udp } th dport 7948 drop; meta l4proto { tcp, udp } th sport 7948 drop; }
}`
	if err := nft(s.ctx, rules); err != nil {
		s.Fatal(err)
	}
	done := false
	restore = func() {
		if !done {
			done = true
			if err := nft(context.Background(), "delete table inet deaf"); err != nil {
				s.Error(err)
			}
		}
	}
	s.Cleanup(restore)
	return restore
}

// agree is what a speaker says of the others.
func (s *scene) agree(node string) string {
	s.Helper()
	return s.must("get", "speaker", node, "-o", `jsonpath={.status.conditions[?(@.type=="MembersAgree")]['status','reason']}`)
}

// TestBlockedGossipMakesNoSecondOwner cuts a node off from gossip on a segment that is whole: the others take it for dead, and it
// them, and yet every address goes on being answered by the one owner that it had.
func TestBlockedGossipMakesNoSecondOwner(t *testing.T) {
	s := onFullLab(t)
	before := s.several(6)
	owners, macs := map[netip.Addr]string{}, map[netip.Addr]string{}
	for _, a := range before {
		owners[a], macs[a] = s.owner(a, "")
	}
	deaf := owners[values(before)[0]]
	stop := s.asking(10*time.Millisecond, values(before)...)
	from := time.Now()
	restore := s.deafen(deaf)
	for _, owner := range owners {
		if owner != deaf { // the deaf node takes itself for the only one left, and would take this over
			s.eventually(60*time.Second, deaf+" says that somebody still answers", func() bool { return s.agree(deaf) == "False StillAnswering" })
			break
		}
	}
	// Which of the others would take an address over is the election's business.
	s.eventually(60*time.Second, "one of the others says that the node still answers", func() bool {
		for _, n := range s.Lab.Nodes() {
			if n.Name != deaf && s.agree(n.Name) == "False StillAnswering" {
				return true
			}
		}
		return false
	})
	time.Sleep(10 * time.Second)
	restore()
	for _, n := range s.Lab.Nodes() {
		s.eventually(60*time.Second, n.Name+" hears everybody again", func() bool { return s.agree(n.Name) == "True AllHeard" })
	}
	time.Sleep(2 * time.Second)
	record := stop()
	for _, a := range values(before) {
		if answers := record.Of(a); len(answers.MACs()) != 1 || answers.MACs()[0] != macs[a] {
			t.Errorf("%s was answered for by %v, want only its owner %s", a, answers.MACs(), macs[a])
		}
		if g := gap(record, a, from); g > 500*time.Millisecond {
			t.Errorf("nobody answered for %s for %v", a, g)
		}
	}
	if twice := record.Doubles(); len(twice) > 0 {
		t.Errorf("%d questions were answered twice, first %v", len(twice), twice[0])
	}
	s.unmoved(before)
}
