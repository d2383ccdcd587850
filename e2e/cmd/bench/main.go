// Command bench measures Bellwether on labs. Allocation is measured on a light one: how fast the controller is beside a bare client of
// the same API server, and what it costs. Segment is layer 2 on a light lab of five nodes, from the client's side: outages, planned
// moves, latencies beside the kernel's, storms, thousands of addresses, and what an idle speaker takes. Routing is BGP, as the routing table
// of a router's kernel shows it, beside a bare program that announces routes with gobgp. Layer2 is a smaller set on a
// full lab, with images and manifests.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/labtest"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	var o options
	only := f.String("only", "all", "what to measure: allocation, segment (layer 2 on five nodes), routing (BGP), layer2 (layer 2 on a whole Kubernetes), or all")
	f.IntVar(&o.runs, "runs", 20, "repetitions of each measurement of layer 2 and BGP")
	f.BoolVar(&o.short, "short", false, "measure with few Services and repetitions, to see that it works")
	list := f.String("parts", "", "what of segment, or of routing, to measure, where it is not all: "+partNames(segmentParts())+"; "+partNames(routingParts()))
	folder := f.String("publish", "", "folder to write whole measurements to, as JSON, plots and a table, beside what is there of other labs; empty: none")
	if err := f.Parse(args); err != nil {
		return err
	}
	if !slices.Contains([]string{"layer2", "segment", "routing", "allocation", "all"}, *only) {
		return fmt.Errorf("-only is allocation, segment, routing, layer2 or all, not %q", *only)
	}
	if *list != "" {
		o.parts = strings.Split(*list, ",")
	}
	if o.runs < 1 {
		return fmt.Errorf("-runs is %d: set it to 1 or more", o.runs)
	}
	out := &report{to: os.Stdout, arguments: args}
	if !o.short && len(o.parts) == 0 {
		out.folder = *folder
	}
	if os.Geteuid() != 0 {
		return errors.New("run it as root: it makes network namespaces and runs container runtimes in them")
	}
	release, err := labtest.Machine(ctx)
	if err != nil {
		return fmt.Errorf("wait for the machine: %w", err)
	}
	defer release()
	for _, m := range []struct {
		name string
		on   lab.Options
		do   func(*product.Product) error
	}{
		{"allocation", allocationLab(), func(p *product.Product) error { return measureAllocation(ctx, p, out, o.short) }},
		{"segment", segmentLab(), func(p *product.Product) error { return measureSegment(ctx, p, out, o) }},
		{"routing", routingLab(), func(p *product.Product) error { return measureRouting(ctx, p, out, o) }},
		{"layer2", lab.Options{Name: "bench"}, func(p *product.Product) error {
			return (&bench{Product: p, runs: max(o.runs/2, 1), out: out}).all(ctx)
		}},
	} {
		if *only != m.name && *only != "all" {
			continue
		}
		if err := onLab(ctx, m.on, m.do); err != nil {
			return err
		}
	}
	return nil
}

// options say how much is measured.
type options struct {
	runs  int
	short bool
	parts []string // what of segment or routing is measured; empty: all
}

// part is one thing of S that can be measured by itself.
type part[S any] struct {
	name string
	do   func(S, context.Context) error
}

func partNames[S any](all []part[S]) string {
	var names []string
	for _, p := range all {
		names = append(names, p.name)
	}
	return strings.Join(names, ",")
}

// measureParts measures those that the options name, in the order of all.
func measureParts[S any](ctx context.Context, of S, all []part[S], o options) error {
	known := strings.Split(partNames(all), ",")
	for _, name := range o.parts {
		if !slices.Contains(known, name) {
			return fmt.Errorf("-parts are some of %s here, not %q", partNames(all), name)
		}
	}
	begun := time.Now()
	for _, p := range all {
		if len(o.parts) > 0 && !slices.Contains(o.parts, p.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%5.0fs  %s\n", time.Since(begun).Seconds(), p.name)
		if err := p.do(of, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// onLab has Bellwether in a lab while something is measured.
func onLab(ctx context.Context, o lab.Options, measure func(*product.Product) error) (err error) {
	o.Log = os.Stderr
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Down(context.WithoutCancel(ctx))) }()
	p, err := product.New(l)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "installing Bellwether ...")
	if err := p.Install(ctx); err != nil {
		return err
	}
	return measure(p)
}

// bench measures one lab.
type bench struct {
	*product.Product
	runs int
	out  *report
}

const poolManifest = `{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: bench},
spec: {addresses: ["` + lab.Pool4 + `"], advertise: [L2]}}`

func serviceManifest(name string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: %s},
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}}`, name)
}

func (b *bench) all(ctx context.Context) error {
	if _, err := b.Apply(ctx, poolManifest); err != nil {
		return err
	}
	if _, err := b.Apply(ctx, serviceManifest("one")); err != nil {
		return err
	}
	addrs, err := b.Addresses(ctx, "default", "one", 1)
	if err != nil {
		return err
	}
	var table []figure
	for _, measure := range []func(context.Context, netip.Addr) ([]figure, error){b.memory, b.fresh, b.failover} {
		figures, err := measure(ctx, addrs[0])
		if err != nil {
			return err
		}
		table = append(table, figures...)
	}
	slices.SortStableFunc(table, func(a, b figure) int { return cmp.Compare(a.unit, b.unit) })
	return b.out.table("layer2", table, nil)
}
