package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

func parseAddrs(text string) (addrs []netip.Addr, err error) {
	for field := range strings.FieldsSeq(text) {
		a, err := netip.ParseAddr(field)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// freshOnes creates Services one by one on the segment: when does each get its address, and when does ARP first answer?
func (s *segment) freshOnes(ctx context.Context) error {
	given := figure{what: "Service created -> address, by the watch (five nodes)", unit: "ms", bar: 10}
	answered := figure{what: "Service created -> first ARP reply", unit: "ms", bar: 15}
	next := netip.MustParseAddr("198.18.64.0") // first fit: the pool's first address
	for i := range max(s.runs, 5) {
		var created, seen time.Time
		record, _, err := s.probed(ctx, time.Millisecond, []netip.Addr{next}, func() (err error) {
			created = time.Now()
			if err := s.create(ctx, i, false); err != nil {
				return err
			}
			if seen, err = s.seen.one(ctx, nth(i)); err != nil {
				return err
			}
			time.Sleep(300 * time.Millisecond)
			return nil
		})
		if err != nil {
			return err
		}
		if len(record) == 0 {
			return fmt.Errorf("nobody answered for %s", next)
		}
		given.values = append(given.values, milliseconds(seen.Sub(created)))
		answered.values = append(answered.values, milliseconds(record[0].Time.Sub(created)))
		if err := s.delete(ctx, nth(i)); err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond)
	}
	s.table = append(s.table, given, answered)
	return s.empty(ctx)
}
