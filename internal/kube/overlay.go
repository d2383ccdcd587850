package kube

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Overlay is the controller's one memory: what it knows better than the informer, laid over what the informer shows until
// that has caught up. Without it a pure allocator would act on its own stale write and give an address twice. One goroutine
// uses it.
type Overlay struct {
	ahead   map[cluster.Key]*Record[Service] // versions that the API server showed us and the informer not yet
	writing map[cluster.Key]assumption       // writes under way
}

// assumption is what a write under way will have given to a Service, if it succeeds.
type assumption struct {
	uid   types.UID
	addrs []netip.Addr
	from  []string
}

// NewOverlay returns an empty overlay.
func NewOverlay() *Overlay {
	return &Overlay{ahead: map[cluster.Key]*Record[Service]{}, writing: map[cluster.Key]assumption{}}
}

// Begin says that a write is under way which gives a Service these addresses.
func (o *Overlay) Begin(r *Record[Service], addrs []netip.Addr, from []string) {
	o.writing[r.Value.Key] = assumption{uid: r.UID, addrs: addrs, from: from}
}

// Done says what the API server answered to a write.
func (o *Overlay) Done(written *Record[Service]) {
	o.Forget(written.Value.Key, written.UID)
	o.Learn(written)
}

// Forget says that a write to this Service changed nothing. A write to another Service of that name goes on.
func (o *Overlay) Forget(key cluster.Key, uid types.UID) {
	if a, under := o.writing[key]; under && a.uid == uid {
		delete(o.writing, key)
	}
}

// Learn takes in a version of a Service that was read past the informer.
func (o *Overlay) Learn(read *Record[Service]) {
	key := read.Value.Key
	if known := o.ahead[key]; known == nil || older(known.ResourceVersion, read.ResourceVersion) {
		o.ahead[key] = read
	}
}

// Writing reports whether a write to the Service of that name is under way.
func (o *Overlay) Writing(key cluster.Key) bool {
	_, under := o.writing[key]
	return under
}

// Lay returns the records with the newer of what is known and what the informer shows, and forgets what the informer has
// caught up with. version is how far the informer was before the records were taken from it: a Service that is missing
// though the informer is that far has been deleted. Records are not changed; those under the overlay are replaced.
func (o *Overlay) Lay(records []*Record[Service], version string) []*Record[Service] {
	if len(o.ahead)+len(o.writing) == 0 {
		return records
	}
	seen := make(map[cluster.Key]struct{}, len(o.ahead))
	for i, r := range records {
		key := r.Value.Key
		if known := o.ahead[key]; known != nil {
			seen[key] = struct{}{}
			if older(r.ResourceVersion, known.ResourceVersion) {
				records[i] = known
			} else {
				delete(o.ahead, key)
			}
		}
		records[i] = o.assume(records[i])
	}
	for key, known := range o.ahead {
		if _, shown := seen[key]; shown {
			continue
		}
		if older(version, known.ResourceVersion) {
			records = append(records, o.assume(known))
		} else {
			delete(o.ahead, key)
		}
	}
	return records
}

// assume lays what a write under way will have given over a record. What it takes away counts as held until it is done: the
// write may still fail.
func (o *Overlay) assume(r *Record[Service]) *Record[Service] {
	a, under := o.writing[r.Value.Key]
	switch {
	case !under:
		return r
	case a.uid != r.UID: // deleted and made anew: the write will fail, or went with the old one
		delete(o.writing, r.Value.Key)
		return r
	}
	laid := *r
	laid.Value.Held, laid.Value.HeldFrom = slices.Clone(a.addrs), a.from
	for _, addr := range r.Value.Held {
		if !slices.Contains(a.addrs, addr) {
			laid.Value.Held = append(laid.Value.Held, addr)
		}
	}
	return &laid
}

// older reports whether resource version a is older than b. Versions that cannot be compared are taken to be current.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}
