package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/bellwether-lb/bellwether/e2e/components"
)

// TestThePluginIsInstalledByKrew from the archive that the manifest names.
func TestThePluginIsInstalledByKrew(t *testing.T) {
	bins, err := components.Ensure(t.Context(), os.Stderr, components.Krew())
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	t.Setenv("KREW_ROOT", root)
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = repo(t)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		return string(out)
	}
	run("hack/plugin", "v1.2.3", "https://example.com/v1.2.3", runtime.GOOS+"/"+runtime.GOARCH)
	packed := filepath.Join("dist", "plugin")
	run(bins["krew"], "install", "--manifest", filepath.Join(packed, "bellwether.yaml"),
		"--archive", filepath.Join(packed, "kubectl-bellwether-"+runtime.GOOS+"-"+runtime.GOARCH+".tar.gz"))
	if out := run(filepath.Join(root, "bin", "kubectl-bellwether"), "explain", "--help"); !strings.Contains(out, "service/") {
		t.Errorf("the installed plugin says %s", out)
	}
}
