package main

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/heartbeat"
)

func TestWhoIsSilentIsMarked(t *testing.T) {
	eth0, eth1 := link("eth0", true), link("eth1", true)
	silent := eth0
	silent.Silent = true
	alive := map[string]cluster.Member{"a": ready(eth0, eth1), "b": ready(eth0), "c": ready(silent)}
	got := withSilent(alive, []heartbeat.Peer{{Node: "a", Link: "eth0"}, {Node: "c", Link: "eth0"}, {Node: "b", Link: "gone"}, {Node: "gone", Link: "eth0"}})
	want := map[string]cluster.Member{"a": ready(silent, eth1), "b": ready(eth0), "c": ready(silent)}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
	if alive["a"].Links[0].Silent {
		t.Error("what others hold was changed")
	}
}

func TestACutLinkIsTheNodesOwnWordForIt(t *testing.T) {
	eth0, eth1 := link("eth0", true), link("eth1", true)
	own := []cluster.Link{eth0, eth1}
	got := withCut(own, []string{"eth1"})
	if got[0].Silent || !got[1].Silent || own[1].Silent {
		t.Errorf("got %+v of %+v", got, own)
	}
}

func TestASilentNodeDoesNotHandOver(t *testing.T) {
	silent := link("eth1", true)
	silent.Silent = true
	alive := map[string]cluster.Member{"a": ready(link("eth0", true)), "b": ready(link("eth0", true), silent), "starting": {}}
	for node, want := range map[string]bool{"a": true, "b": false, "starting": false, "dead": false} {
		if got := handsOver(alive, node); got != want {
			t.Errorf("%s: %t", node, got)
		}
	}
}

// TestAnotherClustersKeyIsItsOwn: frames under another key matter where they are of a node of this cluster that is not heard otherwise.
func TestAnotherClustersKeyIsItsOwn(t *testing.T) {
	view := announce.View{Nodes: []cluster.Node{{Name: "a"}, {Name: "b"}, {Name: "c"}},
		Alive: cluster.Members{Alive: map[string]cluster.Member{"a": {}, "b": {}}}}
	found := heartbeat.Findings{OtherKey: []heartbeat.Peer{{Node: "c", Link: "eth1"}, {Node: "b", Link: "eth0"}, {Node: "another cluster's", Link: "eth0"}, {Node: "c", Link: "eth0"}}}
	if got := otherKeys(view, found); !slices.Equal(got, []string{"c"}) {
		t.Errorf("got %v", got)
	}
}
