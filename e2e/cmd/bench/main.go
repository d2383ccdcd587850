// Command bench measures Bellwether on labs. The part layer2 runs on a full one: how long a node's power loss is felt, from the
// client's side, how soon a new Service is answered for, and how much memory the programs take. The part allocation runs on a
// light one: how fast the controller is beside a bare client of the same API server, and what it costs.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"

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
	only := f.String("only", "all", "which part to measure: layer2, allocation or all")
	runs := f.Int("runs", 10, "repetitions of each measurement of layer2")
	short := f.Bool("short", false, "measure allocation with few Services and repetitions, to see that it works")
	if err := f.Parse(args); err != nil {
		return err
	}
	if !slices.Contains([]string{"layer2", "allocation", "all"}, *only) {
		return fmt.Errorf("-only is layer2, allocation or all, not %q", *only)
	}
	if os.Geteuid() != 0 {
		return errors.New("run it as root: it makes network namespaces and runs container runtimes in them")
	}
	release, err := labtest.Machine(ctx)
	if err != nil {
		return fmt.Errorf("wait for the machine: %w", err)
	}
	defer release()
	if *only != "layer2" {
		if err := onLab(ctx, allocationLab(), func(p *product.Product) error { return measureAllocation(ctx, p, os.Stdout, *short) }); err != nil {
			return err
		}
	}
	if *only != "allocation" {
		return onLab(ctx, lab.Options{Name: "bench"}, func(p *product.Product) error {
			return (&bench{Product: p, runs: *runs, out: os.Stdout}).all(ctx)
		})
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
	out  io.Writer
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
	printTable(b.out, table)
	return nil
}
