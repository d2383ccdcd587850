package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/l2"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/heartbeat"
)

// TestOnlyANewAddressIsAFirstClaim: what another node has announced before is taken over, and not asked for as if it were new.
func TestOnlyANewAddressIsAFirstClaim(t *testing.T) {
	a, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1000, 0)
	var s seizure
	step := func(says, owner string, announced, want bool) {
		t.Helper()
		plan := announce.Plan{L2: announce.L2Plan{Addrs: map[netip.Addr]announce.L2{}}, Why: map[cluster.Key][]announce.Verdict{}}
		if owner != "-" {
			plan.L2.Addrs[a] = announce.L2{Yield: owner != "me"}
			plan.Why[cluster.Key{Name: "web"}] = []announce.Verdict{{Addr: a, Owner: owner}}
		}
		view := announce.View{Self: "me", Nodes: []cluster.Node{{Name: "me"}, {Name: "other"}},
			Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{"other": ready()}}}
		have := l2.Have{}
		if announced {
			have.Addrs = map[netip.Addr]l2.State{a: {Links: []string{"eth0"}}}
		}
		s.mark(plan, view, have, now, now)
		now = now.Add(time.Hour)
		if got := plan.L2.Addrs[a].First; got != want {
			t.Errorf("%s: first %t, want %t", says, got, want)
		}
	}
	step("there is no Service", "-", false, false)
	step("a new address is ours", "me", false, true)
	step("a stranger has it, it is not announced yet", "me", false, true)
	step("it is announced", "me", true, false)
	step("it moves away", "other", true, false)
	step("it comes back, and has to wait", "me", false, false)
	step("it is taken", "me", false, false)
	step("its Service goes", "-", false, false)
	step("another Service has it", "me", false, true)
}

// TestWhoComesBackIsToldAgain: a speaker that was cut off, and not one that starts.
func TestWhoComesBackIsToldAgain(t *testing.T) {
	var s seizure
	step := func(says string, want int, other ...cluster.Member) {
		t.Helper()
		view := announce.View{Self: "me", Nodes: []cluster.Node{{Name: "me"}, {Name: "other"}},
			Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{"me": ready()}}}
		for _, m := range other {
			view.Alive.Alive["other"] = m
		}
		if got := s.returned(view); got != want {
			t.Errorf("%s: %d, want %d", says, got, want)
		}
	}
	step("this one starts", 0)
	step("another starts", 0, cluster.Member{})
	step("it says that it is not ready", 0, cluster.Member{Links: []cluster.Link{link("eth0", true)}})
	step("it is ready", 0, ready(link("eth0", true)))
	step("it is cut off", 0)
	step("it is back, and has said nothing yet", 0, cluster.Member{})
	step("it says how it stands", 1, ready(link("eth0", true)))
	step("its link falls silent", 1, ready(silentLink(link("eth0", true))))
	step("and is heard again", 2, ready(link("eth0", true)))
	step("nothing changes", 2, ready(link("eth0", true)))
	step("it restarts", 2)
	step("and says that it is not ready", 2, cluster.Member{Links: []cluster.Link{link("eth0", true)}})
	step("and then that it is", 2, ready(link("eth0", true)))
}

func TestTheStationsOfOthers(t *testing.T) {
	var s seizure
	var heard []heartbeat.Heard
	at := func(macs ...byte) cluster.Member {
		var m cluster.Member
		for _, b := range macs {
			m.Links = append(m.Links, cluster.Link{Name: "eth0", MAC: cluster.MAC{2, 0, 0, 0, 0, b}})
		}
		return m
	}
	step := func(says string, nodes []string, alive map[string]cluster.Member, wantKnown bool, want ...byte) {
		t.Helper()
		view := announce.View{Self: "me", Alive: cluster.Members{Known: true, Alive: alive}}
		for _, n := range nodes {
			view.Nodes = append(view.Nodes, cluster.Node{Name: n})
		}
		all, known := s.others(view, heard)
		var last []byte
		for _, m := range all {
			last = append(last, m[5])
		}
		if known != wantKnown || !slices.Equal(last, want) {
			t.Errorf("%s: %v, all known: %t", says, all, known)
		}
	}
	all := []string{"a", "b", "me"}
	step("alone", []string{"me"}, map[string]cluster.Member{"me": at(1)}, true)
	step("one has not been heard yet", all, map[string]cluster.Member{"me": at(1), "b": at(4, 3)}, false, 3, 4)
	step("all are heard", all, map[string]cluster.Member{"me": at(1), "a": at(2), "b": at(4, 3)}, true, 2, 3, 4)
	step("one falls silent", all, map[string]cluster.Member{"me": at(1), "b": at(4, 3)}, true, 2, 3, 4)
	step("one has got another NIC", all, map[string]cluster.Member{"me": at(1), "b": at(5)}, true, 2, 5)
	heard = []heartbeat.Heard{{Peer: heartbeat.Peer{Node: "b", Link: "eth0"}, MAC: cluster.MAC{2, 0, 0, 0, 0, 6}}}
	step("one is heard from a NIC that it has not told of", all, map[string]cluster.Member{"me": at(1), "b": at(5)}, true, 2, 5, 6)
	heard[0].MAC[5] = 5
	step("one is gone for good", []string{"me", "b"}, map[string]cluster.Member{"me": at(1), "b": at(5)}, true, 5)
}
