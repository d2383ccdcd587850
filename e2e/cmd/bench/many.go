package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/probe"
)

// withMany measures with many addresses.
func (s *segment) withMany(ctx context.Context) error {
	if err := s.read(ctx, fmt.Sprintf("read from the API server by each speaker, for each of %d Services that come", s.many), s.many,
		func() error { return s.more(ctx, 0, s.many) }); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{
		func(ctx context.Context) error { return s.idle(ctx, s.many, 45) },
		s.latencyOfMany,
		s.statusOfMany,
		s.coldStart,
		func(ctx context.Context) error { return s.more(ctx, s.many, s.most) },
		s.lossOfMany,
	} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return s.empty(ctx)
}

// more adds Services, and waits until all are announced.
func (s *segment) more(ctx context.Context, from, to int) error {
	if err := parallel(ctx, to-from, func(ctx context.Context, i int) error { return s.create(ctx, from+i, false) }); err != nil {
		return err
	}
	if err := s.seen.await(ctx, "all Services to be announced", func() bool { return len(s.seen.announced) == to }); err != nil {
		return err
	}
	time.Sleep(15 * time.Second) // what is said of new addresses for a while
	return nil
}

func (s *segment) latencyOfMany(ctx context.Context) error {
	addrs, err := s.Addresses(ctx, namespace, nth(0), 1)
	if err != nil {
		return err
	}
	owner, err := s.ownerBut(ctx, addrs[0], "")
	if err != nil {
		return err
	}
	node, err := s.Lab.Node(owner)
	if err != nil {
		return err
	}
	quiet, err := s.replies(ctx, addrs[0], node.Addrs[0], 20*time.Second)
	if err != nil {
		return err
	}
	s.table = append(s.table, quiet.figures(fmt.Sprintf("ARP reply, %d Services", s.many))...)
	return s.storm(ctx, addrs[0], owner, quiet)
}

// statusOfMany asks the command line tool how the cluster is, as the person on call does first.
func (s *segment) statusOfMany(ctx context.Context) error {
	took := figure{what: fmt.Sprintf("bellwether status, %d Services", s.many), unit: "ms", bar: 1000}
	for range 10 {
		begun := time.Now()
		out, code, err := s.CLI(ctx, "", "status")
		if err == nil && code != 0 {
			err = fmt.Errorf("bellwether status ended with %d: %s", code, out)
		}
		if err != nil {
			return err
		}
		took.values = append(took.values, milliseconds(time.Since(begun)))
	}
	s.table = append(s.table, took)
	return nil
}

// announced returns when each address was first announced since something began, as the client hears it.
func announced(record probe.Record, since time.Time) map[netip.Addr]time.Time {
	first := map[netip.Addr]time.Time{}
	for _, one := range record.Kinds(probe.ARPAnnounce) {
		if _, known := first[one.Addr]; !known && !one.Time.Before(since) {
			first[one.Addr] = one.Time
		}
	}
	return first
}

// heard records what the client hears while something is done.
func (s *segment) heard(ctx context.Context, do func() error) (probe.Record, error) {
	observer, err := probe.NewObserver(s.Lab.NetNS(lab.Client), "eth0")
	if err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- observer.Run(watching) }()
	err = do()
	stop()
	if ended := <-done; err == nil {
		err = ended
	}
	return observer.Record(), err
}

// coldStart kills all speakers and starts them again: an address is answered from its first announcement on.
func (s *segment) coldStart(ctx context.Context) error {
	all := figure{what: fmt.Sprintf("all speakers started, %d Services -> the last address is announced", s.many), unit: "ms", bar: 2000}
	for range 3 {
		for _, n := range s.Lab.Nodes() {
			p, err := s.speakerOn(n.Name)
			if err != nil {
				return err
			}
			if err := p.Kill(); err != nil {
				return err
			}
		}
		time.Sleep(2 * time.Second)
		var begun time.Time
		record, err := s.heard(ctx, func() error {
			begun = time.Now()
			for _, n := range s.Lab.Nodes() {
				p, err := s.speakerOn(n.Name)
				if err != nil {
					return err
				}
				if err := s.Lab.Restart(p); err != nil {
					return err
				}
			}
			time.Sleep(20 * time.Second)
			return nil
		})
		if err != nil {
			return err
		}
		first := announced(record, begun)
		if len(first) != s.many {
			return fmt.Errorf("%d of %d addresses were announced", len(first), s.many)
		}
		var last time.Time
		for _, at := range first {
			if at.After(last) {
				last = at
			}
		}
		all.values = append(all.values, milliseconds(last.Sub(begun)))
	}
	s.table = append(s.table, all)
	return nil
}

// lossOfMany takes the power of a node that owns hundreds of addresses.
func (s *segment) lossOfMany(ctx context.Context) error {
	last := figure{what: "owner of many loses power -> the last of its addresses is announced", unit: "ms", bar: 700, worst: 700}
	count := figure{what: "   its addresses"}
	requests := figure{what: "   requests that all programs write to the API server within 15 s of it"}
	for range 3 {
		node := s.Lab.Nodes()[0].Name
		owned, err := s.ownedBy(ctx, node)
		if err != nil {
			return err
		}
		before, err := s.settled(ctx)
		if err != nil {
			return err
		}
		var off time.Time
		record, err := s.heard(ctx, func() error {
			off = time.Now()
			if err := s.Lab.PowerOff(ctx, node); err != nil {
				return err
			}
			time.Sleep(15 * time.Second)
			return nil
		})
		if err != nil {
			return err
		}
		after, err := readWrites(ctx, s.client)
		if err != nil {
			return err
		}
		requests.values = append(requests.values, after.since(before).total())
		first := announced(record, off)
		var at time.Time
		for _, a := range owned {
			if _, is := first[a]; !is {
				return fmt.Errorf("%s was on %s, and nobody announced it within 15 s", a, node)
			}
			if first[a].After(at) {
				at = first[a]
			}
		}
		last.values = append(last.values, milliseconds(at.Sub(off)))
		count.values = append(count.values, float64(len(owned)))
		if err := s.Lab.PowerOn(ctx, node); err != nil {
			return err
		}
		if _, err := s.awaitOwner(ctx, node+" to own "+owned[0].String()+" again", owned[0], func(is string) bool { return is == node }); err != nil {
			return err
		}
		time.Sleep(20 * time.Second)
	}
	s.table = append(s.table, last, count, requests)
	return nil
}

// ownedBy returns what a node's Speaker says that it answers for.
func (s *segment) ownedBy(ctx context.Context, node string) ([]netip.Addr, error) {
	out, err := s.Kubectl(ctx, "get", "speaker", node, "-o", "jsonpath={.status.layer2.owned[*].address}")
	if err != nil {
		return nil, err
	}
	return parseAddrs(out)
}
