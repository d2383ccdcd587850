package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/lab"
)

const usage = `lab runs a real Kubernetes in network namespaces of this machine, apart from its network.

usage: lab [--name LAB] VERB ...

  up [--nodes N] [--ipv6=false] [--light | --kind [--node-image IMAGE]] [--neighbours N]
                          bring the lab up; says so when it is up already
  down                    take it down; leaves nothing behind, also after a crash
  status                  say what runs where
  kubectl ARGS...         run kubectl as administrator
  exec WHERE -- CMD...    run a command in a place's network namespace
  tcpdump WHERE ARGS...   watch the link of a place, or of the whole switch
  power-off NODE          power loss: link dead, every process of the node killed at once
  power-on NODE           the node boots again
  load-images FILE.tar... give every node these container images (full mode)
  deps                    install the Debian packages that the lab and the tests need

WHERE is node-1, node-2 ..., client, router, control or switch.
LAB tells labs on one machine apart; $BELLWETHER_LAB, else "lab", when it is not given.
--light leaves out kubelets and containers: up in seconds, for benchmarks and most scenarios.
--kind has kind make the nodes, as Docker containers, instead of the lab: their names are those of its workers.`

// program is one run of the command.
type program struct {
	name        string
	out, errout io.Writer
}

func run(ctx context.Context, args []string, out, errout io.Writer) error {
	p := program{name: os.Getenv("BELLWETHER_LAB"), out: out, errout: errout}
	flags := flag.NewFlagSet("lab", flag.ContinueOnError)
	flags.SetOutput(errout)
	flags.Usage = func() { fmt.Fprintln(errout, usage) }
	flags.StringVar(&p.name, "name", p.name, "")
	if err := flags.Parse(args); err != nil {
		return ignoreHelp(err)
	}
	verbs := map[string]func(context.Context, []string) error{
		"up": p.up, "down": p.down, "status": p.status, "kubectl": p.kubectl, "exec": p.exec,
		"tcpdump": p.tcpdump, "power-off": p.powerOff, "power-on": p.powerOn, "load-images": p.loadImages,
		"deps": p.deps,
	}
	verb := flags.Arg(0)
	switch do, ok := verbs[verb]; {
	case ok:
		return do(ctx, flags.Args()[1:])
	case verb == "help":
		fmt.Fprintln(out, usage)
		return nil
	case verb == "":
		return fmt.Errorf("no verb given\n\n%s", usage)
	default:
		return fmt.Errorf("there is no verb %q\n\n%s", verb, usage)
	}
}

func ignoreHelp(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

func (p *program) up(ctx context.Context, args []string) error {
	o := lab.Options{Log: p.out}
	flags := flag.NewFlagSet("lab up", flag.ContinueOnError)
	flags.SetOutput(p.errout)
	flags.StringVar(&p.name, "name", p.name, "name of the lab")
	flags.IntVar(&o.Nodes, "nodes", 3, "how many nodes")
	ipv6 := flags.Bool("ipv6", true, "IPv6 beside IPv4")
	flags.BoolVar(&o.Light, "light", false, "no kubelets and no containers")
	flags.BoolVar(&o.Kind, "kind", false, "a cluster of kind's")
	flags.StringVar(&o.NodeImage, "node-image", "", "image of kind's nodes")
	flags.IntVar(&o.NeighbourTable, "neighbours", 0, "raise the machine's limit of neighbour entries to this while the lab is up")
	if err := flags.Parse(args); err != nil {
		return ignoreHelp(err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("lab up takes no %q", flags.Arg(0))
	}
	o.Name, o.IPv4Only = p.name, !*ipv6
	if o.Nodes == 0 {
		return errors.New("a lab needs a node")
	}
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "look around with %[1]s kubectl get nodes -o wide, %[1]s exec client -- ip neigh, %[1]s tcpdump switch; end with %[1]s down\nlogs: %[2]s\n",
		p.command(), l.Dir()+"/logs")
	return nil
}

// command is how the user called this program.
func (p *program) command() string {
	if p.name == "" || p.name == lab.DefaultName {
		return "lab"
	}
	return "lab --name " + p.name
}

// named lets --name stand after the verb too, where the verb has no flags of
// its own.
func (p *program) named(args []string) []string {
	if len(args) > 0 {
		if name, ok := strings.CutPrefix(args[0], "--name="); ok {
			p.name = name
			return args[1:]
		}
		if args[0] == "--name" && len(args) > 1 {
			p.name = args[1]
			return args[2:]
		}
	}
	return args
}

func (p *program) down(ctx context.Context, args []string) error {
	if args = p.named(args); len(args) > 0 {
		return fmt.Errorf("lab down takes no %q", args[0])
	}
	if err := lab.Down(ctx, p.name); err != nil {
		return err
	}
	fmt.Fprintln(p.out, "the lab is down")
	return nil
}

func (p *program) status(ctx context.Context, args []string) error {
	p.named(args)
	l, err := lab.Open(p.name)
	if err != nil {
		return err
	}
	o := l.Options()
	fmt.Fprintf(p.out, "lab %s: %s; state in %s\n", o.Name, o, l.Dir())
	for _, where := range l.Places() {
		state := "on"
		if l.PoweredOff(where) {
			state = "off"
		}
		procs, err := l.Processes(where)
		if err != nil {
			return err
		}
		var words []string
		for _, a := range l.Addrs(where) {
			words = append(words, a.String())
		}
		fmt.Fprintf(p.out, "%-10s %-4s %s\n", where, state, strings.Join(words, " "))
		for _, proc := range procs {
			run := fmt.Sprintf("process %d", proc.PID)
			if !proc.Alive() {
				run = "ended; see " + proc.Log
			}
			fmt.Fprintf(p.out, "             %-26s %s\n", proc.Spec.Name, run)
		}
	}
	return p.runIn(ctx, l, lab.Control, l.Binary("kubectl"), "--kubeconfig="+l.Kubeconfig(), "get", "nodes", "-o", "wide")
}

func (p *program) kubectl(ctx context.Context, args []string) error {
	l, err := lab.Open(p.name)
	if err != nil {
		return err
	}
	return p.runIn(ctx, l, lab.Control, append([]string{l.Binary("kubectl"), "--kubeconfig=" + l.Kubeconfig()}, args...)...)
}

func (p *program) exec(ctx context.Context, args []string) error {
	l, where, rest, err := p.at(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return errors.New("say what to run: lab exec WHERE -- CMD ARGS")
	}
	return p.runIn(ctx, l, where, rest...)
}

func (p *program) tcpdump(ctx context.Context, args []string) error {
	l, where, rest, err := p.at(args)
	if err != nil {
		return err
	}
	on := "eth0"
	if where == lab.Switch {
		on = l.Bridge()
	}
	return p.runIn(ctx, l, where, append([]string{"tcpdump", "-i", on, "-n", "-e", "-l"}, rest...)...)
}

// at opens the lab and takes the name of a place off the arguments.
func (p *program) at(args []string) (*lab.Lab, string, []string, error) {
	l, err := lab.Open(p.name)
	if err != nil {
		return nil, "", nil, err
	}
	if len(args) == 0 {
		return nil, "", nil, fmt.Errorf("say where: one of %s", strings.Join(l.Places(), ", "))
	}
	if !slices.Contains(l.Places(), args[0]) && !l.IsBackend(args[0]) {
		return nil, "", nil, fmt.Errorf("there is no place %q in the lab: it has %s", args[0], strings.Join(l.Places(), ", "))
	}
	return l, args[0], args[1:], nil
}

// runIn runs a command in a place with this terminal.
func (p *program) runIn(ctx context.Context, l *lab.Lab, where string, args ...string) error {
	cmd := l.CommandContext(ctx, where, args...)
	// Ctrl-C reaches the command by itself: let it say its last words.
	cmd.Cancel = func() error { return nil }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, p.out, p.errout
	if err := cmd.Run(); err != nil {
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			return exit
		}
		return fmt.Errorf("run %s in %s: %w", args[0], where, err)
	}
	return nil
}

func (p *program) powerOff(ctx context.Context, args []string) error {
	return p.power(args, func(l *lab.Lab, node string) error { return l.PowerOff(ctx, node) }, "is off: its link is dead, its processes are killed")
}

func (p *program) powerOn(ctx context.Context, args []string) error {
	return p.power(args, func(l *lab.Lab, node string) error { return l.PowerOn(ctx, node) }, "is on again")
}

func (p *program) power(args []string, do func(*lab.Lab, string) error, said string) error {
	l, err := lab.Open(p.name)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return errors.New("name one node")
	}
	if err := do(l, args[0]); err != nil {
		return err
	}
	fmt.Fprintln(p.out, args[0], said)
	return nil
}

func (p *program) loadImages(ctx context.Context, args []string) error {
	l, err := lab.Open(p.name)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return errors.New("name at least one image tarball")
	}
	return l.LoadImages(ctx, args...)
}

// deps installs packages, or names those that are missing.
func (p *program) deps(ctx context.Context, _ []string) error {
	return components.InstallPackages(ctx, p.out, components.FullPackages())
}
