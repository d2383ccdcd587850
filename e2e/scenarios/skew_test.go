//go:build skew

package scenarios

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// TestNeighbouringReleasesRunSideBySide: the programs are replaced one by one by those of the revision that BELLWETHER_PREVIOUS names, and
// back again: a downgrade and an upgrade. Every mixture in between hears all of itself, no question is lost, and no address moves.
func TestNeighbouringReleasesRunSideBySide(t *testing.T) {
	revision := os.Getenv("BELLWETHER_PREVIOUS")
	if revision == "" {
		t.Fatal("BELLWETHER_PREVIOUS is not set: name the revision to run beside this one, as in make skew PREVIOUS=v1.0.0")
	}
	previous := programs(t, revision) // before it is measured: it keeps the machine busy
	s := tried(t, 6, 5*time.Millisecond)
	before := map[string]string{}
	for _, name := range []string{"s0", "s1", "s2", "s3", "s4", "s5"} {
		before[name] = s.addresses(name, 1)[0].String()
	}
	present := filepath.Dir(s.speaker(s.Lab.Nodes()[0].Name).Spec.Args[0])
	for _, to := range []string{previous, present} {
		for _, n := range s.Lab.Nodes() {
			s.swap(s.speaker(n.Name), to)
			s.calm()
			time.Sleep(3500 * time.Millisecond) // longer than an old owner answers that hears no new one
		}
		for _, name := range controllers() {
			s.swap(s.controller(name), to)
			s.led()
		}
		made := s.becomes(s.create("with-"+filepath.Base(to)), 1, "Allocated")
		s.act(s.remove(s.ctx, made.Namespace, made.Name))
	}
	s.back()
	s.lossless()
	for name, addr := range before {
		if now := s.addresses(name, 1)[0].String(); now != addr {
			t.Errorf("Service %s had %s and has %s", name, addr, now)
		}
	}
	s.stayed()
}

// programs builds those of another revision.
func programs(t *testing.T, revision string) (dir string) {
	t.Helper()
	repo, err := product.Repo()
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	run := func(dir, name string, args ...string) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
	}
	run(repo, "git", "worktree", "add", "--detach", tree, revision)
	t.Cleanup(func() { _ = exec.Command("git", "-C", repo, "worktree", "remove", "--force", tree).Run() })
	dir = filepath.Join(t.TempDir(), "previous")
	run(tree, "go", "build", "-trimpath", "-o", dir+"/", "./controller", "./speaker")
	return dir
}

// swap ends a process in order, and starts the same of other programs in its place.
func (s *trial) swap(p *lab.Process, programs string) {
	s.Helper()
	s.act(p.Stop(20 * time.Second))
	p.Spec.Args[0] = filepath.Join(programs, filepath.Base(p.Spec.Args[0]))
	s.act(s.Lab.Restart(p))
}
