package kube

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// lagging is a random API server, an informer that lags behind it, and a controller that gives addresses by what the
// overlay shows.
type lagging struct {
	rng     *rand.Rand
	rv      int
	truth   map[string]*Record[Service] // what the API server has
	events  []event                     // what the informer has not seen yet
	shown   map[string]*Record[Service] // what the informer shows
	at      int                         // how far it is
	overlay *Overlay
	sent    []request // writes that the API server has not got yet
	answers []answer  // answers that the controller has not got yet
}

type event struct {
	name   string
	record *Record[Service] // nil: deleted
	rv     int
}

type request struct {
	base *Record[Service]
	held []netip.Addr
}

type answer struct {
	to      *Record[Service]
	written *Record[Service] // nil: refused
}

func newLagging(seed uint64) *lagging {
	return &lagging{rng: rand.New(rand.NewPCG(seed, 3)), rv: 95, at: 95, truth: map[string]*Record[Service]{},
		shown: map[string]*Record[Service]{}, overlay: NewOverlay()}
}

func (l *lagging) put(name string, uid types.UID, held []netip.Addr) *Record[Service] {
	l.rv++
	l.truth[name] = version(name, uid, l.rv, held...)
	l.events = append(l.events, event{name, l.truth[name], l.rv})
	return l.truth[name]
}

func (l *lagging) step() string {
	name := fmt.Sprintf("s%d", l.rng.IntN(3))
	now := l.truth[name]
	switch n := l.rng.IntN(16); {
	case n < 2 && now == nil:
		l.put(name, types.UID(strconv.Itoa(l.rv)), nil)
		return "create " + name
	case n < 3 && now != nil:
		l.rv++
		delete(l.truth, name)
		l.events = append(l.events, event{name, nil, l.rv})
		return "delete " + name
	case n < 4 && now != nil:
		l.put(name, now.UID, now.Value.Held)
		return "touch " + name
	case n < 5 && now != nil:
		return l.otherLeader(name)
	case n < 8:
		return l.informer()
	case n < 10 && len(l.sent) > 0:
		return l.serve()
	case n < 12 && len(l.answers) > 0:
		return l.settle()
	case n >= 12:
		return l.assign(name)
	}
	return ""
}

// informer takes in some of what it has missed.
func (l *lagging) informer() string {
	n := 0
	if len(l.events) > 0 {
		n = 1 + l.rng.IntN(len(l.events))
	}
	for _, e := range l.events[:n] {
		l.at = e.rv
		if e.record == nil {
			delete(l.shown, e.name)
		} else {
			l.shown[e.name] = e.record
		}
	}
	l.events = l.events[n:]
	return fmt.Sprintf("informer sees %d", n)
}

// serve lets the API server carry out one of the writes, in any order, where nobody changed the Service meanwhile.
func (l *lagging) serve() string {
	i := l.rng.IntN(len(l.sent))
	w := l.sent[i]
	l.sent = slices.Delete(l.sent, i, i+1)
	now, done := l.truth[w.base.Name], answer{to: w.base}
	if now != nil && now.UID == w.base.UID && now.ResourceVersion == w.base.ResourceVersion {
		done.written = l.put(w.base.Name, now.UID, w.held)
	}
	l.answers = append(l.answers, done)
	return fmt.Sprintf("serve %s %v: %t", w.base.Name, w.held, done.written != nil)
}

func (l *lagging) settle() string {
	i := l.rng.IntN(len(l.answers))
	a := l.answers[i]
	l.answers = slices.Delete(l.answers, i, i+1)
	if a.written != nil {
		l.overlay.Done(a.written)
		return "done " + a.to.Name
	}
	l.overlay.Forget(a.to.Value.Key, a.to.UID)
	return "failed " + a.to.Name
}

func (l *lagging) view() []*Record[Service] {
	var records []*Record[Service]
	for _, r := range l.shown {
		records = append(records, r)
	}
	return l.overlay.Lay(records, strconv.Itoa(l.at))
}

// otherLeader lets another replica hold the lease for a while and give an address; then this one catches up.
func (l *lagging) otherLeader(name string) string {
	if len(l.sent) > 0 {
		return "" // a write under way may still be done: the other would have to know of it
	}
	var all []*Record[Service]
	for _, r := range l.truth {
		all = append(all, r)
	}
	l.put(name, l.truth[name].UID, free(all))
	for _, r := range l.truth {
		l.overlay.Learn(r)
	}
	return "the other leader gives " + name
}

// assign gives an address that is free, by the overlay, to a Service that has none, or takes it away.
func (l *lagging) assign(name string) string {
	records := l.view()
	i := slices.IndexFunc(records, func(r *Record[Service]) bool { return r.Name == name })
	if i < 0 || l.overlay.Writing(records[i].Value.Key) {
		return ""
	}
	var held []netip.Addr
	if len(records[i].Value.Held) == 0 {
		held = free(records)
	}
	l.sent = append(l.sent, request{base: records[i], held: held})
	l.overlay.Begin(records[i], held, nil)
	return fmt.Sprintf("assign %s %v", name, held)
}

// free returns the lowest address that no record holds.
func free(records []*Record[Service]) []netip.Addr {
	for a := netip.MustParseAddr("192.0.2.1"); ; a = a.Next() {
		if !slices.ContainsFunc(records, func(r *Record[Service]) bool { return slices.Contains(r.Value.Held, a) }) {
			return []netip.Addr{a}
		}
	}
}

func TestAnAddressAssumedForAServiceIsNeverVisibleAsFree(t *testing.T) {
	for seed := range uint64(3000) {
		l := newLagging(seed)
		var steps []string
		for range 120 {
			if did := l.step(); did != "" {
				steps = append(steps, did)
			}
			if twice := l.heldTwice(); twice != "" {
				t.Fatalf("seed %d: %s\n%v", seed, twice, steps)
			}
		}
		l.catchUp()
		if len(l.overlay.ahead)+len(l.overlay.writing) > 0 {
			t.Fatalf("seed %d: everything is settled and seen, and the overlay still holds %v and %v\n%v", seed, l.overlay.ahead, l.overlay.writing, steps)
		}
	}
}

func (l *lagging) heldTwice() string {
	holder := map[netip.Addr]string{}
	for name, r := range l.truth {
		for _, a := range r.Value.Held {
			if other, held := holder[a]; held {
				return fmt.Sprintf("%s is held by %s and %s", a, name, other)
			}
			holder[a] = name
		}
	}
	return ""
}

func (l *lagging) catchUp() {
	for len(l.sent) > 0 {
		l.serve()
	}
	for len(l.answers) > 0 {
		l.settle()
	}
	for len(l.events) > 0 {
		l.informer()
	}
	l.view()
}
