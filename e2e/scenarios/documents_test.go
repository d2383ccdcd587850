package scenarios

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// commandBlock is a block of a document with commands, or with a file.
type commandBlock struct {
	lang, text string
}

var fenced = regexp.MustCompile("(?s)(?:^|\n)```(\\w*)\n(.*?\n)```")

func blocks(t *testing.T, file string) (all []commandBlock) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fenced.FindAllStringSubmatch(string(text), -1) {
		all = append(all, commandBlock{m[1], m[2]})
	}
	return all
}

// commands are the lines of a block that begin with a prompt, without comments.
func (b commandBlock) commands() (lines []string) {
	if b.lang != "console" {
		return nil
	}
	for line := range strings.Lines(b.text) {
		if command, is := strings.CutPrefix(line, "$ "); is {
			command, _, _ = strings.Cut(command, " #")
			lines = append(lines, strings.TrimSpace(command))
		}
	}
	return lines
}

// site is what the reader of the quickstart puts in place of what it says: addresses of the own network, and an image that the nodes have.
var site = strings.NewReplacer("192.0.2.200-192.0.2.250", "198.18.0.200-198.18.0.250", "192.0.2.200", "198.18.0.200",
	"--image=nginx", "--image=bellwether-lab/webserver:dev", "--port=80", "--port=80 --target-port=8080")

// TestQuickstart does what docs/quickstart.md says, on a fresh cluster, and takes everything away again.
func TestQuickstart(t *testing.T) {
	options := lab.Options{Name: "quickstart", Log: os.Stderr}
	if err := lab.Down(t.Context(), options.Name); err != nil {
		t.Fatal(err)
	}
	l, err := lab.Up(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p, err := product.New(l)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{T: t, Product: p, ctx: t.Context()}
	dir := t.TempDir() // pool.yaml is no part of the project
	for _, b := range blocks(t, filepath.Join(s.Repo, "docs", "quickstart.md")) {
		if b.lang == "yaml" {
			s.act(os.WriteFile(filepath.Join(dir, "pool.yaml"), []byte(site.Replace(b.text)), 0o644))
		}
		for _, command := range b.commands() {
			out := s.enter(dir, command)
			switch {
			case strings.HasPrefix(command, "make images"):
				files, err := filepath.Glob(filepath.Join(s.Repo, "dist", "images", "bellwether-*-amd64.tar"))
				s.act(cmp.Or(err, l.LoadImages(t.Context(), files...)))
			case strings.HasPrefix(command, "curl") && !strings.Contains(out, "name: web-"):
				t.Errorf("%s prints %q", command, out)
			case strings.Contains(command, "explain") && !strings.Contains(out, "198.18.0.200"):
				t.Errorf("%s prints %q", command, out)
			}
		}
	}
	s.uninstalls()
}

// uninstalls does what docs/install.md says of that, with kustomize.
func (s *scene) uninstalls() {
	s.Helper()
	s.must("delete", "service", "web")
	file := filepath.Join(s.Repo, "docs", "install.md")
	text, err := os.ReadFile(file)
	s.act(err)
	_, after, _ := strings.Cut(string(text), "## Uninstalling")
	block := fenced.FindStringSubmatch(after)
	if block == nil {
		s.Fatal(file, "does not say how Bellwether is uninstalled")
	}
	first := commandBlock{"console", block[2]}
	for _, command := range first.commands() {
		s.enter(s.TempDir(), command)
	}
	for what, left := range map[string]string{"crds": ".bellwether.dev", "clusterroles": "bellwether", "clusterrolebindings": "bellwether", "namespaces": product.Namespace} {
		if names := s.must("get", what, "-o", "name"); strings.Contains(names, left) {
			s.Errorf("these %s are left: %s", what, names)
		}
	}
}

// enter runs a command of a document, on the administrator's machine or, what a client does, on the client.
func (s *scene) enter(dir, command string) string {
	s.Helper()
	where := lab.Control
	if strings.HasPrefix(command, "curl") {
		where = lab.Client
	}
	command = strings.ReplaceAll(site.Replace(command), "pool.yaml", filepath.Join(dir, "pool.yaml"))
	cmd := s.Lab.CommandContext(s.ctx, where, "bash", "-euc", command)
	if strings.HasPrefix(command, "make") { // the module proxy is not in the lab
		cmd = exec.CommandContext(s.ctx, "bash", "-euc", command)
		cmd.Env = os.Environ()
	}
	cmd.Dir = s.Repo
	cmd.Env = append(cmd.Env, "KUBECONFIG="+s.Lab.Kubeconfig(), "PATH="+filepath.Dir(s.Lab.Binary("kubectl"))+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	s.Logf("$ %s\n%s", command, out)
	if err != nil {
		s.Fatalf("%s: %v", command, err)
	}
	return string(out)
}

// TestREADME runs its commands: make demo here; make test is what runs this; the others are the quickstart's.
func TestREADME(t *testing.T) {
	s := onFullLab(t)
	var elsewhere []string
	for _, b := range blocks(t, filepath.Join(s.Repo, "docs", "quickstart.md")) {
		elsewhere = append(elsewhere, b.commands()...)
	}
	ran := 0
	for _, b := range blocks(t, filepath.Join(s.Repo, "README.md")) {
		for _, command := range b.commands() {
			switch {
			case command == "make test" || slices.Contains(elsewhere, command):
			case command == "make demo":
				ran++
				began := time.Now()
				cmd := exec.CommandContext(s.ctx, "make", "demo")
				cmd.Dir = s.Repo
				out, err := cmd.CombinedOutput()
				t.Cleanup(func() {
					down := exec.CommandContext(context.Background(), "make", "demo-down")
					down.Dir = s.Repo
					if out, err := down.CombinedOutput(); err != nil {
						t.Errorf("make demo-down: %v: %s", err, out)
					}
				})
				if err != nil {
					t.Fatalf("make demo: %v: %s", err, out)
				}
				t.Logf("make demo took %v", time.Since(began).Round(time.Second))
			default:
				t.Errorf("nothing runs %q", command)
			}
		}
	}
	if ran != 1 {
		t.Errorf("make demo was run %d times", ran)
	}
}
