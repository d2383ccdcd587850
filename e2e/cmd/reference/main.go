// Command reference writes docs/reference.md out of the CustomResourceDefinitions in a folder, to standard output.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "reference: give it the folder of the CustomResourceDefinitions")
		os.Exit(1)
	}
	if err := write(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// definition is what is read of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Names struct {
			Kind       string
			ShortNames []string
		}
		Versions []struct {
			Name   string
			Schema struct {
				OpenAPIV3Schema schema `json:"openAPIV3Schema"`
			}
		}
	}
}

// schema is what is read of an OpenAPI schema.
type schema struct {
	Description string
	Type        string
	Format      string
	Default     json.RawMessage
	Enum        []any
	Minimum     *float64
	Maximum     *float64
	Properties  map[string]schema
	Items       *schema
	Required    []string
}

func write(w io.Writer, folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "bellwether.dev_*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no CustomResourceDefinitions are in %s: %w", folder, err)
	}
	fmt.Fprintln(w, "<!-- made by make generate from config/crd -->\n# Reference\n\nAll kinds are of `bellwether.dev/v1beta1` and in no namespace. `kubectl explain` says the same.")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var d definition
		if err := yaml.Unmarshal(text, &d); err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		kind(w, d)
	}
	return nil
}

func kind(w io.Writer, d definition) {
	fmt.Fprintf(w, "\n## %s\n", d.Spec.Names.Kind)
	if short := d.Spec.Names.ShortNames; len(short) > 0 {
		fmt.Fprintf(w, "\nShort: `%s`\n", strings.Join(short, "`, `"))
	}
	for _, v := range d.Spec.Versions {
		top := v.Schema.OpenAPIV3Schema
		fmt.Fprintf(w, "\n%s\n", top.Description)
		for _, part := range []string{"spec", "status"} {
			if s, has := top.Properties[part]; has && len(s.Properties) > 0 {
				fmt.Fprintln(w, "\n| field | type | |\n|---|---|---|")
				fields(w, part, s)
			}
		}
	}
}

// fields writes a row for each field below a path.
func fields(w io.Writer, path string, s schema) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		at, of, kind := path+"."+name, p, p.Type
		if p.Type == "array" && p.Items != nil {
			at, of, kind = at+"[]", *p.Items, "list of "+p.Items.Type
		}
		fmt.Fprintf(w, "| `%s` | %s | %s |\n", at, kind, remarks(p, slices.Contains(s.Required, name)))
		known := of.Properties["matchLabels"].Type != "" || name == "conditions" // they are Kubernetes' own
		if !known {
			fields(w, at, of)
		}
	}
}

// remarks are the description and what is allowed.
func remarks(s schema, required bool) string {
	parts := []string{strings.ReplaceAll(strings.Join(strings.Fields(s.Description), " "), "|", `\|`)}
	if required {
		parts = append(parts, "Required.")
	}
	if len(s.Default) > 0 && string(s.Default) != "{}" {
		parts = append(parts, "Default: `"+string(s.Default)+"`.")
	}
	of := s
	if s.Items != nil {
		of = *s.Items
	}
	if len(of.Enum) > 0 {
		var all []string
		for _, one := range of.Enum {
			all = append(all, fmt.Sprintf("`%v`", one))
		}
		parts = append(parts, "One of "+strings.Join(all, ", ")+".")
	}
	if of.Minimum != nil && of.Maximum != nil {
		parts = append(parts, fmt.Sprintf("From %.0f to %.0f.", *of.Minimum, *of.Maximum))
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}
