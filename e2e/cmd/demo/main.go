// Command demo shows what Bellwether does, on a real Kubernetes that it brings up in network namespaces of this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		fmt.Fprintln(os.Stderr, "what is there can be looked at with make lab ARGS=status, and taken down with make demo-down")
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out *os.File) error {
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	name := f.String("name", "demo", "name of the lab")
	down := f.Bool("down", false, "take the demo's lab down")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *down {
		return takeDown(ctx, *name, out)
	}
	if os.Geteuid() != 0 {
		return errors.New("run it as root: it makes network namespaces and runs container runtimes in them")
	}
	started := time.Now()
	s := newStage(out)
	s.title("Bellwether: a real address for a Service of type LoadBalancer, on bare metal")
	s.say("Everything happens in network namespaces of this machine; nothing touches its own network.")

	s.act("A cluster: three nodes, a client beside them, on one Ethernet segment")
	l, err := lab.Up(ctx, lab.Options{Name: *name, Log: s.detail()})
	if err != nil {
		return err
	}
	p, err := product.New(l)
	if err != nil {
		return err
	}
	play := &play{stage: s, product: p}
	for _, scene := range []func(context.Context) error{
		play.install, play.pool, play.service, play.reach, play.failover, play.comeback,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	play.farewell(time.Since(started))
	return nil
}

func takeDown(ctx context.Context, name string, out io.Writer) error {
	l, err := lab.Open(name)
	if errors.Is(err, lab.ErrNoLab) {
		fmt.Fprintln(out, "no demo is up")
		return nil
	}
	if err != nil {
		return err
	}
	if err := l.Down(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "the demo is down; nothing of it is left")
	return nil
}
