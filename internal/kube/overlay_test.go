package kube

import (
	"net/netip"
	"slices"
	"strconv"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

// version makes a record of the Service "default/name".
func version(name string, uid types.UID, rv int, held ...netip.Addr) *Record[Service] {
	r := &Record[Service]{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: uid, ResourceVersion: strconv.Itoa(rv)}}
	r.Value.Key = cluster.Key{Namespace: "default", Name: name}
	r.Value.UID, r.Value.Held = string(uid), held
	return r
}

func TestTheOverlayHidesThatTheInformerLags(t *testing.T) {
	one, two := addrs("192.0.2.1"), addrs("192.0.2.2")
	old := func() *Record[Service] { return version("s", "u1", 10) }
	for _, c := range []struct {
		name string
		do   func(o *Overlay)
		// what the informer shows: none, or one version of the Service; and how far it is
		shows *Record[Service]
		at    string
		want  []netip.Addr // what the overlay shows
		gone  bool         // the overlay shows no such Service
	}{
		{name: "nothing is known, so the informer's word stands", do: func(*Overlay) {},
			shows: version("s", "u1", 10, one...), at: "10", want: one},
		{name: "a write under way counts as done", do: func(o *Overlay) { o.Begin(old(), one, nil) },
			shows: old(), at: "10", want: one},
		{name: "what a write under way takes away is not free before it is done", do: func(o *Overlay) {
			o.Begin(version("s", "u1", 10, one...), two, nil)
		}, shows: version("s", "u1", 10, one...), at: "10", want: append(slices.Clone(two), one...)},
		{name: "a write that was answered counts until the informer shows it", do: func(o *Overlay) {
			o.Begin(old(), one, nil)
			o.Done(version("s", "u1", 11, one...))
		}, shows: old(), at: "10", want: one},
		{name: "what the informer shows later than the answer is the truth", do: func(o *Overlay) {
			o.Done(version("s", "u1", 11, one...))
		}, shows: version("s", "u1", 12, two...), at: "12", want: two},
		{name: "a write that failed is forgotten", do: func(o *Overlay) {
			o.Begin(old(), one, nil)
			o.Forget(old().Value.Key, "u1")
		}, shows: old(), at: "10"},
		{name: "the failure of a write to the last Service of that name does not end the assumption about this one", do: func(o *Overlay) {
			o.Begin(old(), one, nil)
			o.Begin(version("s", "u2", 12), two, nil)
			o.Forget(old().Value.Key, "u1")
		}, shows: version("s", "u2", 12), at: "12", want: two},
		{name: "nor does its late success", do: func(o *Overlay) {
			o.Begin(old(), one, nil)
			o.Begin(version("s", "u2", 13), two, nil)
			o.Done(version("s", "u1", 11, one...))
		}, shows: version("s", "u2", 13), at: "13", want: two},
		{name: "a write to a Service that was made anew meanwhile counts for nothing", do: func(o *Overlay) {
			o.Begin(old(), one, nil)
		}, shows: version("s", "u2", 12), at: "12"},
		{name: "a new leader believes what it read, though its informer shows an older version", do: func(o *Overlay) {
			o.Learn(version("s", "u1", 11, one...))
		}, shows: old(), at: "10", want: one},
		{name: "and though its informer shows the last Service of that name", do: func(o *Overlay) {
			o.Learn(version("s", "u2", 15, one...))
		}, shows: old(), at: "10", want: one},
		{name: "and though its informer shows no such Service yet", do: func(o *Overlay) {
			o.Learn(version("s", "u1", 11, one...))
		}, at: "10", want: one},
		{name: "but not once the informer is past that version and shows no such Service", do: func(o *Overlay) {
			o.Learn(version("s", "u1", 11, one...))
		}, at: "12", gone: true},
		{name: "what was read while a write is under way does not end the assumption", do: func(o *Overlay) {
			o.Begin(old(), one, nil)
			o.Learn(old())
		}, shows: old(), at: "10", want: one},
		{name: "an older read does not replace a newer one", do: func(o *Overlay) {
			o.Learn(version("s", "u1", 12, one...))
			o.Learn(version("s", "u1", 11, two...))
		}, shows: old(), at: "10", want: one},
		{name: "resource versions are numbers, not texts", do: func(o *Overlay) {
			o.Done(version("s", "u1", 100, one...))
		}, shows: version("s", "u1", 99), at: "99", want: one},
		{name: "what cannot be compared is taken to be current", do: func(o *Overlay) {
			o.Done(version("s", "u1", 0, one...))
		}, shows: old(), at: "10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := NewOverlay()
			c.do(o)
			for range 2 { // laying it twice changes nothing
				var records []*Record[Service]
				if c.shows != nil {
					records = append(records, c.shows)
				}
				laid := o.Lay(records, c.at)
				if c.gone {
					if len(laid) > 0 {
						t.Errorf("shows %+v, want no Service", laid[0].Value)
					}
					continue
				}
				if len(laid) != 1 || !slices.Equal(laid[0].Value.Held, c.want) {
					t.Errorf("shows %d Services, want one that holds %v: %+v", len(laid), c.want, laid)
				}
			}
		})
	}
}

func TestLayChangesNoRecord(t *testing.T) {
	o, shown := NewOverlay(), version("s", "u1", 10)
	o.Begin(shown, addrs("192.0.2.1"), []string{"pool"})
	o.Lay([]*Record[Service]{shown}, "10")
	if len(shown.Value.Held) > 0 {
		t.Error("the informer's own record was changed")
	}
}

func TestAnOverlayWithNothingToHideIsEmpty(t *testing.T) {
	o := NewOverlay()
	o.Begin(version("s", "u1", 10), addrs("192.0.2.1"), nil)
	o.Done(version("s", "u1", 11, addrs("192.0.2.1")...))
	o.Learn(version("gone", "u2", 9))
	o.Lay([]*Record[Service]{version("s", "u1", 11, addrs("192.0.2.1")...)}, "11")
	if len(o.ahead)+len(o.writing) > 0 {
		t.Errorf("the overlay still holds %+v and %+v", o.ahead, o.writing)
	}
}
