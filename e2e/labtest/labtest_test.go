package labtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

const name = "tlabtest"

// failing marks the process in which TestThatFails does so.
const failing = "BELLWETHER_TEST_FAILING"

// TestThatFails is what TestLogsOfAFailureAreKept looks at from outside. It runs
// a process as scenarios run the product: with a ServiceAccount's rights, ended
// by power-off and started by power-on.
func TestThatFails(t *testing.T) {
	if os.Getenv(failing) == "" {
		return
	}
	l := Up(t, lab.Options{Name: name, Nodes: 1, Light: true, IPv4Only: true})
	kubeconfig, err := l.ServiceAccountKubeconfig(t.Context(), "default", "default")
	if err != nil {
		t.Fatal(err)
	}
	const script = `"$0" --kubeconfig "$1" auth whoami -o 'jsonpath={.status.userInfo.username}' --request-timeout=20s
		echo " says $WORD"; exec sleep 1000`
	p, err := l.Start("node-1", lab.ProcSpec{
		Name: "speaker", AtPowerOn: true,
		Args: []string{"sh", "-c", script, l.Binary("kubectl"), kubeconfig}, Env: []string{"WORD=hello"},
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitSaid(t, p, 1)
	if err := l.PowerOff(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("NOT EXPECTED: it lives without power")
	}
	if err := l.PowerOn(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	awaitSaid(t, p, 2)
	if now, err := l.Process("node-1", "speaker"); err != nil || now.PID == p.PID || !now.Alive() {
		t.Errorf("NOT EXPECTED: %+v, %v", now, err)
	}
	t.Error("this test fails on purpose")
}

func awaitSaid(t *testing.T, p *lab.Process, times int) {
	t.Helper()
	const want = "system:serviceaccount:default:default says hello"
	for end := time.Now().Add(30 * time.Second); strings.Count(p.LogTail(100), want) < times; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("NOT EXPECTED: it said %q", p.LogTail(100))
		}
	}
}

func TestLogsOfAFailureAreKept(t *testing.T) {
	logs := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestThatFails$", "-test.v")
	cmd.Env = append(os.Environ(), failing+"=1", "BELLWETHER_LOGS="+logs)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "fails on purpose") || strings.Contains(string(out), "NOT EXPECTED") {
		t.Errorf("the test ended with %v:\n%s", err, out)
	}
	for _, file := range []string{"node-1/speaker.log", "control/kube-apiserver.log"} {
		found, err := filepath.Glob(filepath.Join(logs, "TestThatFails-*", file))
		if err != nil || len(found) != 1 {
			t.Errorf("%s is kept as %v, %v", file, found, err)
		}
	}
	if left, err := lab.Remains(name); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
