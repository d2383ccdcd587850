package main

import (
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bellwether-lb/bellwether/pkg/explain"
)

func servicesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "services", Aliases: []string{"svc"}, Short: "List Services with their addresses, pools, owners, and what is wrong", Args: cobra.NoArgs}
	s := newSession(cmd).prints(cmd)
	var all bool
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of all namespaces")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		w, _, err := s.world(cmd)
		if err != nil {
			return err
		}
		states := w.ServiceStates()
		if !all {
			key, err := s.service("service/any")
			if err != nil {
				return err
			}
			states = slices.DeleteFunc(states, func(one explain.ServiceState) bool { return one.Service.Namespace != key.Namespace })
		}
		return s.print(states, func(w io.Writer) { serviceTable(w, states) })
	}
	return cmd
}

func serviceTable(w io.Writer, states []explain.ServiceState) {
	row(w, "NAMESPACE", "SERVICE", "ADDRESS", "POOL", "ANNOUNCED BY", "STATE", "WHY")
	for _, s := range states {
		row(w, s.Service.Namespace, s.Service.Name, strings.Join(s.Addresses, ","), strings.Join(s.Pools, ","), s.Announced, string(s.State), s.Why)
	}
}
