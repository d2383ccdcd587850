package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// PowerOff is power loss: the node's link goes dead and every process of the
// node is killed at once. Nothing says goodbye.
func (l *Lab) PowerOff(ctx context.Context, node string) error {
	if _, err := l.Node(node); err != nil {
		return err
	}
	unlock, err := lockLab(ctx, l.opts.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := writeFile(l.offMark(node), nil); err != nil {
		return err
	}
	// The switch's side goes down first: what dying processes still send, such
	// as the kernel's FIN for their connections, never reaches anybody.
	if err := l.setPort(node, false); err != nil {
		return fmt.Errorf("cut the link of %s: %w", node, err)
	}
	if l.opts.Kind {
		return l.kindPowerOff(ctx, node)
	}
	places, err := l.powered(node)
	if err != nil {
		return err
	}
	if err := l.killAt(places...); err != nil {
		return fmt.Errorf("kill what runs on %s: %w", node, err)
	}
	if l.opts.Light {
		return nil
	}
	return l.machine(Node{Name: node}).PowerOff()
}

// PowerOn gives a node power again: its kernel remembers nothing, its link
// comes up, and the processes that start at boot are started.
func (l *Lab) PowerOn(ctx context.Context, node string) error {
	n, err := l.Node(node)
	if err != nil {
		return err
	}
	unlock, err := lockLab(ctx, l.opts.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if !l.PoweredOff(node) {
		return fmt.Errorf("%s has power", node)
	}
	if l.opts.Kind {
		if err := l.kindPowerOn(ctx, n); err != nil {
			return err
		}
		return os.Remove(l.offMark(node))
	}
	if err := l.forget(ctx, node); err != nil {
		return fmt.Errorf("clear what the kernel of %s remembers: %w", node, err)
	}
	if err := l.setPort(node, true); err != nil {
		return fmt.Errorf("restore the link of %s: %w", node, err)
	}
	if err := l.boot(ctx, n); err != nil {
		return err
	}
	return os.Remove(l.offMark(node))
}

// PoweredOff reports whether a node is off.
func (l *Lab) PoweredOff(node string) bool {
	_, err := os.Stat(l.offMark(node))
	return err == nil
}

func (l *Lab) offMark(node string) string { return filepath.Join(l.dir, "off", node) }

// SetLink takes a place's link to the switch down or up, as when a cable is
// pulled; its processes stay.
func (l *Lab) SetLink(where string, up bool) error {
	if err := l.setPort(where, up); err != nil {
		return fmt.Errorf("set the link of %s: %w", where, err)
	}
	return nil
}

// setPort takes the switch's end of a place's link up or down: the place sees
// its carrier come and go.
func (l *Lab) setPort(where string, up bool) error {
	port, err := l.port(where)
	if err != nil {
		return err
	}
	return InNetNS(l.NetNS(Switch), func() error { return setLink(port, up) })
}

// forget empties what a node's kernel would have lost with its power: packet
// filter rules, tracked connections, neighbours.
func (l *Lab) forget(ctx context.Context, node string) error {
	var g errgroup.Group
	for _, args := range [][]string{
		{"nft", "flush", "ruleset"},
		{"conntrack", "--flush"},
		{"ip", "neigh", "flush", "all"},
	} {
		g.Go(func() error {
			if out, err := l.CommandContext(ctx, node, args...).CombinedOutput(); err != nil {
				return fmt.Errorf("%v: %w: %s", args, err, out)
			}
			return nil
		})
	}
	return g.Wait()
}

// boot starts again what starts when the node does, in the full mode containerd
// and the kubelet first. It does not wait for the cluster to see the node ready.
func (l *Lab) boot(ctx context.Context, n Node) error {
	if !l.opts.Light {
		if err := l.startContainerd(ctx, n); err != nil {
			return err
		}
		if err := l.startPart(ctx, l.machine(n), Kubelet); err != nil {
			return err
		}
	}
	places, err := l.powered(n.Name)
	if err != nil {
		return err
	}
	var errs []error
	for _, where := range places {
		procs, err := l.Processes(where)
		errs = append(errs, err)
		for _, p := range procs {
			if p.Spec.AtPowerOn {
				errs = append(errs, l.Restart(p))
			}
		}
	}
	return errors.Join(errs...)
}

// WaitNode waits until a node works again after PowerOn: kube-proxy has written
// its rules and, where nodes have kubelets, the cluster sees the node ready. Of
// kind's nodes only the latter is asked.
func (l *Lab) WaitNode(ctx context.Context, node string) error {
	n, err := l.Node(node)
	if err != nil {
		return err
	}
	if l.opts.Kind {
		m, err := l.kindMachine(ctx, node)
		if err == nil {
			_, err = l.waitKindNode(ctx, node, m.Started.Truncate(time.Second))
		}
		return err
	}
	if !l.opts.Light {
		if err := l.waitReady(ctx, n); err != nil {
			return err
		}
	}
	return l.waitKubeProxy(ctx, n)
}
