package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/probe"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// segment measures layer 2 from the client's side, on a light lab of five nodes: the speakers are processes.
type segment struct {
	*allocation
	runs int
	busy time.Duration // how long the machine is kept busy
}

func segmentLab() lab.Options { return lab.Options{Name: "benchl2", Light: true, Nodes: 5} }

func segmentParts() []part[*segment] {
	return []part[*segment]{
		{"fresh", (*segment).freshOnes},
		{"latency", func(s *segment, ctx context.Context) error { return s.latency(ctx, 1) }},
		{"idle", func(s *segment, ctx context.Context) error { return s.idle(ctx, 1, 30) }},
		{"outages", (*segment).outages},
		{"moves", (*segment).moves},
		{"busy", (*segment).keepBusy},
		{"many", (*segment).withMany},
	}
}

func measureSegment(ctx context.Context, p *product.Product, out *report, o options) error {
	client, err := p.Lab.Client()
	if err != nil {
		return err
	}
	s := &segment{runs: o.runs, busy: 10 * time.Minute, allocation: &allocation{Product: p, client: client, services: client.CoreV1().Services(namespace),
		size: size{many: 2000, most: 2500}}}
	if o.short {
		s.busy, s.size = time.Minute, size{many: 200, most: 250}
	}
	if _, err := p.Apply(ctx, allocationManifest); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if s.seen, err = see(ctx, s.services); err != nil {
		return err
	}
	if err := s.pool(ctx, "L2"); err != nil {
		return err
	}
	err = measureParts(ctx, s, segmentParts(), o)
	return out.table("segment", s.table, err)
}

// single has one Service, and waits until its address is announced.
func (s *segment) single(ctx context.Context) (a netip.Addr, owner string, err error) {
	if err := s.create(ctx, 0, false); err != nil {
		return a, "", err
	}
	addrs, err := s.Addresses(ctx, namespace, nth(0), 1)
	if err != nil {
		return a, "", err
	}
	owner, err = s.ownerBut(ctx, addrs[0], "")
	time.Sleep(2 * time.Second) // the first announcements are over
	return addrs[0], owner, err
}

func (s *segment) empty(ctx context.Context) error {
	_, err := s.clear(ctx)
	return err
}

// ownerBut waits until the Speaker of a node other than one says that it answers for an address.
func (s *segment) ownerBut(ctx context.Context, a netip.Addr, but string) (string, error) {
	return s.awaitOwner(ctx, fmt.Sprintf("an owner of %s other than %q", a, but), a, func(owner string) bool { return owner != "" && owner != but })
}

func (s *segment) awaitOwner(ctx context.Context, what string, a netip.Addr, ok func(owner string) bool) (string, error) {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		owner, err := s.Owner(ctx, a)
		if err != nil {
			return "", err
		}
		if ok(owner) {
			return owner, nil
		}
	}
	return "", fmt.Errorf("waited 60 s for %s", what)
}

// probed asks for addresses from the client's place, each once an interval, while something is done, and
// says how many questions were not answered.
func (s *segment) probed(ctx context.Context, every time.Duration, addrs []netip.Addr, do func() error) (record probe.Record, unanswered int, err error) {
	prober, err := probe.NewProber(s.Lab.NetNS(lab.Client), "eth0", every, addrs...)
	if err != nil {
		return nil, 0, err
	}
	asking, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- prober.Run(asking) }()
	time.Sleep(300 * time.Millisecond)
	err = do()
	stop()
	if ended := <-done; err == nil {
		err = ended
	}
	return prober.Record(), len(prober.Unanswered()), err
}

func (s *segment) speakerOn(node string) (*lab.Process, error) { return s.Lab.Process(node, "speaker") }
