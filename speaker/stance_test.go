package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func link(name string, up bool, prefixes ...string) cluster.Link {
	l := cluster.Link{Name: name, Index: 2, Up: up}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

func silentLink(l cluster.Link) cluster.Link {
	l.Silent = true
	return l
}

func ready(links ...cluster.Link) cluster.Member { return cluster.Member{Ready: true, Links: links} }

// settled is a stance that has told m long ago.
func settled(m cluster.Member, at time.Time) *stance {
	s := &stance{}
	for _, after := range []time.Duration{-time.Hour, -time.Minute, -time.Second} {
		s.take(m, at.Add(after))
	}
	return s
}

func TestSpeakersThatStartTogetherDoNotWait(t *testing.T) {
	start := time.Unix(1000, 0)
	s := &stance{}
	s.take(ready(), start)
	if s.told.Ready {
		t.Fatal("it says that it is ready before it has settled")
	}
	s.together = true
	if tell, again := s.take(ready(), start.Add(settleTime/10)); !tell || !s.told.Ready || s.own.Ready || again != gainLag {
		t.Errorf("tells %t, told %+v, believes %+v, again in %v", tell, s.told, s.own, again)
	}
	if s.take(ready(), start.Add(settleTime/10+gainLag)); !s.own.Ready {
		t.Error("it does not believe that it is ready after the others have heard it")
	}
}

func TestWhoStartsTogether(t *testing.T) {
	there := link("eth0", true, "192.0.2.2/24")
	for _, c := range []struct {
		says  string
		heard []map[string]cluster.Member // one after another
		want  bool
	}{
		{"nobody is heard", []map[string]cluster.Member{{}}, false},
		{"one of two is heard", []map[string]cluster.Member{{"b": {Links: []cluster.Link{there}}}}, false},
		{"one has joined and not said anything", []map[string]cluster.Member{{"b": {Links: []cluster.Link{there}}, "c": {}}}, false},
		{"nobody was ready", []map[string]cluster.Member{{"b": {Links: []cluster.Link{there}}, "c": {Links: []cluster.Link{there}}}}, true},
		{"one was ready when it was heard first", []map[string]cluster.Member{{"b": {Links: []cluster.Link{there}}, "c": ready(there)}}, false},
		{"one was ready and is not now", []map[string]cluster.Member{{"b": ready(there)}, {"b": {Links: []cluster.Link{there}}, "c": {Links: []cluster.Link{there}}}}, false},
		{"one became ready meanwhile", []map[string]cluster.Member{{"b": {Links: []cluster.Link{there}}}, {"b": ready(there), "c": {Links: []cluster.Link{there}}}}, true},
	} {
		t.Run(c.says, func(t *testing.T) {
			readyAtFirst, got := map[string]bool{}, false
			for _, heard := range c.heard {
				got = together([]string{"a", "b", "c"}, "a", heard, readyAtFirst)
			}
			if got != c.want {
				t.Errorf("starts together: %t, want %t", got, c.want)
			}
		})
	}
}

func TestGainsAreBelievedLateAndLossesAtOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	eth0, eth1 := link("eth0", true, "192.0.2.1/24"), link("eth1", true, "198.51.100.1/24")
	for _, c := range []struct {
		says          string
		was, is       cluster.Member
		atOnce, later cluster.Member // what the node believes of itself
	}{
		{"nothing has changed", ready(eth0), ready(eth0), ready(eth0), ready(eth0)},
		{"it leaves", ready(eth0), cluster.Member{Ready: true, Leaving: true, Links: []cluster.Link{eth0}},
			cluster.Member{Ready: true, Leaving: true, Links: []cluster.Link{eth0}}, cluster.Member{Ready: true, Leaving: true, Links: []cluster.Link{eth0}}},
		{"it stops being ready", ready(eth0), cluster.Member{Links: []cluster.Link{eth0}}, cluster.Member{Links: []cluster.Link{eth0}}, cluster.Member{Links: []cluster.Link{eth0}}},
		{"a link goes down", ready(eth0, eth1), ready(eth0, link("eth1", false, "198.51.100.1/24")),
			ready(eth0, link("eth1", false, "198.51.100.1/24")), ready(eth0, link("eth1", false, "198.51.100.1/24"))},
		{"a link goes away", ready(eth0, eth1), ready(eth0), ready(eth0), ready(eth0)},
		{"a link comes up", ready(eth0), ready(eth0, eth1), ready(eth0, link("eth1", false, "198.51.100.1/24")), ready(eth0, eth1)},
		{"one link goes, another comes", ready(eth0), ready(eth1), ready(link("eth1", false, "198.51.100.1/24")), ready(eth1)},
		{"a link gets another address and stays up", ready(eth0), ready(link("eth0", true, "192.0.2.1/24", "203.0.113.1/24")),
			ready(eth0), ready(link("eth0", true, "192.0.2.1/24", "203.0.113.1/24"))},
		{"a link loses an address", ready(link("eth0", true, "192.0.2.1/24", "203.0.113.1/24")), ready(eth0), ready(eth0), ready(eth0)},
		{"a link is heard again", ready(silentLink(eth0)), ready(eth0), ready(silentLink(eth0)), ready(eth0)},
		{"a link is not heard any more", ready(eth0), ready(silentLink(eth0)), ready(silentLink(eth0)), ready(silentLink(eth0))},
		{"a link is made anew under its name", ready(eth0), ready(cluster.Link{Name: "eth0", Index: 9, Up: true}),
			ready(cluster.Link{Name: "eth0", Index: 9}), ready(cluster.Link{Name: "eth0", Index: 9, Up: true})},
	} {
		t.Run(c.says, func(t *testing.T) {
			s := settled(c.was, now)
			tell, again := s.take(c.is, now)
			if tell == reflect.DeepEqual(c.was, c.is) {
				t.Errorf("tells: %t", tell)
			}
			if !reflect.DeepEqual(s.told, c.is) || !reflect.DeepEqual(s.own, c.atOnce) {
				t.Errorf("at once: told %+v, believes %+v; want %+v", s.told, s.own, c.atOnce)
			}
			if late := !reflect.DeepEqual(c.atOnce, c.later); late != (again == gainLag) {
				t.Errorf("looks again after %v", again)
			}
			if s.take(c.is, now.Add(gainLag-1)); !reflect.DeepEqual(s.own, c.atOnce) {
				t.Errorf("just before: believes %+v", s.own)
			}
			if s.take(c.is, now.Add(gainLag)); !reflect.DeepEqual(s.own, c.later) {
				t.Errorf("later: believes %+v, want %+v", s.own, c.later)
			}
		})
	}
}

func TestASpeakerSaysThatItIsReadyWhenItHasBeenForAWhile(t *testing.T) {
	start := time.Unix(1000, 0)
	s := &stance{}
	if tell, again := s.take(ready(), start); !tell || s.told.Ready || again != settleTime {
		t.Errorf("at first: tells %t, ready %t, again %v", tell, s.told.Ready, again)
	}
	s.take(cluster.Member{}, start.Add(settleTime/2)) // not ready in between: the time begins anew
	if s.take(ready(), start.Add(settleTime)); s.told.Ready {
		t.Error("says that it is ready, though it was not for some of the time")
	}
	if tell, _ := s.take(ready(), start.Add(2*settleTime)); !tell || !s.told.Ready || s.own.Ready {
		t.Errorf("after a while: told %t, believes %t; want true, false", s.told.Ready, s.own.Ready)
	}
	if s.take(ready(), start.Add(2*settleTime+gainLag)); !s.own.Ready {
		t.Error("does not believe itself")
	}
}

// can lists what a node that stands like m may own: nothing, or the addresses of each subnet on each link.
func can(m cluster.Member) map[string]bool {
	out := map[string]bool{}
	if !m.Ready || m.Leaving {
		return out
	}
	for _, l := range m.Links {
		if !l.Up {
			continue
		}
		out[fmt.Sprint(l.Name, l.Index)] = true
		for _, p := range l.Prefixes {
			out[fmt.Sprint(l.Name, l.Index, p)] = true
		}
	}
	return out
}

func TestNothingIsBelievedBeforeTheOthersHaveHadTimeToKnowIt(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s, at := &stance{}, time.Unix(1000, 0)
		type said struct {
			at  time.Time
			can map[string]bool
		}
		var history []said
		var now cluster.Member
		for range 60 {
			at = at.Add(time.Duration(rng.IntN(500)) * time.Millisecond)
			if rng.IntN(2) == 0 {
				now = cluster.Member{Ready: rng.IntN(5) > 0, Leaving: rng.IntN(10) == 0}
				for i := range 2 {
					l := cluster.Link{Name: fmt.Sprint("eth", i), Index: 2 + rng.IntN(6)/5, Up: rng.IntN(4) > 0}
					for j := range rng.IntN(3) {
						l.Prefixes = append(l.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(j)}), 24))
					}
					now.Links = append(now.Links, l)
				}
			}
			had := can(s.own)
			if tell, _ := s.take(now, at); tell {
				history = append(history, said{at, can(s.told)})
			}
			has, told, is := can(s.own), can(s.told), can(now)
			for what := range has {
				if !told[what] || !is[what] {
					t.Fatalf("seed %d: believes in %s, which is told %t and so %t", seed, what, told[what], is[what])
				}
				for i := len(history) - 1; i >= 0 && !had[what]; i-- {
					if !history[i].can[what] {
						t.Fatalf("seed %d: believes in %s before the others have had %v to hear of it", seed, what, gainLag)
					}
					if at.Sub(history[i].at) >= gainLag {
						break
					}
				}
			}
		}
		for range 100 { // then nothing changes any more
			_, again := s.take(now, at)
			if again == 0 {
				break
			}
			at = at.Add(again)
		}
		if !reflect.DeepEqual(can(s.own), can(now)) || !reflect.DeepEqual(s.told, now) {
			t.Fatalf("seed %d: stands like %+v, told %+v and believes %+v", seed, now, s.told, s.own)
		}
	}
}

func TestYieldsAll(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for _, c := range []struct {
		says  string
		addrs map[netip.Addr]announce.L2
		want  bool
	}{
		{"a plan without addresses", nil, true},
		{"a plan that yields each", map[netip.Addr]announce.L2{a: {Yield: true}, b: {Yield: true}}, true},
		{"a plan that answers for one", map[netip.Addr]announce.L2{a: {Yield: true}, b: {Links: []string{"eth0"}}}, false},
	} {
		if got := yieldsAll(announce.L2Plan{Addrs: c.addrs}); got != c.want {
			t.Errorf("%s: %t", c.says, got)
		}
	}
}

func TestASpeakerThatWasOvertakenHandsOverAndReturns(t *testing.T) {
	now := time.Unix(1000, 0)
	s := settled(ready(), now)
	s.stepBack(now)
	if tell, again := s.take(ready(), now); !tell || again != settleTime || !s.told.Leaving || !s.own.Leaving {
		t.Errorf("at once: tells %t, looks again after %v, told %+v, believes %+v", tell, again, s.told, s.own)
	}
	if tell, _ := s.take(ready(), now.Add(settleTime-1)); tell || !s.told.Leaving {
		t.Errorf("before it has settled: told %+v", s.told)
	}
	if tell, again := s.take(ready(), now.Add(settleTime)); !tell || again != gainLag || s.told.Leaving || !s.own.Leaving {
		t.Errorf("settled: tells %t, looks again after %v, told %+v, believes %+v", tell, again, s.told, s.own)
	}
	if s.take(ready(), now.Add(settleTime+gainLag)); s.own.Leaving || !s.own.Ready {
		t.Errorf("when the others know: believes %+v", s.own)
	}
}
