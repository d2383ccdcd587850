package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAlerts has promtool play series through the rules; each alert must be silent when all is well, and fire when nothing is right.
func TestAlerts(t *testing.T) {
	folder := filepath.Join(repo(t), "config", "monitoring")
	for _, args := range [][]string{{"check", "rules", "rules.yaml"}, {"test", "rules", "rules_test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), "promtool", args...)
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	tests := read("rules_test.yaml")
	for _, alert := range regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllStringSubmatch(read("rules.yaml"), -1) {
		if n := len(regexp.MustCompile(`alertname: `+alert[1]+`\b`).FindAllString(tests, -1)); n != 2 {
			t.Errorf("%s is tested %d times, want once silent and once firing", alert[1], n)
		}
	}
}
