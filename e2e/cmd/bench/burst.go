package main

import (
	"context"
	"fmt"
	"time"
)

// burst creates many Services at once, in turn for the controller and for nobody. The last turn is the controller's, and its
// Services stay.
func (a *allocation) burst(ctx context.Context, times int, how string) error {
	ours := figure{what: fmt.Sprintf("%d Services at once -> all have addresses (%s)", a.many, how), unit: "ms"}
	bare := figure{what: "   a bare client creates as many and writes their statuses", unit: "ms"}
	ratio := figure{what: "   ratio", unit: "x", bar: 1.25}
	statuses := figure{what: "   writes of services/status per Service, until settled", unit: ""}
	events := figure{what: "   writes of events per Service", unit: ""}
	total := figure{what: "   all writes of ours per Service, leases aside", unit: "", bar: 2}
	others := figure{what: "   writes to pools and Speakers, in all", unit: ""}
	for i := range times {
		var took [2]time.Duration // ours, bare
		for _, bareTurn := range []bool{(times-i)%2 != 0, (times-i)%2 == 0} {
			before, err := a.clear(ctx)
			if err != nil {
				return err
			}
			d, err := a.atOnce(ctx, a.many, bareTurn)
			if err != nil {
				return err
			}
			if bareTurn {
				took[1] = d
				continue
			}
			took[0] = d
			w, err := a.counted(ctx, before, how == "announced")
			if err != nil {
				return err
			}
			n := float64(a.many)
			statuses.values = append(statuses.values, w.of("services")/n)
			events.values = append(events.values, w.of("events")/n)
			total.values = append(total.values, w.total()/n)
			others.values = append(others.values, w.of("ipaddresspools", "l2advertisements", "speakers"))
		}
		ours.values = append(ours.values, milliseconds(took[0]))
		bare.values = append(bare.values, milliseconds(took[1]))
		ratio.values = append(ratio.values, float64(took[0])/float64(took[1]))
	}
	a.table = append(a.table, ours, bare, ratio, statuses, events, total, others)
	return nil
}

// atOnce creates so many Services where there are none, and returns how long it took until the watch showed each with an
// address.
func (a *allocation) atOnce(ctx context.Context, n int, bare bool) (time.Duration, error) {
	begun := time.Now()
	if err := parallel(ctx, n, func(ctx context.Context, i int) error { return a.create(ctx, i, bare) }); err != nil {
		return 0, err
	}
	last, err := a.seen.all(ctx, n)
	return last.Sub(begun), err
}

// counted returns what was written until nothing more is.
func (a *allocation) counted(ctx context.Context, before writes, announced bool) (writes, error) {
	if announced {
		err := a.seen.await(ctx, "all Services to be announced", func() bool { return len(a.seen.announced) == a.many })
		if err != nil {
			return nil, err
		}
	}
	after, err := a.settled(ctx)
	return after.since(before), err
}

// grow adds Services until there are so many.
func (a *allocation) grow(ctx context.Context, n int) error {
	err := parallel(ctx, n-a.many, func(ctx context.Context, i int) error { return a.create(ctx, a.many+i, false) })
	if err != nil {
		return err
	}
	if _, err := a.seen.all(ctx, n); err != nil {
		return err
	}
	_, err = a.settled(ctx)
	return err
}
