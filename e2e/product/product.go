package product

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/components"
	"github.com/bellwether-lb/bellwether/e2e/images"
	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// Namespace is where Bellwether is installed.
const Namespace = "bellwether-system"

// RenumberWindow is how long Services hold an old and a new address in a light lab; it is a minute by default.
const RenumberWindow = 5 * time.Second

// Product is Bellwether in one lab.
type Product struct {
	Lab  *lab.Lab
	Repo string // the project's folder

	built bool
	read  func() (*reader, error)
}

// New finds the project around the running program's source.
func New(l *lab.Lab) (*Product, error) {
	repo, err := Repo()
	if err != nil {
		return nil, err
	}
	return &Product{Lab: l, Repo: repo, read: sync.OnceValues(func() (*reader, error) { return newReader(l) })}, nil
}

// Repo is the project's folder, around the running program's source.
func Repo() (string, error) {
	source, err := components.Source()
	if err != nil {
		return "", err
	}
	return images.FindRepo(source)
}

// Kubectl runs kubectl as administrator, inside the lab, and returns what it printed. What it would print of a "get" with -o jsonpath is
// found out without it.
func (p *Product) Kubectl(ctx context.Context, args ...string) (string, error) {
	if q, is := queryOf(args); is {
		if r, err := p.read(); err == nil {
			if out, err := r.get(ctx, q); err == nil {
				return out, nil
			} // kubectl says what is wrong
		}
	}
	return p.kubectl(ctx, "", args...)
}

// Apply applies manifests.
func (p *Product) Apply(ctx context.Context, manifests string) (string, error) {
	return p.kubectl(ctx, manifests, "apply", "-f", "-")
}

// CLI runs the command line tool as administrator, inside the lab, and returns what it printed and what it ended
// with; what it complained of where it printed nothing.
func (p *Product) CLI(ctx context.Context, stdin string, args ...string) (out string, code int, err error) {
	bin, err := p.build(ctx)
	if err != nil {
		return "", 0, err
	}
	cmd := p.Lab.CommandContext(ctx, lab.Control, append(append([]string{filepath.Join(bin, "cli")}, args...), "--kubeconfig", p.Lab.Kubeconfig())...)
	var said, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &said, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return cmp.Or(said.String(), errs.String()), exit.ExitCode(), nil
	} else if err != nil {
		return said.String(), 0, fmt.Errorf("bellwether %s: %w", strings.Join(args, " "), err)
	}
	return said.String(), 0, nil
}

func (p *Product) kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	full := append([]string{p.Lab.Binary("kubectl"), "--kubeconfig", p.Lab.Kubeconfig()}, args...)
	cmd := p.Lab.CommandContext(ctx, lab.Control, full...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// Install installs Bellwether and waits until it is ready.
func (p *Product) Install(ctx context.Context) error {
	if p.Lab.Options().Light {
		return p.installLight(ctx)
	}
	return p.installFull(ctx)
}

// installFull packs the images, gives them to the nodes, and applies the manifests that users apply.
func (p *Product) installFull(ctx context.Context) error {
	if err := p.LoadImages(ctx); err != nil {
		return err
	}
	if _, err := p.Kubectl(ctx, "apply", "-k", filepath.Join(p.Repo, "config", "default")); err != nil {
		return err
	}
	return p.WaitReady(ctx)
}

// LoadImages packs the images of both programs, and gives them to the nodes.
func (p *Product) LoadImages(ctx context.Context) error {
	files, err := p.pack(ctx)
	if err != nil {
		return err
	}
	return p.Lab.LoadImages(ctx, files...)
}

// InstallChart installs Bellwether with helm; flags are more of those that helm takes.
func (p *Product) InstallChart(ctx context.Context, flags ...string) error {
	args := []string{"upgrade", "--install", "bellwether", filepath.Join(p.Repo, "charts", "bellwether"), "--namespace", Namespace, "--create-namespace"}
	if _, err := p.Helm(ctx, append(args, flags...)...); err != nil {
		return err
	}
	return p.WaitReady(ctx)
}

// Helm runs helm as administrator, inside the lab, and returns what it printed.
func (p *Product) Helm(ctx context.Context, args ...string) (string, error) {
	bins, err := components.Ensure(ctx, os.Stderr, components.Helm())
	if err != nil {
		return "", err
	}
	cmd := p.Lab.CommandContext(ctx, lab.Control, append(append([]string{bins["helm"]}, args...), "--kubeconfig", p.Lab.Kubeconfig())...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("helm %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// LoadPrograms builds another project's programs, packs each as the image that names has for it, and gives them to the nodes.
func (p *Product) LoadPrograms(ctx context.Context, c components.Component, names map[string]string) error {
	bins, err := components.Ensure(ctx, os.Stderr, c)
	if err != nil {
		return err
	}
	var files []string
	for program, name := range names {
		binary, err := os.ReadFile(bins[program])
		if err != nil {
			return err
		}
		spec := images.Spec{Name: name, User: "0:0", Description: program + " of " + c.Module}
		image, err := images.Builder{Repo: p.Repo, Version: "dev"}.PackBinary(spec, binary, runtime.GOARCH, filepath.Join(p.Lab.Dir(), "packed"))
		if err != nil {
			return err
		}
		files = append(files, image.File)
	}
	return p.Lab.LoadImages(ctx, files...)
}

// WaitReady waits until all of Bellwether's Pods are there, and every speaker may own addresses.
func (p *Product) WaitReady(ctx context.Context) error {
	for _, workload := range []string{"deployment/bellwether-controller", "daemonset/bellwether-speaker"} {
		if _, err := p.Kubectl(ctx, "-n", Namespace, "rollout", "status", workload, "--timeout=120s"); err != nil {
			return err
		}
	}
	return p.waitSpeakers(ctx)
}

func (p *Product) pack(ctx context.Context) ([]string, error) {
	specs, err := images.Select([]string{"controller", "speaker"})
	if err != nil {
		return nil, err
	}
	out := filepath.Join(p.Lab.Dir(), "packed") // goes with the lab
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	var files []string
	for _, s := range specs {
		image, err := images.Builder{Repo: p.Repo, Version: "dev"}.Pack(ctx, s, runtime.GOARCH, out)
		if err != nil {
			return nil, err
		}
		files = append(files, image.File)
	}
	return files, nil
}

// waitSpeakers waits until every speaker may own addresses.
func (p *Product) waitSpeakers(ctx context.Context) error {
	for _, n := range p.Lab.Nodes() {
		if _, err := p.Kubectl(ctx, "wait", "--for=create", "speaker/"+n.Name, "--timeout=60s"); err != nil {
			return err
		}
		if _, err := p.Kubectl(ctx, "wait", "--for=condition=Ready", "speaker/"+n.Name, "--timeout=60s"); err != nil {
			return err
		}
	}
	return nil
}

// installLight applies all manifests but the workloads, and runs those as processes.
func (p *Product) installLight(ctx context.Context) error {
	for _, part := range []string{"config/crd", "config/rbac"} {
		if part == "config/rbac" {
			if _, err := p.Kubectl(ctx, "apply", "-f", filepath.Join(p.Repo, "config", "default", "namespace.yaml")); err != nil {
				return err
			}
		}
		if _, err := p.Kubectl(ctx, "apply", "-k", filepath.Join(p.Repo, part)); err != nil {
			return err
		}
	}
	bin, err := p.build(ctx)
	if err != nil {
		return err
	}
	for i := range 2 {
		if err := p.startController(ctx, bin, i+1); err != nil {
			return err
		}
	}
	for _, n := range p.Lab.Nodes() {
		if err := p.startSpeaker(ctx, bin, n); err != nil {
			return err
		}
	}
	return p.waitSpeakers(ctx)
}

// build compiles the three programs into the lab's folder, once.
func (p *Product) build(ctx context.Context) (string, error) {
	bin := filepath.Join(p.Lab.Dir(), "bin")
	if p.built {
		return bin, nil
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin+"/", "./controller", "./speaker", "./cli")
	cmd.Dir = p.Repo
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w: %s", err, out)
	}
	p.built = true
	return bin, nil
}

func (p *Product) startController(ctx context.Context, bin string, i int) error {
	kubeconfig, err := p.Lab.ServiceAccountKubeconfig(ctx, Namespace, "bellwether-controller")
	if err != nil {
		return err
	}
	name := fmt.Sprintf("controller-%d", i)
	_, err = p.Lab.Start(lab.Control, lab.ProcSpec{Name: name, Args: []string{
		filepath.Join(bin, "controller"), "--kubeconfig", kubeconfig, "--identity", name,
		"--listen", fmt.Sprintf("127.0.0.1:%d", 7480+10*i), "--debug-listen", "", "--renumber-window", RenumberWindow.String(),
	}})
	return err
}

func (p *Product) startSpeaker(ctx context.Context, bin string, n lab.Node) error {
	kubeconfig, err := p.Lab.ServiceAccountKubeconfig(ctx, Namespace, "bellwether-speaker")
	if err != nil {
		return err
	}
	_, err = p.Lab.Start(n.Name, lab.ProcSpec{Name: "speaker", AtPowerOn: true, Args: []string{
		filepath.Join(bin, "speaker"), "--kubeconfig", kubeconfig, "--node", n.Name, "--gossip-address", n.Addrs[0].String(),
	}})
	return err
}

// Delete deletes what manifests name, and waits until it is gone.
func (p *Product) Delete(ctx context.Context, manifests string) error {
	_, err := p.kubectl(ctx, manifests, "delete", "--ignore-not-found", "--timeout=60s", "-f", "-")
	return err
}
