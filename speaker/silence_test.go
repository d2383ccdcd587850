package main

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func hearing(names ...string) map[string]cluster.Member {
	all := map[string]cluster.Member{}
	for _, name := range names {
		all[name] = cluster.Member{}
	}
	return all
}

func TestTheSilentOfNodesThatAreNoMoreAreForgotten(t *testing.T) {
	var s silence
	s.look(hearing("b", "c"), "a", time.Unix(1000, 0))
	s.look(hearing(), "a", time.Unix(1001, 0))
	s.keep([]cluster.Node{{Name: "a"}, {Name: "c"}})
	if got := s.due("a", false, time.Unix(2000, 0)); fmt.Sprint(got) != "[c]" {
		t.Errorf("the objects of %v are to be cleared", got)
	}
}

func TestAnObjectIsClearedWhenItsSpeakerStaysSilent(t *testing.T) {
	now := time.Unix(1000, 0)
	type look struct {
		at    time.Duration
		alive map[string]cluster.Member
	}
	for _, c := range []struct {
		says, self string
		looks      []look
		unsure     bool
		want       string
	}{
		{"not at once", "b", []look{{0, hearing("a", "c")}, {time.Second, hearing("c")}, {time.Second + mourning - 1, hearing("c")}}, false, "[]"},
		{"then", "b", []look{{0, hearing("a", "c")}, {time.Second, hearing("c")}, {time.Second + mourning, hearing("c")}}, false, "[a]"},
		{"and until it is done", "b", []look{{0, hearing("a")}, {time.Second, hearing()}, {time.Hour, hearing()}}, false, "[a]"},
		{"not while it is not sure", "b", []look{{0, hearing("a", "c")}, {time.Second, hearing("c")}, {time.Hour, hearing("c")}}, true, "[]"},
		{"not when it is heard again", "b", []look{{0, hearing("a", "c")}, {time.Second, hearing("c")}, {time.Hour, hearing("a", "c")}}, false, "[]"},
		{"not by the second by name", "c", []look{{0, hearing("a", "b")}, {time.Second, hearing("b")}, {time.Hour, hearing("b")}}, false, "[]"},
		{"by who becomes the first later", "c", []look{{0, hearing("a", "b")}, {time.Second, hearing("b")}, {2 * time.Second, hearing()}, {time.Hour, hearing()}}, false, "[a b]"},
		{"of several, one is back", "c", []look{{0, hearing("d", "e")}, {time.Second, hearing()}, {2 * time.Second, hearing("e")}, {time.Hour, hearing("e")}}, false, "[d]"},
	} {
		var s silence
		var last time.Time
		for _, l := range c.looks {
			last = now.Add(l.at)
			s.look(l.alive, c.self, last)
		}
		if got := fmt.Sprint(s.due(c.self, c.unsure, last)); got != c.want {
			t.Errorf("%s: cleared %s, want %s", c.says, got, c.want)
		}
	}
}

// TestAnObjectIsDoubted by its own speaker when the one that clears objects is heard again, and once more when that must have noticed too.
func TestAnObjectIsDoubted(t *testing.T) {
	now := time.Unix(1000, 0)
	var s silence
	for _, c := range []struct {
		after int // seconds
		alive map[string]cluster.Member
		want  bool
	}{
		{0, hearing("a", "c"), false}, // the first ever
		{1, hearing("a"), false},
		{2, hearing("a", "c"), false}, // c clears nothing while a is heard
		{3, hearing("c"), false},
		{4, hearing("a", "c"), true},
		{5, hearing("a", "c"), false},
		{4 + 6, hearing("a", "c"), true},
		{4 + 12, hearing("a", "c"), false},
	} {
		if got := s.look(c.alive, "b", now.Add(time.Duration(c.after)*time.Second)); got != c.want {
			t.Errorf("after %d s: %v, want %v", c.after, got, c.want)
		}
	}
}

// TestWhoIsClearedIsNotClearedAgain until it was heard meanwhile: the writer has no client here, and would fail.
func TestWhoIsClearedIsNotClearedAgain(t *testing.T) {
	w := newStatusWriter(nil, "me", slog.New(slog.DiscardHandler), nil, nil)
	w.buried["a"] = true
	for _, nodes := range [][]string{{"a"}, {"a"}, nil} {
		if w.buryAll(t.Context(), nodes) {
			t.Errorf("of %v somebody is cleared", nodes)
		}
	}
	if w.buried["a"] {
		t.Error("who is heard again is taken for cleared")
	}
}
