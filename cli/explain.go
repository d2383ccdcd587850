package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain service/NAME",
		Short: "Say why a Service can be reached, or why it cannot",
		Long: "Walks the chain from a client to the Pods: the Service, the controller, its address, who advertises it, every node's part, who answers,\n" +
			"routers, kube-proxy, endpoints. What is broken comes first, with what mends it; the command ends with 1 then.",
		Example: "  bellwether explain service/web -n shop",
		Args:    cobra.ExactArgs(1),
	}
	s := newSession(cmd).prints(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key, err := s.service(args[0])
		if err != nil {
			return err
		}
		s.read.Also = key
		w, err := s.world(cmd)
		if err != nil {
			return err
		}
		e := w.Explain(key)
		if err := s.print(e, func(w io.Writer) { explanation(w, e) }); err != nil {
			return err
		}
		if e.State() == explain.Broken {
			return errSaid
		}
		return nil
	}
	return cmd
}

func explanation(w io.Writer, e explain.Explanation) {
	switch c := e.Cause; {
	case c == nil:
		fmt.Fprintf(w, "Service %s: %s, and nothing is wrong on the way to it.\n", e.Service, strings.Join(e.Addresses, ", "))
	default:
		fmt.Fprintf(w, "Service %s: %s: %s.\n", e.Service, c.Name, c.Says)
		if c.Fix != "" {
			fmt.Fprintf(w, "To mend it: %s\n", c.Fix)
		}
	}
	fmt.Fprintln(w)
	for _, step := range e.Steps {
		row(w, string(step.State), step.Name, step.Says)
	}
	if len(e.Nodes) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "ADDRESS", "NODE", "LAYER 2", "BGP")
	for _, n := range e.Nodes {
		row(w, n.Addr, n.Name, layer2(n), bgp(n))
	}
}

func layer2(n explain.Node) string {
	if n.Answers {
		return "answers (" + string(n.Layer2) + ")"
	}
	return string(n.Layer2)
}

func bgp(n explain.Node) string {
	if n.BGP != announce.Announced {
		return string(n.BGP)
	}
	return fmt.Sprintf("told to %d of %d: %s", len(n.Told), len(n.Peers), strings.Join(n.Peers, ", "))
}
