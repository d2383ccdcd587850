// Command bellwether looks at Bellwether in a cluster, and brings configurations to it.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	root := &cobra.Command{Use: "bellwether", Short: "The LoadBalancer for Kubernetes on bare metal", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(migrateCommand())
	err := root.Execute()
	switch {
	case errors.Is(err, errRefused):
		os.Exit(1) // it has been said why
	case err != nil:
		fmt.Fprintln(os.Stderr, "bellwether:", err)
		os.Exit(1)
	}
}
