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

// vulnerability is what is read of one in the OSV format, and what the index says of it.
type vulnerability struct {
	ID       string `json:"id"`
	Affected []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
	} `json:"affected,omitempty"`
}

type module struct {
	Path  string          `json:"path"`
	Vulns []vulnerability `json:"vulns"`
}

// index makes a database of a folder of vulnerabilities, as far as govulncheck reads it (https://go.dev/security/vuln/database#api): which
// there are of a module; in which versions, it reads from the vulnerabilities themselves.
func index(osv, db string) error {
	files, err := filepath.Glob(filepath.Join(osv, "GO-*.json"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s has no vulnerabilities", osv)
	}
	of := map[string][]vulnerability{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var v vulnerability
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		seen := map[string]bool{}
		for _, a := range v.Affected {
			if name := a.Package.Name; !seen[name] {
				seen[name] = true
				of[name] = append(of[name], vulnerability{ID: v.ID})
			}
		}
	}
	modules := make([]module, 0, len(of))
	for path, vulns := range of {
		modules = append(modules, module{path, vulns})
	}
	raw, err := json.Marshal(modules)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Join(db, "index"), 0o755), os.Symlink(osv, filepath.Join(db, "ID")),
		os.WriteFile(filepath.Join(db, "index", "modules.json"), raw, 0o644),
		os.WriteFile(filepath.Join(db, "index", "db.json"), []byte(`{"modified":"0001-01-01T00:00:00Z"}`), 0o644)) // as the module says of each
}
