// Kindnode makes an image of kind's nodes without a registry, out of Debian's packages, kind's own files and the Kubernetes that the lab runs:
// for machines that cannot pull the images that kind's authors publish.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/images"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

//go:embed Dockerfile program.Dockerfile podnet.yaml storage.yaml containerd.conf kubelet.conf
var files embed.FS

// Debian's packages: of a node, by what kind's own images have and these scenarios need, and of the programs in containers.
const (
	suite      = "bookworm"
	onNode     = "systemd,systemd-sysv,conntrack,iptables,nftables,iproute2,ethtool,mount,kmod,libseccomp2,ca-certificates,curl,jq,procps,containernetworking-plugins,hostname"
	inPrograms = "nftables,conntrack"
)

func main() {
	tag := flag.String("tag", "bellwether-lab/kind-node:dev", "`name` of the image")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := build(ctx, *tag)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kindnode:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, *tag)
}

func build(ctx context.Context, tag string) (err error) {
	if out, err := exec.CommandContext(ctx, "docker", "version").CombinedOutput(); err != nil {
		return fmt.Errorf("images are built by Docker: have its daemon run on this machine: %w: %s", err, out)
	}
	if err := components.InstallPackages(ctx, os.Stderr, components.NodePackages()); err != nil {
		return err
	}
	bins, err := components.Ensure(ctx, os.Stderr, components.Full()...)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kindnode-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := builder{ctx, dir, bins, tag}
	for _, step := range []func() error{b.copyFiles, b.copyPrograms, b.installPackages, b.packPrograms, b.packNode} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// builder fills a folder with what the images are built of.
type builder struct {
	context.Context
	dir  string
	bins components.Binaries
	tag  string
}

func (b builder) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

// copyFiles copies kind's own files and those beside this one.
func (b builder) copyFiles() error {
	module, err := components.Kind().Folder(b)
	if err != nil {
		return err
	}
	version, err := components.Kubernetes().Version()
	if err != nil {
		return err
	}
	return errors.Join(os.CopyFS(b.path("kind"), os.DirFS(filepath.Join(module, "images", "base", "files"))), os.CopyFS(b.dir, files),
		os.WriteFile(b.path("version"), []byte(version), 0o644))
}

func (b builder) copyPrograms() error {
	for folder, names := range map[string][]string{
		"bin":     {"kubeadm", "kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "runc"},
		"program": {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd"},
	} {
		if err := os.MkdirAll(b.path(folder), 0o755); err != nil {
			return err
		}
		for _, name := range names {
			if err := b.run("cp", "--dereference", b.bins[name], b.path(folder, name)); err != nil {
				return err
			}
		}
	}
	podnet, err := components.Program(b, "./cmd/podnet")
	if err != nil {
		return err
	}
	return b.run("cp", podnet, b.path("program", "podnet"))
}

func (b builder) installPackages() error {
	return errors.Join(
		b.run("mmdebstrap", "--quiet", "--variant=minbase", "--include="+onNode, suite, b.path("node.tar")),
		b.run("mmdebstrap", "--quiet", "--variant=extract", "--include="+inPrograms, suite, b.path("program.tar")))
}

// packPrograms packs an image of each program, under the name that kubeadm and containerd ask for, into one file.
func (b builder) packPrograms() error {
	names, err := b.names()
	if err != nil {
		return err
	}
	sandbox, err := b.sandbox()
	if err != nil {
		return err
	}
	restore, err := b.lend(append(slices.Collect(maps.Values(names)), sandbox))
	if err != nil {
		return err
	}
	defer restore()
	save := []string{"save", "--output", b.path("images.tar"), sandbox}
	for program, name := range names {
		if err := b.docker("build", "--quiet", "--tag", name, "--build-arg", "PROGRAM="+program, "--file", b.path("program.Dockerfile"), b.dir); err != nil {
			return err
		}
		save = append(save, name)
	}
	return errors.Join(b.packPause(sandbox), b.docker(save...))
}

// lend takes names of images that the machine may have, until restore is called.
func (b builder) lend(names []string) (restore func(), err error) {
	b.Context = context.WithoutCancel(b.Context)
	had := map[string]string{}
	for _, name := range names {
		id, err := exec.CommandContext(b, "docker", "images", "--quiet", name).Output()
		if err != nil {
			return nil, fmt.Errorf("docker images: %w", err)
		}
		had[name] = strings.TrimSpace(string(id))
	}
	return func() {
		for name, id := range had {
			_ = b.docker("rmi", name) // there is none where the build failed
			if id != "" {
				_ = b.docker("tag", id, name)
			}
		}
	}, nil
}

// packPause packs the lab's own pause under another name.
func (b builder) packPause(name string) error {
	repo, err := product.Repo()
	if err != nil {
		return err
	}
	specs, err := images.Select([]string{"pause"})
	if err != nil {
		return err
	}
	image, err := images.Builder{Repo: repo, Version: "dev"}.Pack(b, specs[0], runtime.GOARCH, b.path("packed"))
	if err != nil {
		return err
	}
	return errors.Join(b.docker("load", "--input", image.File), b.docker("tag", image.Reference, name), b.docker("rmi", image.Reference))
}

// sandbox is the name that kind's configuration of containerd has for pause.
func (b builder) sandbox() (string, error) {
	config, err := os.ReadFile(b.path("kind", "etc", "containerd", "config.toml"))
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`sandbox_image = "(.*)"`).FindSubmatch(config)
	if found == nil {
		return "", errors.New("kind's configuration of containerd names no sandbox_image")
	}
	return string(found[1]), nil
}

// names are the images' by program.
func (b builder) names() (map[string]string, error) {
	version, err := components.Kubernetes().Version()
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(b, b.bins["kubeadm"], "config", "images", "list", "--kubernetes-version", version).Output()
	if err != nil {
		return nil, fmt.Errorf("kubeadm config images list: %w", err)
	}
	names := map[string]string{"podnet": "bellwether-lab/podnet:dev"}
	for name := range strings.FieldsSeq(string(out)) {
		program, _, _ := strings.Cut(path.Base(name), ":")
		if _, err := os.Stat(b.path("program", program)); err == nil {
			names[program] = name
		}
	}
	return names, nil
}

func (b builder) packNode() error { return b.docker("build", "--quiet", "--tag", b.tag, b.dir) }

func (b builder) docker(args ...string) error { return b.run("docker", args...) }

func (b builder) run(name string, args ...string) error {
	if out, err := exec.CommandContext(b, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
