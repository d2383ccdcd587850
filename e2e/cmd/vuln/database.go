package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// download fetches the module with the database's sources, and returns where it is.
func download(ctx context.Context, dir, version string) (source string, err error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", "golang.org/x/vulndb@"+version)
	cmd.Dir = dir // of no module
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var got struct{ Dir, Error string }
	if err = errors.Join(err, json.Unmarshal(out, &got)); err != nil {
		return "", fmt.Errorf("download golang.org/x/vulndb@%s: %w: %s%s", version, err, got.Error, errs.String())
	}
	return got.Dir, nil
}

// entry is what is read of a vulnerability in the OSV format.
type entry struct {
	ID       string   `json:"id"`
	Modified string   `json:"modified"`
	Aliases  []string `json:"aliases,omitempty"`
	Affected []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
	} `json:"affected"`
}

// of is one vulnerability of a module, as the database's index has it.
type of struct {
	ID       string `json:"id"`
	Modified string `json:"modified"`
}

type module struct {
	Path  string `json:"path"`
	Vulns []of   `json:"vulns"`
}

// index writes a database that govulncheck reads (https://go.dev/security/vuln/database#api) out of a folder of vulnerabilities. It leaves out
// in which version each is mended, which is a hint: govulncheck reads that from the vulnerabilities.
func index(osv, db string) error {
	files, err := filepath.Glob(filepath.Join(osv, "GO-*.json"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s has no vulnerabilities", osv)
	}
	for _, dir := range []string{"ID", "index"} {
		if err := os.MkdirAll(filepath.Join(db, dir), 0o755); err != nil {
			return err
		}
	}
	var all []entry
	affected := map[string][]of{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(db, "ID", filepath.Base(file)), raw, 0o644); err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, a := range e.Affected {
			if name := a.Package.Name; !seen[name] {
				seen[name] = true
				affected[name] = append(affected[name], of{e.ID, e.Modified})
			}
		}
		e.Affected = nil
		all = append(all, e)
	}
	modules := make([]module, 0, len(affected))
	for path, vulns := range affected {
		modules = append(modules, module{path, vulns})
	}
	for name, content := range map[string]any{"db": map[string]string{"modified": all[0].Modified}, "modules": modules, "vulns": all} {
		raw, err := json.Marshal(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(db, "index", name+".json"), raw, 0o644); err != nil {
			return err
		}
	}
	return nil
}
