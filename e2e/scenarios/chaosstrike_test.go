package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/routers"
)

// strike lets a fault begin, and returns what mends it: also where striking failed half way.
func (c *chaos) strike(f fault) (mend func() error, err error) {
	switch f.What {
	case serverKilled:
		return c.killed(lab.Control, lab.APIServer)
	case serverFrozen:
		return c.frozen(lab.Control, lab.APIServer)
	case etcdKilled:
		return c.killed(lab.Control, lab.Etcd)
	case etcdFrozen:
		return c.frozen(lab.Control, lab.Etcd)
	case diskFull:
		return c.Lab.FillDisk() // what dies of it is started again when it is mended
	case controllerKilled:
		return c.killed(lab.Control, f.On[0])
	case controllerFrozen:
		return c.frozen(lab.Control, f.On[0])
	case routerKilled:
		return c.startRouter, c.bird.Stop()
	case clockForward:
		return func() error { return setClock(-clockJump) }, setClock(clockJump)
	case clockBack:
		return func() error { return setClock(clockJump) }, setClock(-clockJump)
	case segmentParted:
		heal, err := c.Lab.Part(f.On...)
		if err != nil {
			return func() error { return nil }, err
		}
		return heal, nil
	default:
		return c.strikeNode(f.What, f.On[0])
	}
}

func (c *chaos) strikeNode(what, node string) (mend func() error, err error) {
	l := c.Lab
	switch what {
	case powerLost:
		return func() error { return l.PowerOn(context.Background(), node) }, l.PowerOff(c.ctx, node)
	case cablePulled:
		return func() error { return l.SetLink(node, true) }, l.SetLink(node, false)
	case interfaceDown:
		return func() error { return errors.Join(l.SetInterface(node, true), l.Readdress(node)) }, l.SetInterface(node, false)
	case interfaceAnew:
		n, err := l.Node(node)
		if err != nil {
			return func() error { return nil }, err
		}
		mac := net.HardwareAddr{0x02, 0x01, 198, 18, 0, byte(n.Index)}
		return func() error { return l.Plug(node, mac) }, l.Unplug(node)
	case speakerKilled:
		return c.killed(node, "speaker")
	case speakerFrozen:
		return c.frozen(node, "speaker")
	case speakerRestarts:
		p, err := l.Process(node, "speaker")
		if err != nil {
			return func() error { return nil }, err
		}
		return func() error { return errors.Join(p.Stop(20*time.Second), l.Restart(p)) }, p.Signal(syscall.SIGTERM)
	case drained:
		_, err := c.Kubectl(c.ctx, "annotate", "node", node, "bellwether.dev/drain=true")
		return func() error {
			_, err := c.Kubectl(context.Background(), "annotate", "node", node, "bellwether.dev/drain-")
			return err
		}, err
	case gossipBlocked:
		return c.deaf(node, noGossip)
	case bothBlocked:
		return c.deaf(node, noGossip+noHeartbeat)
	}
	return func() error { return nil }, fmt.Errorf("no such fault: %q", what)
}

func (c *chaos) killed(where, name string) (mend func() error, err error) {
	p, err := c.Lab.Process(where, name)
	if err != nil {
		return func() error { return nil }, err
	}
	return func() error { return c.Lab.Restart(p) }, p.Kill()
}

func (c *chaos) frozen(where, name string) (mend func() error, err error) {
	p, err := c.Lab.Process(where, name)
	if err != nil {
		return func() error { return nil }, err
	}
	return p.Resume, p.Pause()
}

func (c *chaos) deaf(node, rules string) (mend func() error, err error) {
	return func() error { return c.nft(context.Background(), node, undo(rules)) }, c.nft(c.ctx, node, rules)
}

const clockJump = 2 * time.Second

// setClock sets the machine's clock forward or back.
func setClock(by time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return fmt.Errorf("read the clock: %w", err)
	}
	now = unix.NsecToTimespec(now.Nano() + int64(by))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		return fmt.Errorf("set the clock by %v: %w", by, err)
	}
	return nil
}

// startRouter starts the router, with a session for each node.
func (c *chaos) startRouter() error {
	var config strings.Builder
	fmt.Fprint(&config, "router id 198.18.0.1;\nprotocol device { }\nprotocol direct { ipv4; ipv6; }\n")
	for i, a := range nodeAddrs(c.Lab, false) {
		fmt.Fprintf(&config, `protocol bgp node%d { local as 65001; neighbor %s as 64512; passive on; graceful restart on; error wait time 1, 2;
ipv4 { import all; export none; }; ipv6 { import all; export none; extended next hop on; }; }
`, i+1, a)
	}
	var err error
	c.bird, err = routers.StartBIRD(c.ctx, c.Lab, lab.Router, config.String())
	return err
}

// supervise starts processes again that have ended, as kubelet does, unless a fault is on what they are of.
func (c *chaos) supervise(open map[string]bool) {
	type unit struct{ where, name, of string }
	units := []unit{{lab.Control, lab.Etcd, theStore}, {lab.Control, lab.APIServer, theStore}}
	for _, name := range controllers() {
		units = append(units, unit{lab.Control, name, name})
	}
	for _, n := range c.Lab.Nodes() {
		units = append(units, unit{n.Name, "speaker", n.Name})
	}
	for _, u := range units {
		if open[u.of] {
			continue
		}
		p, err := c.Lab.Process(u.where, u.name)
		if err != nil {
			c.Error(err)
			continue
		}
		if p.Alive() {
			continue
		}
		c.tell("%s of %s had ended, and is started again; its last words: %s", u.name, u.where, lastLine(p.LogTail(1)))
		if err := c.Lab.Restart(p); err != nil {
			c.Error(err)
		}
	}
}

func lastLine(text string) string {
	if len(text) > 300 {
		text = text[:300]
	}
	return strings.TrimSpace(text)
}
