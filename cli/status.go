package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

// troublesAtMost bounds the Services that a screen names.
const troublesAtMost = 20

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show pools, speakers, sessions, and what is wrong, on one screen", Args: cobra.NoArgs}
	s := newSession(cmd).prints(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		w, _, err := s.world(cmd)
		if err != nil {
			return err
		}
		o := w.Overview()
		return s.print(o, func(w io.Writer) { overview(w, o) })
	}
	return cmd
}

func overview(w io.Writer, o explain.Overview) {
	fmt.Fprintf(w, "Controller: %s\n", o.Controller)
	c := o.Services
	fmt.Fprintf(w, "Services:   %d; %d as they should be, %d with a warning, %d broken\n\n", c.Total, c.OK, c.Warning, c.Broken)
	row(w, "POOL", "IPV4 IN USE", "IPV6 IN USE", "SAYS")
	for _, p := range o.Pools {
		row(w, p.Name, usage(p.IPv4), usage(p.IPv6), p.Says)
	}
	fmt.Fprintln(w)
	row(w, "NODE", "READY", "LAYER 2", "BGP", "SAYS")
	for _, s := range o.Speakers {
		sessions := ""
		if s.Sessions > 0 {
			sessions = fmt.Sprintf("%d of %d up", s.Up, s.Sessions)
		}
		row(w, s.Node, yes(s.Ready), fmt.Sprint(s.Layer2), sessions, s.Says)
	}
	if len(o.Sessions) > 0 {
		fmt.Fprintln(w)
		row(w, "NODE", "PEER", "STATE", "BFD", "SAYS")
		for _, s := range o.Sessions {
			row(w, s.Node, s.Peer, s.State, s.BFD, s.LastError)
		}
	}
	if len(o.Troubles) > 0 {
		fmt.Fprintln(w)
		serviceTable(w, o.Troubles[:min(len(o.Troubles), troublesAtMost)])
		if left := len(o.Troubles) - troublesAtMost; left > 0 {
			fmt.Fprintf(w, "and %d more: bellwether services -A\n", left)
		}
	}
	if len(o.Problems) > 0 {
		fmt.Fprintf(w, "\n%s\n", strings.Join(o.Problems, "\n"))
	}
}

func usage(u v1beta1.Usage) string {
	if u.Total == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d", u.Assigned, u.Total)
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
