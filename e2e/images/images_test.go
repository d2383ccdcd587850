package images

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func builder(t *testing.T) Builder {
	t.Helper()
	repo, err := FindRepo(".")
	if err != nil {
		t.Fatal(err)
	}
	return Builder{Repo: repo, Version: "v1.2.3+4", Created: time.Unix(1e9, 0).UTC()}
}

func TestSameSourcesGiveTheSameBytes(t *testing.T) {
	b := builder(t)
	for _, arch := range []string{"amd64", "arm64"} {
		var files [2][]byte
		for i := range files {
			img, err := b.Pack(t.Context(), spec(t, "pause"), arch, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if files[i], err = os.ReadFile(img.File); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(files[0], files[1]) {
			t.Errorf("%s: two packs of the same sources differ", arch)
		}
	}
}

func TestOrderOfFilesDoesNotShow(t *testing.T) {
	one, two := entry{"b", 0o644, []byte("2")}, entry{"a", 0o755, []byte("1")}
	var digests [2]v1.Hash
	for i, entries := range [][]entry{{one, two}, {two, one}} {
		layer, err := pack(entries, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if digests[i], err = layer.Digest(); err != nil {
			t.Fatal(err)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("%v and %v", digests[0], digests[1])
	}
}

func TestImageSaysHowItIsRun(t *testing.T) {
	b := builder(t)
	packed, err := b.Pack(t.Context(), spec(t, "bellwether-lab/pause"), "arm64", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if packed.Reference != "bellwether-lab/pause:v1.2.3-4" || filepath.Base(packed.File) != "bellwether-lab-pause-arm64.tar" {
		t.Errorf("packed %+v", packed)
	}
	img, err := tarball.ImageFromPath(packed.File, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "arm64" || !config.Created.Equal(b.Created) {
		t.Errorf("platform %s/%s, created %v", config.OS, config.Architecture, config.Created)
	}
	if config.Config.User != "65532:65532" || strings.Join(config.Config.Entrypoint, " ") != "/pause" {
		t.Errorf("runs %v as %q", config.Config.Entrypoint, config.Config.User)
	}
	if got := config.Config.Labels["org.opencontainers.image.version"]; got != "v1.2.3+4" {
		t.Errorf("version label is %q", got)
	}
	binary := onlyFile(t, img)
	program, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	if program.Machine != elf.EM_AARCH64 {
		t.Errorf("the binary is for %v", program.Machine)
	}
	if libs, err := program.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("the binary is not static: %v %v", libs, err)
	}
}

// TestProgramsSayTheirVersion: the linker says nothing where it does not find what it is to stamp.
func TestProgramsSayTheirVersion(t *testing.T) {
	b := builder(t)
	packed, err := b.Pack(t.Context(), spec(t, "controller"), runtime.GOARCH, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(packed.File, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(onlyFile(t, img), []byte(b.Version)) {
		t.Errorf("the controller does not know that it is %s", b.Version)
	}
}

func TestEverySpecIsComplete(t *testing.T) {
	for _, s := range Specs() {
		if s.Name == "" || s.Module == "" || s.Package == "" || s.User == "" || s.Description == "" {
			t.Errorf("%+v lacks something", s)
		}
	}
}

func TestSelectNamesWhatItDoesNotKnow(t *testing.T) {
	if _, err := Select([]string{"pause", "fridge"}); err == nil || !strings.Contains(err.Error(), `"fridge"`) {
		t.Errorf("got %v", err)
	}
	got, err := Select([]string{"webserver", "bellwether/speaker", "speaker"})
	if err != nil || len(got) != 2 || got[0].Name != "bellwether/speaker" || got[1].Name != "bellwether-lab/webserver" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAMissingPackageIsNamed(t *testing.T) {
	b := builder(t)
	b.Repo = t.TempDir()
	_, err := b.Pack(t.Context(), spec(t, "speaker"), "amd64", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "package ./speaker does not exist") {
		t.Errorf("got %v", err)
	}
}

func spec(t *testing.T, name string) Spec {
	t.Helper()
	specs, err := Select([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	return specs[0]
}

// onlyFile is the content of the image's one file, which root owns and all may
// execute.
func onlyFile(t *testing.T, img v1.Image) []byte {
	t.Helper()
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	files := tar.NewReader(content)
	header, err := files.Next()
	if err != nil {
		t.Fatal(err)
	}
	if header.Mode != 0o755 || header.Uid != 0 || header.Gid != 0 {
		t.Errorf("%s has mode %o, owner %d:%d", header.Name, header.Mode, header.Uid, header.Gid)
	}
	data, err := io.ReadAll(files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("there is more than one file: %v", err)
	}
	return data
}
