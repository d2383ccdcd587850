package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
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
	var ask bool
	cmd.Flags().BoolVar(&ask, "ask", true, "have a speaker of another node ask the segment who answers, where that may be done (it takes portforward of Pods)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key, err := s.service(args[0])
		if err != nil {
			return err
		}
		s.read.Also = key
		e, err := s.explained(cmd, key, ask)
		if err == nil && announcing(e.Cause) {
			select {
			case <-cmd.Context().Done():
				return cmd.Context().Err()
			case <-time.After(reportLag):
			}
			e, err = s.explained(cmd, key, ask)
		}
		if err != nil {
			return err
		}
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

// reportLag is longer than it takes a speaker to announce what it is to announce, and to say so.
const reportLag = 3 * time.Second

// announcing reports whether what is wrong is that a speaker does not say that it announces: it may be about to.
func announcing(cause *explain.Step) bool {
	return cause != nil && (cause.Name == "Layer 2" || cause.Name == "BGP")
}

func (s *session) explained(cmd *cobra.Command, key cluster.Key, ask bool) (explain.Explanation, error) {
	w, client, err := s.world(cmd)
	if err != nil {
		return explain.Explanation{}, err
	}
	e := w.Explain(key)
	if ask {
		s.ask(cmd.Context(), client, w, &e)
	}
	return e, nil
}

// ask has speakers of other nodes than the owners ask for the addresses.
func (s *session) ask(ctx context.Context, client *kube.Client, w *explain.World, e *explain.Explanation) {
	for _, address := range e.Addresses {
		owners := e.Owners(address)
		if len(owners) == 0 {
			continue
		}
		asked, err := s.askFrom(ctx, client, w.Neighbours(address), owners, address)
		if err != nil {
			fmt.Fprintf(s.said, "The segment was not asked for %s: %v\n", address, err)
			continue
		}
		for _, one := range asked {
			w.Heard(e, one)
		}
	}
}

// askFrom asks from the first of some nodes that is not an owner.
func (s *session) askFrom(ctx context.Context, client *kube.Client, nodes, owners []string, address string) (asked []explain.Asked, err error) {
	err = errors.New("no other node is on it")
	for _, node := range nodes {
		if slices.Contains(owners, node) {
			continue
		}
		var pod *corev1.Pod
		if pod, err = client.SpeakerPod(ctx, s.read.Namespace, node); err != nil {
			continue
		}
		err = client.AskSpeaker(ctx, pod, "/debug/who-has?address="+address, &asked)
		return asked, err
	}
	return nil, err
}

func explanation(w io.Writer, e explain.Explanation) {
	if c := e.Cause; c == nil {
		fmt.Fprintf(w, "Service %s: %s, and nothing is wrong on the way to it.\n", e.Service, strings.Join(e.Addresses, ", "))
	} else {
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
