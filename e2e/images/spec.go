// Package images packs static Go binaries into container images, without a
// container engine and without a registry. The same sources give the same
// image, byte for byte.
package images

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Spec says what goes into one image: one static binary and how it is run.
type Spec struct {
	// Name is the repository part of the image's reference, such as
	// "bellwether/speaker". The last element names the binary too.
	Name string
	// Module is the folder of the Go module that holds Package, relative to
	// the repository: "." or "e2e".
	Module string
	// Package is the main package, relative to Module: "./speaker".
	Package string
	// User is the numeric uid:gid the image asks for. The kubelet needs a
	// number to check runAsNonRoot.
	User string
	// Description is one line for people who list images.
	Description string
}

const nonRoot = "65532:65532"

// Specs is every image that this repository knows how to pack.
func Specs() []Spec {
	return []Spec{
		{"bellwether/controller", ".", "./controller", nonRoot, "Bellwether's controller: gives Services their addresses"},
		// Kubernetes hands added capabilities to uid 0 only: any other user
		// starts with an empty effective set and could not open a packet socket.
		{"bellwether/speaker", ".", "./speaker", "0:0", "Bellwether's speaker: announces the addresses of Services"},
		{"bellwether-lab/pause", "e2e", "./cmd/pause", nonRoot, "Holds a pod's namespaces open"},
		{"bellwether-lab/webserver", "e2e", "./cmd/webserver", nonRoot, "Answers HTTP with who it is and whom it saw"},
	}
}

// Select is the specs with these names, in the order of Specs, and all of them
// for no name. The part after the last slash will do as a name.
func Select(names []string) ([]Spec, error) {
	all := Specs()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []Spec
	var known []string
	found := map[string]bool{}
	for _, s := range all {
		known = append(known, s.Name)
		for _, n := range names {
			if n == s.Name || n == s.binary() {
				found[n] = true
				if !slices.Contains(chosen, s) {
					chosen = append(chosen, s)
				}
			}
		}
	}
	for _, n := range names {
		if !found[n] {
			return nil, fmt.Errorf("there is no image %q; there are %s", n, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// Exists reports whether the spec's package is there in repo.
func (s Spec) Exists(repo string) bool {
	sources, err := filepath.Glob(filepath.Join(repo, s.Module, s.Package, "*.go"))
	return err == nil && len(sources) > 0
}

// Reference is the name under which an image of this version is used in a
// manifest. A plus sign, legal in versions, is not legal in tags.
func (s Spec) Reference(version string) string {
	return s.Name + ":" + strings.ReplaceAll(version, "+", "-")
}

// binary is the file name of the program in the image.
func (s Spec) binary() string {
	return s.Name[strings.LastIndex(s.Name, "/")+1:]
}

// FindRepo is the repository that folder dir belongs to: the nearest folder
// upwards that holds both a go.mod and e2e/go.mod.
func FindRepo(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("looking for the repository: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		_, outer := os.Stat(filepath.Join(at, "go.mod"))
		_, inner := os.Stat(filepath.Join(at, "e2e", "go.mod"))
		if errors.Join(outer, inner) == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not inside Bellwether's repository", dir)
		}
	}
}
