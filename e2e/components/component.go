// Package components builds the programs that the lab runs (Kubernetes, etcd,
// containerd, runc) and that scenarios try it with, from their Go modules, once per version, into a cache
// outside the repository, and installs the Debian packages the lab needs.
package components

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Component is one upstream project, pinned by a Go module of its own beside
// this file, and the commands that are built from it.
type Component struct {
	Name     string   // also the folder that holds its go.mod and go.sum
	Module   string   // the module whose version is the component's version
	Packages []string // what "go build" is asked for
	Commands []string // the files that must exist afterwards
	Cgo      bool
	Tags     []string
	// Stamp lists linker variables that carry the version. %s is the version
	// as "v1.2.3".
	Stamp []string
}

// Kubernetes is the control plane, kubelet, kube-proxy, kubectl, and the kubeadm of kind's nodes.
func Kubernetes() Component {
	const pkg = "k8s.io/component-base/version."
	return Component{
		Name: "kubernetes", Module: "k8s.io/kubernetes", Packages: []string{"tool"},
		Commands: []string{
			"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "kubeadm",
		},
		Stamp: []string{pkg + "gitVersion=%s", pkg + "gitMajor=1", pkg + "gitMinor=%m"},
	}
}

// Etcd is the store under the API server.
func Etcd() Component {
	return Component{
		Name: "etcd", Module: "go.etcd.io/etcd/server/v3", Packages: []string{"."}, Commands: []string{"etcd"},
	}
}

// Containerd is the container runtime, its runc shim, and ctr.
func Containerd() Component {
	return Component{
		Name: "containerd", Module: "github.com/containerd/containerd/v2", Packages: []string{"tool"},
		Commands: []string{"containerd", "containerd-shim-runc-v2", "ctr"},
		Tags:     []string{"no_btrfs", "no_zfs", "no_devmapper"},
		Stamp:    []string{"github.com/containerd/containerd/v2/version.Version=%s"},
	}
}

// Runc is the OCI runtime. It needs a C compiler and libseccomp's headers.
func Runc() Component {
	return Component{
		Name: "runc", Module: "github.com/opencontainers/runc", Packages: []string{"tool"},
		Commands: []string{"runc"}, Cgo: true, Tags: []string{"seccomp"}, Stamp: []string{"main.version=%n"},
	}
}

// Helm installs the chart.
func Helm() Component {
	const pkg = "helm.sh/helm/v3/internal/version."
	return Component{
		Name: "helm", Module: "helm.sh/helm/v3", Packages: []string{"tool"}, Commands: []string{"helm"}, Stamp: []string{pkg + "version=%s"},
	}
}

// Skipper is an ingress controller.
func Skipper() Component {
	return Component{
		Name: "skipper", Module: "github.com/zalando/skipper", Packages: []string{"tool"}, Commands: []string{"skipper"}, Stamp: []string{"main.version=%s"},
	}
}

// MetalLB is its controller and its speaker.
func MetalLB() Component {
	return Component{
		Name: "metallb", Module: "go.universe.tf/metallb", Packages: []string{"tool"}, Commands: []string{"controller", "speaker"},
	}
}

// Krew installs kubectl's plugins.
func Krew() Component {
	return Component{Name: "krew", Module: "sigs.k8s.io/krew", Packages: []string{"tool"}, Commands: []string{"krew"}}
}

// Kind makes clusters of Docker containers.
func Kind() Component {
	return Component{Name: "kind", Module: "sigs.k8s.io/kind", Packages: []string{"tool"}, Commands: []string{"kind"}}
}

// Light lists what the lab's light mode runs; Full adds what its nodes need.
func Light() []Component { return []Component{Kubernetes(), Etcd()} }

// Full lists what the full mode runs.
func Full() []Component { return append(Light(), Containerd(), Runc()) }

// Binaries maps a command's name to the path of its executable.
type Binaries map[string]string

// pin is a component as the repository pins it at this moment.
type pin struct {
	dir     string // folder of its go.mod
	version string // "v1.37.2"
	key     string // names the folder in the cache
}

// pin reads the component's module files below source, the folder of this
// package.
func (c Component) pin(source string) (pin, error) {
	p := pin{dir: filepath.Join(source, c.Name)}
	sum := sha256.New()
	files, err := filepath.Glob(filepath.Join(p.dir, "*"))
	if err != nil {
		return p, fmt.Errorf("list %s: %w", p.dir, err)
	}
	slices.Sort(files)
	for _, f := range files {
		if b := filepath.Base(f); b != "go.mod" && b != "go.sum" && filepath.Ext(b) != ".go" {
			continue
		}
		data, err := os.ReadFile(f)
		if err != nil {
			return p, fmt.Errorf("read what pins %s: %w", c.Name, err)
		}
		fmt.Fprintf(sum, "%s %d\n", filepath.Base(f), len(data))
		sum.Write(data)
	}
	if p.version, err = required(filepath.Join(p.dir, "go.mod"), c.Module); err != nil {
		return p, err
	}
	fmt.Fprintln(sum, runtime.Version(), c.flags(p.version), c.Packages, c.Cgo)
	p.key = fmt.Sprintf("%s-%s-%s-%s", c.Name, p.version, runtime.GOARCH, hex.EncodeToString(sum.Sum(nil))[:12])
	return p, nil
}

// Version is the one that the repository pins, such as "v1.37.2".
func (c Component) Version() (string, error) {
	source, err := Source()
	if err != nil {
		return "", err
	}
	p, err := c.pin(source)
	return p.version, err
}

// flags are the arguments of "go build" that shape the result.
func (c Component) flags(version string) []string {
	ld := []string{"-s", "-w"}
	minor := strings.SplitN(version, ".", 3)[1]
	for _, s := range c.Stamp {
		ld = append(ld, "-X", strings.NewReplacer(
			"%s", version, "%n", strings.TrimPrefix(version, "v"), "%m", minor).Replace(s))
	}
	flags := []string{"-trimpath", "-mod=readonly", "-buildvcs=false", "-ldflags", strings.Join(ld, " ")}
	if len(c.Tags) > 0 {
		flags = append(flags, "-tags", strings.Join(c.Tags, ","))
	}
	return flags
}

// required finds the version that a go.mod file requires of a module. It reads
// lines instead of parsing, to stay within the standard library.
func required(gomod, module string) (string, error) {
	f, err := os.Open(gomod)
	if err != nil {
		return "", fmt.Errorf("find the pinned version of %s: %w", module, err)
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(s.Text()), "require "))
		if len(fields) >= 2 && fields[0] == module && strings.Count(fields[1], ".") >= 2 {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", gomod, module)
}

// Source finds the folder of this package in a checkout, from the working
// directory or from where the running program lies: programs built with
// -trimpath do not know where they came from.
func Source() (string, error) {
	starts := []string{}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			for _, sub := range []string{"e2e/components", "components"} {
				at := filepath.Join(dir, sub)
				if _, err := os.Stat(filepath.Join(at, "kubernetes", "go.mod")); err == nil {
					return at, nil
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("no checkout of Bellwether above %s: run this inside one", strings.Join(starts, " or "))
}

// CacheDir is where built components are kept: $BELLWETHER_CACHE, else
// "bellwether" in the user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("BELLWETHER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder (set BELLWETHER_CACHE instead): %w", err)
	}
	return filepath.Join(dir, "bellwether"), nil
}
