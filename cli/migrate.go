package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/bellwether-lb/bellwether/pkg/config"
	"github.com/bellwether-lb/bellwether/pkg/config/metallb"
)

func migrateCommand() *cobra.Command {
	migrate := &cobra.Command{Use: "migrate", Short: "Bring a configuration here from elsewhere"}
	var file, namespace string
	from := &cobra.Command{
		Use:   "metallb",
		Short: "Print MetalLB's configuration as Bellwether's",
		Long: "Prints the objects of Bellwether that say the same as MetalLB's: metallb.io objects, or the ConfigMap of versions before 0.13.\n" +
			"What a person has to know, or is not taken over, goes to standard error; then the command ends with 1.",
		Example: "  kubectl get -A -o yaml ipaddresspools.metallb.io,l2advertisements.metallb.io,bgppeers.metallb.io,bgpadvertisements.metallb.io,bfdprofiles.metallb.io,communities.metallb.io |\n" +
			"    bellwether migrate metallb -f - > bellwether.yaml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := io.Reader(os.Stdin)
			if file != "-" {
				opened, err := os.Open(file)
				if err != nil {
					return err
				}
				defer func() { _ = opened.Close() }()
				in = opened
			}
			return migrateMetalLB(in, cmd.OutOrStdout(), cmd.ErrOrStderr(), namespace)
		},
	}
	from.Flags().StringVarP(&file, "filename", "f", "-", "file with the objects, as YAML or JSON; - is standard input")
	from.Flags().StringVarP(&namespace, "namespace", "n", "bellwether-system", "namespace that Bellwether is in, for Secrets")
	migrate.AddCommand(from)
	return migrate
}

func migrateMetalLB(in io.Reader, out, said io.Writer, namespace string) error {
	objects, err := readObjects(in)
	if err != nil {
		return err
	}
	r := metallb.Convert(objects, yaml.YAMLToJSON)
	for _, n := range r.Notes {
		fmt.Fprintln(said, n)
	}
	refused := r.Refused()
	_, problems := config.Parse(r.Objects)
	for _, p := range problems {
		fmt.Fprintf(said, "%s %s: %s\n", p.Kind, p.Name, p.Message)
		refused = refused || p.Rejects()
	}
	for i, o := range r.Manifests(namespace) {
		text, err := manifest(o)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(out, "---")
		}
		if _, err := out.Write(text); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	if refused {
		return errSaid
	}
	return nil
}

// manifest is an object as a person would write it: without what the API server fills in.
func manifest(o any) ([]byte, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("print an object: %w", err)
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return nil, fmt.Errorf("print an object: %w", err)
	}
	delete(tree, "status")
	if meta, is := tree["metadata"].(map[string]any); is {
		delete(meta, "creationTimestamp")
	}
	return yaml.Marshal(tree)
}

// readObjects reads documents of YAML or JSON, and takes lists apart.
func readObjects(in io.Reader) ([]json.RawMessage, error) {
	var all []json.RawMessage
	documents := utilyaml.NewYAMLReader(bufio.NewReader(in))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the objects: %w", err)
		}
		raw, err := yaml.YAMLToJSON(document)
		if err != nil {
			return nil, fmt.Errorf("read the objects: %w", err)
		}
		var list struct {
			Kind  string            `json:"kind"`
			Items []json.RawMessage `json:"items"`
		}
		switch {
		case bytes.Equal(raw, []byte("null")): // comments alone
		case json.Unmarshal(raw, &list) == nil && list.Items != nil:
			all = append(all, list.Items...)
		default:
			all = append(all, raw)
		}
	}
}
