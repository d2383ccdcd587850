package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"

	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

// session is a command that looks at a cluster: how it is reached, and how what is found is printed.
type session struct {
	config *genericclioptions.ConfigFlags
	output string
	read   kube.Reading
	out    io.Writer
	said   io.Writer
}

// newSession gives a command the flags that all those have which look at a cluster.
func newSession(cmd *cobra.Command) *session {
	s := &session{config: genericclioptions.NewConfigFlags(true)}
	f := cmd.Flags()
	s.config.AddFlags(f)
	f.StringVar(&s.read.Namespace, "bellwether-namespace", "bellwether-system", "namespace that Bellwether runs in")
	f.StringVar(&s.read.Class, "load-balancer-class", kube.DefaultLoadBalancerClass, "the loadBalancerClass that is Bellwether's, as its controller has it")
	f.StringVar(&s.read.MetalLB, "metallb-objects", "", "namespace of MetalLB's objects, where Bellwether runs on them")
	f.DurationVar(&s.read.NotReadyDelay, "not-ready-delay", time.Minute, "how long a node may be not Ready before that counts, as the speakers have it")
	return s
}

// prints adds -o.
func (s *session) prints(cmd *cobra.Command) *session {
	cmd.Flags().StringVarP(&s.output, "output", "o", "", "json or yaml, instead of a table")
	return s
}

// connect prepares a client; nothing is sent yet.
func (s *session) connect(cmd *cobra.Command) (*kube.Client, error) {
	s.out, s.said = cmd.OutOrStdout(), cmd.ErrOrStderr()
	if s.output != "" && s.output != "json" && s.output != "yaml" {
		return nil, fmt.Errorf("-o is json or yaml, not %q", s.output)
	}
	cfg, err := s.config.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	cfg.UserAgent, cfg.QPS = "bellwether", -1
	return kube.NewClient(cfg)
}

// world reads the cluster, and returns how to ask it more.
func (s *session) world(cmd *cobra.Command) (*explain.World, *kube.Client, error) {
	client, err := s.connect(cmd)
	if err != nil {
		return nil, nil, err
	}
	w, err := client.ReadWorld(cmd.Context(), s.read)
	return w, client, err
}

// service reads which Service is meant: NAME, service/NAME or svc/NAME in the namespace of the flags, or of the kubeconfig.
func (s *session) service(text string) (cluster.Key, error) {
	kind, name, has := strings.Cut(text, "/")
	if !has {
		kind, name = "service", text
	}
	if kind != "service" && kind != "svc" && kind != "services" || name == "" {
		return cluster.Key{}, fmt.Errorf("%q is not a Service: write service/NAME, and -n NAMESPACE", text)
	}
	namespace, _, err := s.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return cluster.Key{}, fmt.Errorf("read the kubeconfig: %w", err)
	}
	return cluster.Key{Namespace: namespace, Name: name}, nil
}

// print writes a value as -o says, or else as a person reads it.
func (s *session) print(value any, table func(w io.Writer)) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if s.output == "yaml" && err == nil {
		text, err = yaml.JSONToYAML(text)
	}
	switch {
	case err != nil:
		return fmt.Errorf("print: %w", err)
	case s.output != "":
		_, err = fmt.Fprintln(s.out, strings.TrimSuffix(string(text), "\n"))
		return err
	}
	w := printers.GetNewTabWriter(s.out)
	table(w)
	return w.Flush()
}

// row writes cells, "-" for empty ones.
func row(w io.Writer, cells ...string) {
	for i := range cells {
		if cells[i] == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// poll calls until it says that it is over, at a pace that the API server does not notice.
func poll(ctx context.Context, over func() (bool, error)) error {
	for {
		done, err := over()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
