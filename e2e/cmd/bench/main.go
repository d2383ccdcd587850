// Command bench measures Bellwether on the lab: how long a node's power loss is felt, from the client's side, how soon a new
// Service is answered for, and how much memory the programs take.
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
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
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
	runs := f.Int("runs", 10, "repetitions of each measurement")
	if err := f.Parse(args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("run it as root: it makes network namespaces and runs container runtimes in them")
	}
	l, err := lab.Up(ctx, lab.Options{Name: "bench", Log: os.Stderr})
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
	return (&bench{Product: p, runs: *runs, out: os.Stdout}).all(ctx)
}

// figure is one row of the table.
type figure struct {
	what   string
	values []float64
	unit   string
}

func (f figure) String() string {
	slices.Sort(f.values)
	n := len(f.values)
	return fmt.Sprintf("%-58s %8.0f %8.0f %8.0f %-4s n=%d", f.what, f.values[0], f.values[n/2], f.values[n-1], f.unit, n)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

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
	fmt.Fprintf(b.out, "%-58s %8s %8s %8s\n", "", "min", "median", "max")
	for _, f := range table {
		fmt.Fprintln(b.out, f)
	}
	return nil
}
