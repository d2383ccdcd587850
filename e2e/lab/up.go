package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/internal/sweep"
	"github.com/bellwether-lb/bellwether/e2e/internal/sysctl"
)

// Up makes a lab, or returns the one that is up when it has the same options
// and works. What an earlier Up left half made or broken is replaced. When Up
// fails or ctx ends, what it made is taken down again.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab makes network namespaces: run it as root")
	}
	l := newLab(o)
	if err := l.provision(ctx); err != nil {
		return nil, err
	}
	unlock, err := lockLab(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	up, err := l.existing(ctx)
	if err != nil || up {
		return l, err
	}
	if err := l.down(ctx); err != nil {
		return nil, fmt.Errorf("clear what an earlier lab %s left: %w", o.Name, err)
	}
	if err := l.make(ctx); err != nil {
		if context.Cause(ctx) != nil {
			fmt.Fprintln(o.Log, "interrupted; taking down what was made")
		}
		return nil, errors.Join(fmt.Errorf("bring lab %s up: %w", o.Name, err), l.down(ctx))
	}
	return l, nil
}

// provision gets the programs: Debian packages and built components.
func (l *Lab) provision(ctx context.Context) error {
	if l.opts.Kind {
		return l.provisionKind(ctx)
	}
	packages, parts := components.FullPackages(), components.Full()
	if l.opts.Light {
		packages, parts = components.LightPackages(), components.Light()
	}
	if err := components.InstallPackages(ctx, l.opts.Log, packages); err != nil {
		return fmt.Errorf("install what the lab needs: %w", err)
	}
	var err error
	l.bins, err = components.Ensure(ctx, l.opts.Log, parts...)
	return err
}

// existing reports whether a lab of this name is up and well. One that is well
// but different is an error: somebody may be using it.
func (l *Lab) existing(ctx context.Context) (bool, error) {
	old, rec, err := load(l.opts.Name)
	if errors.Is(err, ErrNoLab) {
		return false, nil
	}
	unfinished := err != nil || !rec.Ready
	if unfinished {
		fmt.Fprintf(l.opts.Log, "lab %s was left unfinished; making it anew\n", l.opts.Name)
		return false, nil
	}
	if broken := old.broken(ctx); broken != nil {
		fmt.Fprintf(l.opts.Log, "lab %s is broken (%v); making it anew\n", l.opts.Name, broken)
		return false, nil
	}
	was, want := old.opts, l.opts
	was.Log, want.Log = nil, nil
	if !reflect.DeepEqual(was, want) {
		return false, fmt.Errorf("lab %s is up already, with other options (%s): take it down first, or name another",
			l.opts.Name, old.opts)
	}
	l.bins, l.workers, l.master = old.bins, old.workers, old.master
	fmt.Fprintf(l.opts.Log, "lab %s is up already (%s)\n", l.opts.Name, old.opts)
	return true, nil
}

// String says in words what was asked for.
func (o Options) String() string {
	mode, ip := "full mode", "IPv4 and IPv6"
	if o.Light {
		mode = "light mode"
	}
	if o.Kind {
		mode = "kind's, of " + cmp.Or(o.NodeImage, "kind's own image")
	}
	if o.IPv4Only {
		ip = "IPv4 only"
	}
	return fmt.Sprintf("%d nodes, %s, %s", o.Nodes, mode, ip)
}

// broken says what is wrong with a lab that is up, nil when nothing is. A node
// that was powered off on purpose is not a fault.
func (l *Lab) broken(ctx context.Context) error {
	for _, where := range l.Places() {
		if l.opts.Kind && l.PoweredOff(where) {
			continue // its namespace went with its power
		}
		if _, ok := nsInode(l.NetNS(where)); !ok {
			return fmt.Errorf("namespace %s is gone", nsName(l.opts.Name, where))
		}
		procs, err := l.Processes(where)
		if err != nil {
			return err
		}
		for _, p := range procs {
			if !p.Alive() && !l.PoweredOff(where) && where == Control {
				return fmt.Errorf("%s ended", p.Spec.Name)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := l.apiServerReady(ctx); err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	return nil
}

// make builds the whole lab, step by step.
func (l *Lab) make(ctx context.Context) error {
	fmt.Fprintf(l.opts.Log, "lab %s: %s\n", l.opts.Name, l.opts)
	if err := sweep.Own(l.dir); err != nil {
		return err
	}
	if !l.opts.Light {
		if err := sweep.Own(l.dataDir()); err != nil {
			return err
		}
	}
	if err := l.save(false); err != nil {
		return err
	}
	if err := sysctl.Raise(ctx, l.dir, l.opts.limits()); err != nil {
		return fmt.Errorf("raise machine-wide limits: %w", err)
	}
	steps := l.ownSteps
	if l.opts.Kind {
		steps = l.kindSteps
	}
	t := newTimeline(l.opts.Log)
	for _, s := range steps(ctx) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.step(s.what, s.do); err != nil {
			return err
		}
	}
	return l.save(true)
}

// step is one of those that a lab is made in.
type step struct {
	what string
	do   func() error
}

// ownSteps make a lab in namespaces.
func (l *Lab) ownSteps(ctx context.Context) []step {
	full := func(words string) string {
		if l.opts.Light {
			return ""
		}
		return words
	}
	return []step{
		{"network: switch, nodes, client, router", l.buildNetwork},
		{"certificates and kubeconfigs", l.writeSecrets},
		{"tmpfs for etcd", l.mountData},
		{"etcd, kube-apiserver" + full(", containerd, images"), func() error { return l.startServers(ctx) }},
		{"controllers, " + full("kubelet, ") + "kube-proxy", func() error { return l.startNodes(ctx) }},
	}
}

// startServers starts the control plane and, beside it, the nodes' containerds.
func (l *Lab) startServers(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.startControlPlane(gctx) })
	if !l.opts.Light {
		g.Go(func() error { return l.startRuntimes(gctx) })
	}
	return g.Wait()
}
