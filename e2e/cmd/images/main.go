// Command images packs Bellwether's programs into container images and says
// what it made: name, architecture, size and digest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	dir := flags.String("out", "dist/images", "folder to write the tarballs to")
	arches := flags.String("arch", "amd64,arm64", "architectures, comma separated")
	version := flags.String("version", "dev", "tag and version label")
	repo := flags.String("repo", "", "the repository (default: the one around the working folder)")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: images [flags] [NAME...]\n\nWithout a name it packs every image.")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	specs, err := images.Select(flags.Args())
	if err != nil {
		return err
	}
	if *repo == "" {
		if *repo, err = images.FindRepo("."); err != nil {
			return err
		}
	}
	created, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	builder := images.Builder{Repo: *repo, Version: *version, Created: created}
	for _, s := range specs {
		for arch := range strings.SplitSeq(*arches, ",") {
			img, err := builder.Pack(ctx, s, arch, *dir)
			if err != nil {
				return err
			}
			// A line as soon as it is true: a cold build takes a while.
			_, err = fmt.Fprintf(out, "%-28s %-6s %5.1f MB  %s\n", img.Reference, img.Arch, float64(img.Size)/1e6, img.Digest)
			if err != nil {
				return fmt.Errorf("printing: %w", err)
			}
		}
	}
	return nil
}

// sourceDate is the time that images carry: seconds since 1970 as the
// convention of reproducible builds has them, and 1970 when unset.
func sourceDate(seconds string) (time.Time, error) {
	if seconds == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(n, 0).UTC(), nil
}
