// Command bellwether looks at Bellwether in a cluster, says what changes would do, and brings configurations to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bellwether-lb/bellwether/internal/obs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	switch {
	case errors.Is(err, errSaid):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bellwether:", err)
		os.Exit(1)
	}
}

// errSaid ends a command with 1 that has said already what is wrong.
var errSaid = errors.New("it has been said what is wrong")

func root() *cobra.Command {
	name := "bellwether"
	if strings.HasPrefix(filepath.Base(os.Args[0]), "kubectl-") {
		name = "kubectl bellwether"
	}
	root := &cobra.Command{Use: "bellwether", Short: "The LoadBalancer for Kubernetes on bare metal", Version: obs.Version(), SilenceUsage: true, SilenceErrors: true,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: name}}
	root.AddCommand(statusCommand(), servicesCommand(), explainCommand(), doctorCommand(), planCommand(), drainCommand(), undrainCommand(), migrateCommand())
	return root
}
