// Command vuln looks for known vulnerabilities in what the programs can come to call, with govulncheck. The database comes as a module,
// golang.org/x/vulndb, from where all modules come: no other server is asked.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/bellwether-lb/bellwether/e2e/product"
)

func main() {
	version := flag.String("db", "latest", "the `version` of golang.org/x/vulndb")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := check(ctx, *version)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vuln:", err)
		os.Exit(1)
	}
}

// accepted are the ones that the programs live with, and why. A new one is to be mended; where that cannot be, it is named here.
func accepted() map[string]string {
	return map[string]string{
		"GO-2026-4736": "the database names every release of gobgp v3; it is about a malformed NEXT_HOP, and no UPDATE with routes reaches gobgp (TestNothingOfARoutersRoutesIsRead)",
	}
}

func check(ctx context.Context, version string) error {
	repo, err := product.Repo()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vuln-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source, err := download(ctx, dir, version)
	if err != nil {
		return err
	}
	db := filepath.Join(dir, "db")
	if err := index(filepath.Join(source, "data", "osv"), db); err != nil {
		return fmt.Errorf("make a database of %s: %w", source, err)
	}
	found, err := scan(ctx, repo, db)
	if err != nil {
		return err
	}
	return judge(os.Stdout, found, accepted())
}
