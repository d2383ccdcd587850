package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Builder packs images out of a repository.
type Builder struct {
	// Repo is the repository's folder.
	Repo string
	// Version becomes the tag and a label, and what the binary says of itself.
	Version string
	// Created is the time every file and the image itself carry.
	Created time.Time
}

// Image is one that has been packed.
type Image struct {
	Reference string  // such as bellwether/speaker:dev
	Arch      string  // GOARCH
	File      string  // the tarball, in the format of docker save
	Size      int64   // of the tarball, in bytes
	Digest    v1.Hash // of the manifest
}

// Pack builds the spec for one architecture and writes its tarball into out.
// The file has its final content or does not change.
func (b Builder) Pack(ctx context.Context, s Spec, arch, out string) (Image, error) {
	binary, err := b.compile(ctx, s, arch)
	if err != nil {
		return Image{}, fmt.Errorf("packing %s for %s: %w", s.Name, arch, err)
	}
	return b.PackBinary(s, binary, arch, out)
}

// PackBinary is Pack with a binary that has been built already.
func (b Builder) PackBinary(s Spec, binary []byte, arch, out string) (Image, error) {
	packed, err := b.pack(s, binary, arch, out)
	if err != nil {
		return Image{}, fmt.Errorf("packing %s for %s: %w", s.Name, arch, err)
	}
	return packed, nil
}

func (b Builder) pack(s Spec, binary []byte, arch, out string) (Image, error) {
	ref, err := name.NewTag(s.Reference(b.Version))
	if err != nil {
		return Image{}, fmt.Errorf("naming it: %w", err)
	}
	img, err := b.assemble(s, arch, binary)
	if err != nil {
		return Image{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("computing the digest: %w", err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return Image{}, fmt.Errorf("making the output folder: %w", err)
	}
	file := filepath.Join(out, strings.ReplaceAll(s.Name, "/", "-")+"-"+arch+".tar")
	if err := writeWhole(file, func(partial string) error { return tarball.WriteToFile(partial, ref, img) }); err != nil {
		return Image{}, fmt.Errorf("writing the tarball: %w", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return Image{}, fmt.Errorf("measuring the tarball: %w", err)
	}
	return Image{s.Reference(b.Version), arch, file, info.Size(), digest}, nil
}

// writeWhole makes a file under a name that nobody else uses, and then gives it
// its own: two that pack the same image at once do not meet.
func writeWhole(file string, write func(partial string) error) error {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".partial-")
	if err != nil {
		return err
	}
	partial := filepath.Join(dir, filepath.Base(file))
	err = write(partial)
	if err == nil {
		err = os.Rename(partial, file)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// compile is the static binary of the spec's package. Version control stamps
// stay out: they would make the image depend on more than its sources.
func (b Builder) compile(ctx context.Context, s Spec, arch string) (_ []byte, err error) {
	if !s.Exists(b.Repo) {
		return nil, fmt.Errorf("package %s does not exist in %s", s.Package, filepath.Join(b.Repo, s.Module))
	}
	scratch, err := os.MkdirTemp("", "bellwether-image-")
	if err != nil {
		return nil, fmt.Errorf("making a scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	file := filepath.Join(scratch, s.binary())
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X github.com/bellwether-lb/bellwether/internal/obs.stamped="+b.Version, "-o", file, s.Package)
	cmd.Dir = filepath.Join(b.Repo, s.Module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOWORK=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w\n%s", s.Package, err, said)
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the binary: %w", err)
	}
	return binary, nil
}
