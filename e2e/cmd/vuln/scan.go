package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
)

// finding is a vulnerability that a program can come to call.
type finding struct {
	Summary, Module, Version, Fixed string
}

// scan returns what govulncheck finds, by the vulnerability's name. The standard library is that of the toolchain that go.mod names, which is
// what releases are built with.
func scan(ctx context.Context, repo, db string) (map[string]finding, error) {
	toolchain, err := toolchainOf(filepath.Join(repo, "go.mod"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile="+filepath.Join(repo, "tools", "release", "go.mod"),
		"govulncheck", "-format", "json", "-db", "file://"+db, "./...")
	cmd.Dir = repo
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+toolchain)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("govulncheck: %w: %s", err, errs.String())
	}
	return called(&out)
}

func toolchainOf(gomod string) (string, error) {
	text, err := os.ReadFile(gomod)
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^toolchain (\S+)$`).FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("%s names no toolchain", gomod)
	}
	return string(m[1]), nil
}

// message is what is read of one of govulncheck's messages.
type message struct {
	OSV *struct {
		ID      string `json:"id"`
		Summary string `json:"summary"`
	} `json:"osv"`
	Finding *struct {
		OSV   string `json:"osv"`
		Fixed string `json:"fixed_version"`
		Trace []struct {
			Module   string `json:"module"`
			Version  string `json:"version"`
			Function string `json:"function"`
		} `json:"trace"`
	} `json:"finding"`
	Progress *struct{} `json:"progress"`
}

// called reads govulncheck's messages. A finding whose trace begins with a function is one that is called; others are of modules or packages
// that are only there.
func called(messages io.Reader) (map[string]finding, error) {
	summaries, found := map[string]string{}, map[string]finding{}
	complete := false
	for d := json.NewDecoder(messages); ; {
		var m message
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read what govulncheck says: %w", err)
		}
		complete = complete || m.Progress != nil
		if m.OSV != nil {
			summaries[m.OSV.ID] = m.OSV.Summary
		}
		if f := m.Finding; f != nil && len(f.Trace) > 0 && f.Trace[0].Function != "" {
			found[f.OSV] = finding{Module: f.Trace[0].Module, Version: f.Trace[0].Version, Fixed: f.Fixed}
		}
	}
	if !complete {
		return nil, errors.New("govulncheck says nothing of having looked")
	}
	for id, f := range found {
		f.Summary = summaries[id]
		found[id] = f
	}
	return found, nil
}

// judge tells of what was found, and errs where that is not what is accepted.
func judge(out io.Writer, found map[string]finding, accepted map[string]string) error {
	bad := 0
	for _, id := range slices.Sorted(maps.Keys(found)) {
		f := found[id]
		why, is := accepted[id]
		if !is {
			bad++
			why = "raise it to " + f.Fixed
			if f.Fixed == "" {
				why = "there is no version without it"
			}
		}
		if _, err := fmt.Fprintf(out, "%s in %s %s: %s: %s\n", id, f.Module, f.Version, f.Summary, why); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d known vulnerabilities can be called", bad)
	}
	for _, id := range slices.Sorted(maps.Keys(accepted)) {
		if _, is := found[id]; !is {
			return fmt.Errorf("%s is accepted and was not found: take it out of the list", id)
		}
	}
	return nil
}
