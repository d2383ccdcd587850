package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [ADDRESS]",
		Short: "Look for what keeps addresses from being reached in the whole cluster, or ask all segments for one address",
		Long: "Looks at the controller, the speakers and what they hear of each other, kube-proxy and strictARP, exclude labels, interfaces, other load balancers\n" +
			"and the objects. With an ADDRESS, every speaker asks its segments who has it (it takes portforward of Pods). Ends with 1 where something is broken.",
		Args: cobra.MaximumNArgs(1),
	}
	s := newSession(cmd).prints(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w, client, err := s.world(cmd)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return s.findings(w.Doctor(client.Surroundings(cmd.Context())))
		}
		addr, err := netip.ParseAddr(args[0])
		if err != nil {
			return fmt.Errorf("%q is not an IP address", args[0])
		}
		return s.whoHas(cmd.Context(), client, w, addr.String())
	}
	return cmd
}

func (s *session) findings(steps []explain.Step) error {
	err := s.print(steps, func(w io.Writer) {
		for _, step := range steps {
			row(w, string(step.State), step.Name, step.Says)
			if step.State != explain.OK && step.Fix != "" {
				row(w, " ", " ", "  "+step.Fix)
			}
		}
	})
	for _, step := range steps {
		if err == nil && step.State == explain.Broken {
			return errSaid
		}
	}
	return err
}

// whoHas has every speaker ask for an address.
func (s *session) whoHas(ctx context.Context, client *kube.Client, w *explain.World, address string) error {
	all := []explain.Asked{}
	for i := range w.Speakers {
		node := w.Speakers[i].Name
		pod, err := client.SpeakerPod(ctx, s.read.Namespace, node)
		var asked []explain.Asked
		if err == nil {
			err = client.AskSpeaker(ctx, pod, "/debug/who-has?address="+address, &asked)
		}
		if err != nil {
			fmt.Fprintf(s.said, "%s was not asked: %v\n", node, err)
		}
		all = append(all, asked...)
	}
	return s.print(all, func(out io.Writer) {
		row(out, "ASKED BY", "INTERFACE", "ANSWERED BY", "WHICH IS")
		for _, one := range all {
			if len(one.Stations) == 0 {
				row(out, one.Node, one.Interface, "nobody", "")
			}
			for _, mac := range one.Stations {
				row(out, one.Node, one.Interface, mac, w.NodeOf(mac))
			}
		}
	})
}
