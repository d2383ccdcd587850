package main

import (
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// settled remembers of which Services all was said that there is to say, so that a pass over thousands of them looks only at
// those where something has changed. It is cleared when anything changes that conditions are made of besides a Service and its
// outcome.
type settled map[cluster.Key]rested

type rested struct {
	record  *serviceRecord
	ours    bool
	outcome allocator.Outcome
}

// is reports whether a Service was at rest in this version with this outcome.
func (s settled) is(r *serviceRecord, o *allocator.Outcome) bool {
	was, known := s[r.Value.Key]
	return known && was.record == r && was.ours == (o != nil) && (o == nil || was.outcome.Equal(o))
}

// note remembers that a Service is at rest. The slices of an outcome are parts of larger ones, which must not be kept.
func (s settled) note(r *serviceRecord, o *allocator.Outcome) {
	now := rested{record: r, ours: o != nil}
	if o != nil {
		now.outcome = *o
		now.outcome.Addrs, now.outcome.Pools = slices.Clone(o.Addrs), slices.Clone(o.Pools)
	}
	s[r.Value.Key] = now
}

func (s settled) clear() { clear(s) }
