package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// one creates Services one by one, in turn for the controller and for nobody.
func (a *allocation) one(ctx context.Context, where string, bar float64) error {
	ours := figure{what: fmt.Sprintf("Service created -> address on a watch (%s)", where), unit: "ms", bar: bar}
	bare := figure{what: "   a bare client creates one and writes its status -> address on a watch", unit: "ms"}
	for i := range 2 * a.singles {
		isBare, n := i%2 != 0, a.extra()+i
		begun := time.Now()
		if err := a.create(ctx, n, isBare); err != nil {
			return err
		}
		seen, err := a.seen.one(ctx, nth(n))
		if err != nil {
			return err
		}
		f := &ours
		if isBare {
			f = &bare
		}
		f.values = append(f.values, milliseconds(seen.Sub(begun)))
		time.Sleep(150 * time.Millisecond) // events, and what speakers do
		if err := a.delete(ctx, nth(n)); err != nil {
			return err
		}
		time.Sleep(150 * time.Millisecond)
	}
	ratio := figure{what: "   ratio of the medians", unit: "x", values: []float64{median(ours.values) / median(bare.values)}}
	a.table = append(a.table, ours, bare, ratio)
	_, err := a.settled(ctx)
	return err
}

func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

// deleteOne deletes one Service of many, again and again, and counts what is written because of it.
func (a *allocation) deleteOne(ctx context.Context, how string) error {
	services := figure{what: fmt.Sprintf("one of %d Services deleted -> writes to others (%s)", a.many, how), none: true}
	others := figure{what: "   all writes of ours"}
	before, err := a.settled(ctx)
	if err != nil {
		return err
	}
	for i := range a.deletions {
		if err := a.delete(ctx, nth(i)); err != nil {
			return err
		}
		time.Sleep(time.Second)
		after, err := a.settled(ctx)
		if err != nil {
			return err
		}
		w := after.since(before)
		services.values = append(services.values, w.of("services"))
		others.values = append(others.values, w.total())
		if err := a.create(ctx, i, false); err != nil {
			return err
		}
		if _, err := a.seen.one(ctx, nth(i)); err != nil {
			return err
		}
		if before, err = a.settled(ctx); err != nil {
			return err
		}
	}
	a.table = append(a.table, services, others)
	return nil
}
