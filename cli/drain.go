package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
)

func drainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move what a node announces to others, and wait until it announces nothing",
		Long: "Annotates the Node with " + kube.AnnotationDrain + ", and shows what is left until the node announces nothing. Pods stay where they are: kubectl drain\n" +
			"moves those. What only this node can announce stays with it. bellwether undrain NODE takes it back.",
		Args: cobra.ExactArgs(1),
	}
	s := newSession(cmd)
	var timeout time.Duration
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := s.connect(cmd)
		if err != nil {
			return err
		}
		if err := annotate(cmd.Context(), client, args[0], "true"); err != nil {
			return err
		}
		ctx, stop := context.WithTimeout(cmd.Context(), timeout)
		defer stop()
		return s.drained(ctx, client, args[0])
	}
	return cmd
}

func undrainCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "undrain NODE", Short: "Let a node that was drained announce again", Args: cobra.ExactArgs(1)}
	s := newSession(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := s.connect(cmd)
		if err != nil {
			return err
		}
		if err := annotate(cmd.Context(), client, args[0], nil); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "node %s may announce again\n", args[0])
		return nil
	}
	return cmd
}

// annotate sets the annotation that drains a Node, or removes it where value is nil.
func annotate(ctx context.Context, client *kube.Client, node string, value any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{kube.AnnotationDrain: value}}})
	if err != nil {
		return fmt.Errorf("prepare the annotation: %w", err)
	}
	if _, err := client.Nodes.Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("annotate node %s: %w", node, err)
	}
	return nil
}

// drained shows what a node still announces until it is nothing.
func (s *session) drained(ctx context.Context, client *kube.Client, node string) error {
	last := ""
	err := poll(ctx, func() (bool, error) {
		speaker, err := client.Speakers.Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return false, fmt.Errorf("read Speaker %s: %w", node, err)
		}
		addresses, routes := int(speaker.Status.Layer2.Addresses), routesOf(speaker)
		if text := fmt.Sprintf("node %s still answers for %d addresses, and has told its routers %d routes", node, addresses, routes); text != last {
			last = text
			fmt.Fprintln(s.out, text)
		}
		return addresses == 0 && routes == 0, nil
	})
	if ctx.Err() != nil {
		fmt.Fprintf(s.said, "node %s has not come to announce nothing: see bellwether services -A for what only it can announce; it goes on trying, bellwether undrain %s takes it back\n", node, node)
		return errSaid
	}
	if err == nil {
		fmt.Fprintf(s.out, "node %s announces nothing\n", node)
	}
	return err
}

func routesOf(speaker *v1beta1.Speaker) (n int) {
	for _, session := range speaker.Status.BGP.Sessions {
		n += int(session.Advertised)
	}
	return n
}
