package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/l2"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func TestWhatIsTakenFromTheDeadIsAskedFor(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	announced := l2.Have{Addrs: map[netip.Addr]l2.State{a: {Links: []string{"eth0"}}}}
	type step struct {
		says  string
		owner string // whom the plan names
		alive string
		have  l2.Have
		ask   bool
	}
	for name, steps := range map[string][]step{
		"a speaker that starts hears of its gains in time": {{"owns it", "me", "me other third", l2.Have{}, false}},
		"an owner that is heard no more": {
			{"another owns it", "other", "me other", l2.Have{}, false},
			{"it falls silent", "me", "me", l2.Have{}, true},
			{"somebody still answers", "me", "me", l2.Have{}, true},
			{"nobody does any more", "me", "me", announced, false},
		},
		"an owner that hands over": {
			{"another owns it", "other", "me other", l2.Have{}, false},
			{"it leaves, and is heard", "me", "me other-", l2.Have{}, false},
			{"it is gone", "me", "me", announced, false},
		},
		"an owner that dies before it has handed over": {
			{"another owns it", "other", "me other", l2.Have{}, false},
			{"it is to give it up", "me", "me other", l2.Have{}, false},
			{"it falls silent", "me", "me", l2.Have{}, true},
		},
		"an owner that is heard again hands over": {
			{"another owns it", "other", "me other", l2.Have{}, false},
			{"it falls silent", "me", "me", l2.Have{}, true},
			{"it is heard again", "me", "me other", l2.Have{}, false},
		},
		"an owner that is heard again, and says nothing yet": {
			{"another owns it", "other", "me other", l2.Have{}, false},
			{"it falls silent", "me", "me", l2.Have{}, true},
			{"it is heard again", "me", "me other?", l2.Have{}, true},
			{"it is ready, and owns it", "other", "me other", l2.Have{}, false},
		},
		"an owner that is heard again keeps it": {
			{"another owns it", "other", "me other", l2.Have{}, false},
			{"it falls silent", "me", "me", l2.Have{}, true},
			{"it is heard again", "other", "me other", l2.Have{}, false},
		},
		"from one dead owner to the next": {
			{"another owns it", "other", "me other third", l2.Have{}, false},
			{"it falls silent", "third", "me third", l2.Have{}, false},
			{"the next does too", "me", "me", l2.Have{}, true},
		},
		"an address that nobody owned, and all are heard": {
			{"there is no owner", "", "me other third", l2.Have{}, false},
			{"now it is ours", "me", "me other third", l2.Have{}, false},
		},
		"an address that nobody owned, and somebody is not heard": {
			{"there is no owner", "", "me other", l2.Have{}, false},
			{"now it is ours", "me", "me other", l2.Have{}, true},
			{"somebody answers", "me", "me other", l2.Have{}, true},
			{"all are heard, and whoever has it yields", "me", "me other third", l2.Have{}, false},
		},
		"a new address, and a node that never had a speaker": {{"it is ours", "me", "me other", l2.Have{}, false}},
		"a new address, and a speaker that fell silent": {
			{"all are heard", "-", "me other third", l2.Have{}, false},
			{"it is ours", "me", "me other", l2.Have{}, true},
			{"nobody answers", "me", "me other", announced, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s seizure
			now := time.Unix(1000, 0)
			for _, st := range steps {
				plan := announce.Plan{L2: announce.L2Plan{Addrs: map[netip.Addr]announce.L2{a: {Links: []string{"eth0"}, Yield: st.owner != "me"}}},
					Why: map[cluster.Key][]announce.Verdict{{Name: "web"}: {{Addr: a, Owner: st.owner}}}}
				if st.owner == "-" { // there is no such Service yet
					plan = announce.Plan{}
				}
				alive := map[string]cluster.Member{}
				view := announce.View{Self: "me", Alive: cluster.Members{Known: true, Alive: alive}}
				for _, n := range []string{"me", "other", "third"} {
					view.Nodes = append(view.Nodes, cluster.Node{Name: n})
					for heard := range strings.FieldsSeq(st.alive) { // "-" after a name: it leaves; "?": it has said nothing yet
						if strings.TrimRight(heard, "-?") == n {
							alive[n] = cluster.Member{Ready: !strings.HasSuffix(heard, "?"), Leaving: strings.HasSuffix(heard, "-")}
						}
					}
				}
				s.mark(plan, view, st.have, now, now)
				now = now.Add(time.Hour)
				if got := plan.L2.Addrs[a].Ask; got != st.ask {
					t.Errorf("%s: asked for first: %t, want %t", st.says, got, st.ask)
				}
			}
		})
	}
}

// TestALivingOwnerIsGivenTime: what moves since an object has changed is taken when its owner knows that, too.
func TestALivingOwnerIsGivenTime(t *testing.T) {
	a, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1000, 0)
	step := func(s *seizure, owner string, other cluster.Member, at time.Duration) (announce.L2, time.Duration) {
		plan := announce.Plan{L2: announce.L2Plan{Addrs: map[netip.Addr]announce.L2{a: {Links: []string{"eth0"}, Yield: owner != "me"}}},
			Why: map[cluster.Key][]announce.Verdict{{Name: "web"}: {{Addr: a, Owner: owner}}}}
		view := announce.View{Self: "me", Nodes: []cluster.Node{{Name: "me"}, {Name: "other"}},
			Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{"other": other}}}
		again, _ := s.mark(plan, view, l2.Have{}, now.Add(at), now.Add(at))
		return plan.L2.Addrs[a], again
	}
	for _, c := range []struct {
		says           string
		other          cluster.Member
		waits, asks    bool
		asksWhenSilent bool
	}{
		{"it is alive", ready(), true, false, true},
		{"it leaves, and gives everything up by itself", cluster.Member{Ready: true, Leaving: true}, false, false, false},
		{"it is silent", ready(silentLink(link("eth0", true))), false, true, false},
	} {
		var s seizure
		step(&s, "other", ready(), 0)
		what, again := step(&s, "me", c.other, time.Second)
		if what.Yield != c.waits || what.Ask != c.asks || (again == gainLag) != c.waits {
			t.Errorf("%s: %+v, again after %v", c.says, what, again)
		}
		if c.asksWhenSilent {
			silent := s
			if what, _ := step(&silent, "me", ready(silentLink(link("eth0", true))), time.Second+gainLag/2); what.Yield || !what.Ask {
				t.Errorf("%s, then falls silent: %+v", c.says, what)
			}
		}
		if what, again := step(&s, "me", c.other, time.Second+gainLag-1); what.Yield != c.waits || (again == 1) != c.waits {
			t.Errorf("%s, just before: %+v, again after %v", c.says, what, again)
		}
		if what, again := step(&s, "me", c.other, time.Second+gainLag); what.Yield || again != 0 {
			t.Errorf("%s, later: %+v, again after %v", c.says, what, again)
		}
	}
}

func TestHowLongATakeoverTook(t *testing.T) {
	a, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1000, 0)
	var s seizure
	step := func(owner string, have l2.Have, at time.Duration) []time.Duration {
		plan := announce.Plan{L2: announce.L2Plan{Addrs: map[netip.Addr]announce.L2{a: {Links: []string{"eth0"}, Yield: owner != "me"}}},
			Why: map[cluster.Key][]announce.Verdict{{Name: "web"}: {{Addr: a, Owner: owner}}}}
		view := announce.View{Self: "me", Nodes: []cluster.Node{{Name: "me"}, {Name: "other"}}, Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{}}}
		if owner != "me" {
			view.Alive.Alive[owner] = cluster.Member{Ready: true}
		}
		_, took := s.mark(plan, view, have, now.Add(at), now.Add(at+time.Millisecond))
		return took
	}
	announced := l2.Have{Addrs: map[netip.Addr]l2.State{a: {Links: []string{"eth0"}, Since: now.Add(90 * time.Millisecond)}}}
	for i, c := range []struct {
		owner string
		have  l2.Have
		at    time.Duration
		want  int
	}{{"other", l2.Have{}, 0, 0}, {"me", l2.Have{}, 50 * time.Millisecond, 0}, {"me", l2.Have{}, 80 * time.Millisecond, 0}, {"me", announced, time.Second, 1}, {"me", announced, 2 * time.Second, 0}} {
		took := step(c.owner, c.have, c.at)
		if len(took) != c.want || c.want > 0 && took[0] != 40*time.Millisecond {
			t.Errorf("step %d: %v", i, took)
		}
	}
}
