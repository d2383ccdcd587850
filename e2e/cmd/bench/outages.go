package main

import (
	"context"
	"net/netip"
	"time"
)

// loss is a way to lose an owner, and to mend it.
type loss struct {
	what         string
	runs         int
	strike, mend func(ctx context.Context, node string) error
	median       float64 // bars, in milliseconds
	worst        float64
}

func (s *segment) losses() []loss {
	kill := func(_ context.Context, node string) error {
		p, err := s.speakerOn(node)
		if err != nil {
			return err
		}
		return p.Kill()
	}
	restart := func(_ context.Context, node string) error {
		p, err := s.speakerOn(node)
		if err != nil {
			return err
		}
		return s.Lab.Restart(p)
	}
	nic := func(up bool) func(context.Context, string) error {
		return func(_ context.Context, node string) error { return s.Lab.SetLink(node, up) }
	}
	return []loss{
		{"owner loses power", s.runs, s.Lab.PowerOff, s.Lab.PowerOn, 250, 500},
		{"owner loses its NIC", s.runs, nic(false), nic(true), 250, 500},
		{"owner's speaker is killed", max(s.runs/4, 1), kill, restart, 250, 500},
	}
}

// outages takes owners away again and again, and asks a thousand times a second who answers.
func (s *segment) outages(ctx context.Context) error {
	a, owner, err := s.single(ctx)
	if err != nil {
		return err
	}
	for _, l := range s.losses() {
		gap := figure{what: l.what + " -> another node answers ARP", unit: "ms", bar: l.median, worst: l.worst}
		twice := figure{what: "   questions answered twice, until it is back", none: true}
		for range l.runs {
			lost, doubles, err := s.outage(ctx, l, a, owner)
			if err != nil {
				return err
			}
			gap.values = append(gap.values, milliseconds(lost))
			twice.values = append(twice.values, float64(doubles))
		}
		s.table = append(s.table, gap, twice)
	}
	return s.empty(ctx)
}

func (s *segment) outage(ctx context.Context, l loss, a netip.Addr, owner string) (time.Duration, int, error) {
	var struck, over time.Time
	record, _, err := s.probed(ctx, time.Millisecond, []netip.Addr{a}, func() error {
		struck = time.Now()
		if err := l.strike(ctx, owner); err != nil {
			return err
		}
		if _, err := s.ownerBut(ctx, a, owner); err != nil {
			return err
		}
		over = time.Now()
		if err := l.mend(ctx, owner); err != nil {
			return err
		}
		_, err := s.awaitOwner(ctx, owner+" to own "+a.String()+" again", a, func(is string) bool { return is == owner })
		time.Sleep(3500 * time.Millisecond) // longer than an old owner answers that hears no new one
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	return record.LongestGap(struck.Add(-100*time.Millisecond), over).Length(), len(record.Doubles()), nil
}
