package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/probe"
	"github.com/bellwether-lb/bellwether/e2e/product"
	"github.com/bellwether-lb/bellwether/e2e/routers"
)

// routing measures BGP on a light lab: BIRD is the segment's router, and what counts is the routing table of its kernel. Beside it, in
// the place of the client, is a program that does nothing but announce routes with gobgp.
type routing struct {
	*allocation
	runs int
	busy time.Duration // how long the machine is kept busy

	present int // how many Services there are

	bird *routers.BIRD
	fib  *routers.FIB
	bare io.Writer
}

func routingLab() lab.Options {
	return lab.Options{Name: "benchbgp", Light: true, Nodes: 3, IPv4Only: true}
}

const (
	speakersASN = 64512
	routerASN   = 65001
	bareASN     = 64513
	bareRoute   = "203.0.113.1/32"
)

func routingParts() []part[*routing] {
	return []part[*routing]{
		{"one", func(r *routing, ctx context.Context) error { return r.one(ctx, "nothing else present") }},
		{"power", (*routing).power},
		{"traffic", (*routing).traffic},
		{"busy", (*routing).busyBFD},
		{"many", (*routing).withMany},
		{"most", (*routing).withMost},
	}
}

// withMany measures with the first thousands of Services.
func (r *routing) withMany(ctx context.Context) error {
	if err := r.more(ctx, r.many); err != nil {
		return err
	}
	if _, err := r.settled(ctx); err != nil {
		return err
	}
	if err := r.one(ctx, fmt.Sprintf("%d present", r.many)); err != nil {
		return err
	}
	return r.startWith(ctx, r.many, 500)
}

// withMost measures with as many Services as there are ever.
func (r *routing) withMost(ctx context.Context) error {
	if err := r.more(ctx, r.most); err != nil {
		return err
	}
	if err := r.startWith(ctx, r.most, 2000); err != nil {
		return err
	}
	return r.fourPeers(ctx)
}

func measureRouting(ctx context.Context, p *product.Product, out *report, o options) error {
	client, err := p.Lab.Client()
	if err != nil {
		return err
	}
	r := &routing{runs: o.runs, busy: 10 * time.Minute, allocation: &allocation{Product: p, client: client, services: client.CoreV1().Services(namespace), size: size{many: 2000, most: 10000}}}
	if o.short {
		r.busy, r.size = 30*time.Second, size{many: 100, most: 200}
	}
	if _, err := p.Apply(ctx, allocationManifest); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if r.seen, err = see(ctx, r.services); err != nil {
		return err
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	err = measureParts(ctx, r, routingParts(), o)
	return out.table("routing", r.table, err)
}

// start starts the router and the bare program, and has every node's session up.
func (r *routing) start(ctx context.Context) error {
	router, client := r.Lab.Addrs(lab.Router)[0], r.Lab.Addrs(lab.Client)[0]
	config := &strings.Builder{}
	fmt.Fprintf(config, "router id %s;\nprotocol device { }\nprotocol direct { ipv4; }\nprotocol kernel { merge paths on; ipv4 { import none; export where source = RTS_BGP; }; }\n", router)
	fmt.Fprint(config, "protocol bfd { interface \"*\" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }; }\n")
	for i, n := range r.Lab.Nodes() {
		fmt.Fprintf(config, "protocol bgp node%d { local %s as %d; strict bind on; neighbor %s as %d; passive on; bfd on; graceful restart on; error wait time 1, 2; ipv4 { import all; export none; }; }\n",
			i+1, router, routerASN, n.Addrs[0], speakersASN)
	}
	fmt.Fprintf(config, "protocol bgp bare { local %s as %d; strict bind on; neighbor %s as %d; passive on; ipv4 { import all; export none; }; }\n", router, routerASN, client, bareASN)
	var err error
	if r.bird, err = routers.StartBIRD(ctx, r.Lab, lab.Router, config.String()); err != nil {
		return err
	}
	if r.fib, err = routers.WatchFIB(ctx, r.Lab.NetNS(lab.Router)); err != nil {
		return err
	}
	for _, command := range []struct {
		where string
		args  []string
	}{
		{lab.Client, []string{"ip", "route", "replace", lab.Bulk4, "via", router.String()}},
		{lab.Router, []string{"sysctl", "-q", "net.ipv4.fib_multipath_hash_policy=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0"}},
	} {
		if out, err := r.Lab.CommandContext(ctx, command.where, command.args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", command.args, err, out)
		}
	}
	program, err := components.Program(ctx, "./cmd/bareroutes")
	if err != nil {
		return err
	}
	bare := r.Lab.CommandContext(ctx, lab.Client, program, "-own", client.String(), "-router", router.String())
	if r.bare, err = bare.StdinPipe(); err != nil {
		return err
	}
	bare.Stderr = os.Stderr
	if err := bare.Start(); err != nil {
		return fmt.Errorf("start bareroutes: %w", err)
	}
	if _, err := r.Apply(ctx, fmt.Sprintf(`{apiVersion: bellwether.dev/v1beta1, kind: BFDProfile, metadata: {name: fast}, spec: {transmitInterval: 50, receiveInterval: 50, detectMultiplier: 3}}
---
{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: router}, spec: {myASN: %d, peerASN: %d, peerAddress: %s, bfdProfile: fast, gracefulRestart: {enabled: true}}}
`, speakersASN, routerASN, router)); err != nil {
		return err
	}
	if err := r.pool(ctx, "BGP"); err != nil {
		return err
	}
	if err := r.tell("open"); err != nil {
		return err
	}
	if err := r.until(ctx, "every session to be up", func() bool {
		out, err := r.bird.Do(ctx, "show", "protocols")
		return err == nil && strings.Count(out, "Established") == len(r.Lab.Nodes())+1
	}); err != nil {
		return err
	}
	return r.until(ctx, "BFD to be up", func() bool {
		out, err := r.bird.Do(ctx, "show", "bfd", "sessions")
		return err == nil && strings.Count(out, " Up ") == len(r.Lab.Nodes()) && strings.Count(out, "0.150") == len(r.Lab.Nodes())
	})
}

func (r *routing) tell(line string) error {
	_, err := fmt.Fprintln(r.bare, line)
	return err
}

func (r *routing) until(ctx context.Context, what string, is func() bool) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if is() {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("waited %s for %s", patience, what)
}

// appears waits for the first route that the router has over a next hop since something.
func (r *routing) appears(ctx context.Context, since time.Time, hop netip.Addr) (routers.Change, error) {
	var found routers.Change
	err := r.until(ctx, "a route over "+hop.String(), func() bool {
		for _, c := range r.fib.Since(since) {
			if slices.Contains(c.NextHop, hop) {
				found = c
				return true
			}
		}
		return false
	})
	return found, err
}

// one measures a single Service, and a single path of the bare program, in turn.
func (r *routing) one(ctx context.Context, where string) error {
	ours := figure{what: fmt.Sprintf("Service created -> route in the router's kernel (%s)", where), unit: "ms"}
	given := figure{what: "   until its address is on a watch", unit: "ms"}
	bare := figure{what: "   a path added to a bare gobgp -> the same", unit: "ms"}
	node, client := r.Lab.Nodes()[0].Addrs[0], r.Lab.Addrs(lab.Client)[0]
	for i := range r.runs {
		at := time.Now()
		if err := r.create(ctx, r.extra()+i, false); err != nil {
			return err
		}
		seen, err := r.seen.one(ctx, nth(r.extra()+i))
		if err != nil {
			return err
		}
		given.values = append(given.values, milliseconds(seen.Sub(at)))
		c, err := r.appears(ctx, at, node)
		if err != nil {
			return err
		}
		ours.values = append(ours.values, milliseconds(c.At.Sub(at)))
		time.Sleep(300 * time.Millisecond)
		at = time.Now()
		if err := r.tell("add " + bareRoute); err != nil {
			return err
		}
		if c, err = r.appears(ctx, at, client); err != nil {
			return err
		}
		bare.values = append(bare.values, milliseconds(c.At.Sub(at)))
		if err := r.tell("delete " + bareRoute); err != nil {
			return err
		}
		if err := r.delete(ctx, nth(r.extra()+i)); err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond)
	}
	over := figure{what: "   over it, of the medians", unit: "ms", bar: 30, values: []float64{median(ours.values) - median(bare.values)}}
	r.table = append(r.table, ours, given, bare, over)
	return nil
}

// power takes a node's power: its routes are gone when BFD has missed three packets.
func (r *routing) power(ctx context.Context) error {
	gone := figure{what: "node loses power, BFD 50 ms x 3 -> its route is gone from the router's kernel", unit: "ms", worst: 300}
	node := r.Lab.Nodes()[1]
	hop := node.Addrs[0]
	if err := r.more(ctx, 1); err != nil {
		return err
	}
	for range r.runs {
		if err := r.until(ctx, "a route over "+node.Name, func() bool { return r.fib.Over(hop) == 1 && r.fib.Over(r.Lab.Nodes()[0].Addrs[0]) == 1 }); err != nil {
			return err
		}
		time.Sleep(2 * time.Second) // BFD has agreed on its timers
		off := time.Now()
		if err := r.Lab.PowerOff(ctx, node.Name); err != nil {
			return err
		}
		if err := r.until(ctx, "no route over "+node.Name, func() bool { return r.fib.Over(hop) == 0 }); err != nil {
			return err
		}
		for _, c := range r.fib.Since(off) {
			if !slices.Contains(c.NextHop, hop) {
				gone.values = append(gone.values, milliseconds(c.At.Sub(off)))
				break
			}
		}
		if err := r.Lab.PowerOn(ctx, node.Name); err != nil {
			return err
		}
	}
	r.table = append(r.table, gone)
	return r.until(ctx, "a route over "+node.Name, func() bool { return r.fib.Over(hop) == 1 })
}

// traffic asks a Service over HTTP, through the router, while a node goes as planned, and while its speaker is killed and comes back.
func (r *routing) traffic(ctx context.Context) error {
	for _, n := range r.Lab.Nodes() {
		if _, err := r.AddBackend(ctx, n.Name); err != nil {
			return err
		}
	}
	if _, err := r.Apply(ctx, fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: web, namespace: %s},
spec: {type: LoadBalancer, selector: {app: bench}, ports: [{port: 80, targetPort: 8080}]}}`, namespace)); err != nil {
		return err
	}
	addrs, err := r.Addresses(ctx, namespace, "web", 1)
	if err != nil {
		return err
	}
	client := r.Lab.HTTPClient(lab.Client, 3*time.Second)
	if err := r.until(ctx, "the Service to answer", func() bool {
		resp, err := client.Get("http://" + addrs[0].String() + "/") //nolint:noctx // it has a timeout
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return r.fib.Over(r.Lab.Nodes()[1].Addrs[0]) == r.present+1
	}); err != nil {
		return err
	}
	node := r.Lab.Nodes()[1]
	speaker, err := r.Lab.Process(node.Name, "speaker")
	if err != nil {
		return err
	}
	for _, c := range []struct {
		what string
		do   func() error
	}{
		{"a node drained, and back", func() error {
			if _, err := r.Kubectl(ctx, "annotate", "node", node.Name, "bellwether.dev/drain=true"); err != nil {
				return err
			}
			if err := r.until(ctx, "the node to be left", func() bool { return r.fib.Over(node.Addrs[0]) == 0 }); err != nil {
				return err
			}
			time.Sleep(2 * time.Second)
			if _, err := r.Kubectl(ctx, "annotate", "node", node.Name, "bellwether.dev/drain-"); err != nil {
				return err
			}
			return r.until(ctx, "the node to be back", func() bool { return r.fib.Over(node.Addrs[0]) == r.present+1 })
		}},
		{"a speaker killed and started again (graceful restart)", func() error {
			if err := speaker.Kill(); err != nil {
				return err
			}
			time.Sleep(time.Second)
			if err := r.Lab.Restart(speaker); err != nil {
				return err
			}
			time.Sleep(8 * time.Second)
			return nil
		}},
	} {
		asked := probe.NewHTTP(client, "http://"+addrs[0].String()+"/", httpInterval)
		asking, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- asked.Run(asking) }()
		time.Sleep(time.Second)
		err := c.do()
		time.Sleep(time.Second)
		stop()
		if ended := <-done; err == nil {
			err = ended
		}
		if err != nil {
			return err
		}
		lost, rehashed := 0, 0
		outcomes := asked.Outcomes()
		for _, o := range outcomes {
			switch {
			case o.OK():
			case r.fib.Rehashed(o.Start, o.End):
				rehashed++
			default:
				lost++
			}
		}
		r.table = append(r.table,
			figure{what: fmt.Sprintf("%s: of %d requests through the router lost", c.what, len(outcomes)), none: true, values: []float64{float64(lost)}},
			figure{what: "   and broken by the router, which shares open connections out anew when its routes change", values: []float64{float64(rehashed)}})
	}
	_, err = r.Kubectl(ctx, "delete", "service", "web", "-n", namespace)
	return err
}

// httpInterval is that of requests, each on a connection of its own.
const httpInterval = 2 * time.Millisecond

// AddBackend adds a web server on a node.
func (r *routing) AddBackend(ctx context.Context, node string) (*lab.Backend, error) {
	return r.Lab.AddBackend(ctx, lab.BackendSpec{Name: "web-" + node, Namespace: namespace, Node: node, Labels: map[string]string{"app": "bench"}})
}

// more creates Services until there are as many, and waits until a node's routes to all are in the router's kernel.
func (r *routing) more(ctx context.Context, to int) error {
	from := r.present
	if err := parallel(ctx, to-from, func(ctx context.Context, i int) error { return r.create(ctx, from+i, false) }); err != nil {
		return err
	}
	r.present = to
	hop := r.Lab.Nodes()[0].Addrs[0]
	return r.until(ctx, "all routes", func() bool { return r.fib.Over(hop) >= to })
}

// startWith restarts a speaker: from its session's first route in the router's kernel to the last.
func (r *routing) startWith(ctx context.Context, n int, bar float64) error {
	all := figure{what: fmt.Sprintf("speaker started with %d Services: first route -> all are in the router's kernel", n), unit: "ms", bar: bar}
	memory := figure{what: "   resident memory of the speaker", unit: "MB"}
	node := r.Lab.Nodes()[2]
	hop := node.Addrs[0]
	speaker, err := r.Lab.Process(node.Name, "speaker")
	if err != nil {
		return err
	}
	for range 3 {
		if err := r.until(ctx, "all routes over "+node.Name, func() bool { return r.fib.Over(hop) >= n }); err != nil {
			return err
		}
		time.Sleep(2 * time.Second)
		if err := r.Lab.SetLink(node.Name, false); err != nil { // so that BFD takes the routes away, instead of graceful restart keeping them
			return err
		}
		if err := r.until(ctx, "no route over "+node.Name, func() bool { return r.fib.Over(hop) == 0 }); err != nil {
			return err
		}
		if err := speaker.Kill(); err != nil {
			return err
		}
		if err := r.Lab.SetLink(node.Name, true); err != nil {
			return err
		}
		at := time.Now()
		if err := r.Lab.Restart(speaker); err != nil {
			return err
		}
		if err := r.until(ctx, "all routes over "+node.Name, func() bool { return r.fib.Over(hop) >= n }); err != nil {
			return err
		}
		var first, last time.Time
		for _, c := range r.fib.Since(at) {
			if !slices.Contains(c.NextHop, hop) {
				continue
			}
			if first.IsZero() {
				first = c.At
			}
			last = c.At
		}
		all.values = append(all.values, milliseconds(last.Sub(first)))
	}
	if speaker, err = r.Lab.Process(node.Name, "speaker"); err != nil {
		return err
	}
	time.Sleep(15 * time.Second)
	rss, _, err := residentOf(speaker)
	if err != nil {
		return err
	}
	memory.values = []float64{rss}
	r.table = append(r.table, all, memory)
	return nil
}
