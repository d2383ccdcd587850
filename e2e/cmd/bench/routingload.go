package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/routers"
)

// calm100 is BFD as it is to last on a machine that has too much to do.
const calm100 = `{apiVersion: bellwether.dev/v1beta1, kind: BFDProfile, metadata: {name: fast}, spec: {transmitInterval: 100, receiveInterval: 100, detectMultiplier: 3}}`

// busyBFD gives the machine more to do than it can: no BFD session is lost, and no route.
func (r *routing) busyBFD(ctx context.Context) error {
	if _, err := r.Apply(ctx, calm100); err != nil {
		return err
	}
	if err := r.until(ctx, "BFD to be slower", func() bool { return len(r.bfdSessions(ctx, "0.300")) == len(r.Lab.Nodes()) }); err != nil {
		return err
	}
	before, at := r.bfdSessions(ctx, "0.300"), time.Now()
	if err := busy(ctx, 4, r.busy); err != nil {
		return err
	}
	time.Sleep(time.Second)
	after := r.bfdSessions(ctx, "0.300")
	lost := 0
	for _, session := range before {
		if !slices.Contains(after, session) {
			lost++
		}
	}
	r.table = append(r.table,
		figure{what: "both cores busy for " + r.busy.String() + ", BFD 100 ms x 3: sessions of BFD that were lost", none: true, values: []float64{float64(lost)}},
		figure{what: "   changes of the router's routes", none: true, values: []float64{float64(len(r.fib.Since(at)))}})
	return nil
}

// bfdSessions are those that are up with this detection time, each with its peer and since when it is up.
func (r *routing) bfdSessions(ctx context.Context, timeout string) (up []string) {
	out, err := r.bird.Do(ctx, "show", "bfd", "sessions")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if slices.Contains(fields, "Up") && slices.Contains(fields, timeout) {
			up = append(up, strings.Join(fields[:len(fields)-2], " "))
		}
	}
	return up
}

// extraPeers are addresses of the router that further sessions are with.
func extraPeers() []netip.Addr {
	var all []netip.Addr
	for i := range byte(3) {
		all = append(all, netip.AddrFrom4([4]byte{198, 18, 0, 60 + i}))
	}
	return all
}

// extraRouter starts one that listens on an address of its own.
func (r *routing) extraRouter(ctx context.Context, a netip.Addr) (*routers.BIRD, error) {
	if out, err := r.Lab.CommandContext(ctx, lab.Router, "ip", "address", "add", a.String()+"/16", "dev", "eth0").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("give the router another address: %w: %s", err, out)
	}
	config := &strings.Builder{}
	fmt.Fprintf(config, "router id %s;\nprotocol device { }\n", a)
	for i, n := range r.Lab.Nodes() {
		fmt.Fprintf(config, "protocol bgp node%d { local %s as %d; strict bind on; neighbor %s as %d; passive on; ipv4 { import all; export none; }; }\n",
			i+1, a, routerASN, n.Addrs[0], speakersASN)
	}
	return routers.StartBIRD(ctx, r.Lab, lab.Router, config.String())
}

// fourPeers measures a speaker that announces everything to four routers.
func (r *routing) fourPeers(ctx context.Context) error {
	var manifests strings.Builder
	var all []*routers.BIRD
	defer func() {
		for _, router := range all {
			_ = router.Stop()
		}
	}()
	for i, a := range extraPeers() {
		router, err := r.extraRouter(ctx, a)
		if err != nil {
			return err
		}
		all = append(all, router)
		fmt.Fprintf(&manifests, "{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: extra%d}, spec: {myASN: %d, peerASN: %d, peerAddress: %s}}\n---\n", i+1, speakersASN, routerASN, a)
	}
	if _, err := r.Apply(ctx, manifests.String()); err != nil {
		return err
	}
	every := strings.TrimSpace(strings.Repeat(fmt.Sprint(r.most)+" ", 1+len(extraPeers())))
	if err := r.until(ctx, "all routes to be told to all peers", func() bool {
		for _, n := range r.Lab.Nodes() {
			out, err := r.Kubectl(ctx, "get", "speaker", n.Name, "-o", "jsonpath={.status.bgp.sessions[*].advertised}")
			if err != nil || out != every {
				return false
			}
		}
		return true
	}); err != nil {
		return err
	}
	time.Sleep(15 * time.Second)
	memory := figure{what: fmt.Sprintf("resident memory of a speaker, %d prefixes to four peers", r.most), unit: "MB", worst: 120}
	for _, n := range r.Lab.Nodes() {
		speaker, err := r.Lab.Process(n.Name, "speaker")
		if err != nil {
			return err
		}
		rss, _, err := residentOf(speaker)
		if err != nil {
			return err
		}
		memory.values = append(memory.values, rss)
	}
	r.table = append(r.table, memory)
	return nil
}
