package page

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/bellwether-lb/bellwether/internal/kube"
)

// Entry is one thing that became of an address, as the Speaker objects said.
type Entry struct {
	At      time.Time `json:"at"`
	Address string    `json:"address"`
	From    string    `json:"from,omitempty"` // the node that answered before; empty where none did
	To      string    `json:"to,omitempty"`   // the node that answers now; empty where none does
	// Silent is for how long nobody had said to answer, in seconds: Speaker objects are written once a second.
	Silent float64 `json:"silent,omitempty"`
}

// entriesAtMost bounds the timeline.
const entriesAtMost = 500

// timeline remembers who has answered for what.
type timeline struct {
	mu      sync.Mutex
	begun   bool
	owner   map[netip.Addr]string
	lost    map[netip.Addr]time.Time
	entries []Entry // the newest last
}

func newTimeline() *timeline {
	return &timeline{owner: map[netip.Addr]string{}, lost: map[netip.Addr]time.Time{}}
}

// see takes in what the speakers say. Where two say that they answer, as in a handover, the one that did before counts.
func (t *timeline) see(speakers []kube.Said, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	claims := map[netip.Addr][]string{}
	for _, s := range speakers {
		for _, a := range s.Owned {
			claims[a] = append(claims[a], s.Node)
		}
	}
	for a, was := range t.owner {
		if len(claims[a]) == 0 {
			delete(t.owner, a)
			t.lost[a] = now
			t.add(Entry{At: now, Address: a.String(), From: was})
		}
	}
	for a, nodes := range claims {
		was := t.owner[a]
		if slices.Contains(nodes, was) {
			continue
		}
		is := slices.Min(nodes)
		e := Entry{At: now, Address: a.String(), From: was, To: is}
		if since, lost := t.lost[a]; lost {
			e.Silent = now.Sub(since).Seconds()
			delete(t.lost, a)
		}
		t.owner[a] = is
		if t.begun { // what there was before this began is no change
			t.add(e)
		}
	}
	t.begun = true
	for a, since := range t.lost {
		if now.Sub(since) > time.Hour {
			delete(t.lost, a)
		}
	}
}

func (t *timeline) add(e Entry) {
	t.entries = append(t.entries, e)
	if len(t.entries) > entriesAtMost {
		t.entries = slices.Clone(t.entries[len(t.entries)-entriesAtMost:])
	}
}

// newest returns up to n entries, the newest first.
func (t *timeline) newest(n int) []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := slices.Clone(t.entries[max(0, len(t.entries)-n):])
	slices.Reverse(out)
	return out
}
