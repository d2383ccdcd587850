package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/pkg/config"
	"github.com/bellwether-lb/bellwether/pkg/config/metallb"
)

func migrateCommand() *cobra.Command {
	migrate := &cobra.Command{Use: "migrate", Short: "Bring a configuration here from elsewhere"}
	var file string
	from := &cobra.Command{
		Use:   "metallb",
		Short: "Print MetalLB's configuration as Bellwether's",
		Long: "Prints the objects of Bellwether that say the same as those that MetalLB has in the cluster, or in a file: metallb.io objects, or the ConfigMap of\n" +
			"versions before 0.13. What a person has to know, or is not taken over, goes to standard error; where something is not taken over, the command ends with 1.\n" +
			"Of the cluster's objects it is also said whether a Service would get other addresses; the command ends with 1 where one would. Nothing is written.",
		Example: "  bellwether migrate metallb > bellwether.yaml\n  bellwether migrate metallb -f configmap.yaml > bellwether.yaml",
		Args:    cobra.NoArgs,
	}
	s := newSession(from)
	from.Flags().StringVarP(&file, "filename", "f", "", "file with the objects, as YAML or JSON, instead of the cluster's; - is standard input")
	from.RunE = func(cmd *cobra.Command, _ []string) error {
		s.out, s.said = cmd.OutOrStdout(), cmd.ErrOrStderr()
		if file == "" {
			return s.migrateFromCluster(cmd)
		}
		objects, err := readFile(file)
		if err != nil {
			return err
		}
		return migrateMetalLB(metallb.Convert(objects, yaml.YAMLToJSON), s.out, s.said, s.read.Namespace)
	}
	migrate.AddCommand(from)
	return migrate
}

// migrateFromCluster prints what MetalLB's objects in the cluster are, and says what would move with them.
func (s *session) migrateFromCluster(cmd *cobra.Command) error {
	client, err := s.connect(cmd)
	if err != nil {
		return err
	}
	s.read.MetalLB = cmp.Or(s.read.MetalLB, "metallb-system")
	r, err := client.ReadMetalLB(cmd.Context(), s.read.MetalLB)
	if err != nil {
		return err
	}
	if len(r.Manifests(s.read.Namespace)) == 0 {
		return fmt.Errorf("MetalLB has no objects in namespace %s: name its namespace with --metallb-objects", s.read.MetalLB)
	}
	refused := migrateMetalLB(r, s.out, s.said, s.read.Namespace)
	if refused != nil && !errors.Is(refused, errSaid) {
		return refused
	}
	s.read.MetalLB = ""
	w, err := client.ReadWorld(cmd.Context(), s.read)
	if apierrors.IsNotFound(err) {
		fmt.Fprintln(s.said, "Whether addresses would change is not known, as Bellwether's kinds are not there yet: kubectl apply -k config/crd, and ask again.")
		return refused
	}
	if err != nil {
		return err
	}
	moved, kept := w.Takeover(kube.United(w.Objects, r.Objects))
	fmt.Fprintf(s.said, "%d Services would keep their addresses.\n", kept)
	for _, m := range moved {
		fmt.Fprintf(s.said, "%s has %v and would have %v: %s\n", m.Service, m.From, m.To, m.Message)
	}
	if len(moved) > 0 {
		return errSaid
	}
	return refused
}

func migrateMetalLB(r metallb.Result, out, said io.Writer, namespace string) error {
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

// readFile reads the objects in a file; - is standard input.
func readFile(file string) ([]json.RawMessage, error) {
	if file == "-" {
		return readObjects(os.Stdin)
	}
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = opened.Close() }()
	return readObjects(opened)
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
