package lab

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestTwoUpsThenDownLeavesNothing(t *testing.T) {
	links := hostLinks(t)
	const name = "tups"
	start := time.Now()
	l := upLight(t, name)
	t.Logf("up in %s", time.Since(start))
	if now := hostLinks(t); now != links {
		t.Errorf("the machine's interfaces changed:\n%s\nwere:\n%s", now, links)
	}
	etcd, err := l.Process(Control, Etcd)
	if err != nil {
		t.Fatal(err)
	}

	again, err := Up(t.Context(), l.opts)
	if err != nil {
		t.Fatalf("second up: %v", err)
	}
	if p, err := again.Process(Control, Etcd); err != nil || p.PID != etcd.PID {
		t.Errorf("the second up made the lab anew (%v)", err)
	}
	other := l.opts
	other.Nodes = 2
	if _, err := Up(t.Context(), other); err == nil || !strings.Contains(err.Error(), "other options") {
		t.Errorf("up with other options: error is %v", err)
	}

	if err := etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	third, err := Up(t.Context(), l.opts)
	if err != nil {
		t.Fatalf("up on a broken lab: %v", err)
	}
	if err := third.broken(t.Context()); err != nil {
		t.Errorf("up did not mend the lab: %v", err)
	}
	if err := third.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := Down(t.Context(), name); err != nil {
		t.Errorf("down of no lab: %v", err)
	}
	if _, err := Open(name); err == nil {
		t.Error("a lab that is down can be opened")
	}
}

func TestPowerOffKillsTheNodeAndPowerOnBootsIt(t *testing.T) {
	l := upLight(t, "tpower")
	const node = "node-2"
	// Processes of the node: one that starts at boot, one that does not, and a
	// grandchild that has nothing but its parent's namespace to show for it.
	if _, err := l.Start(node, ProcSpec{Name: "boots", Args: []string{"sleep", "1000"}, AtPowerOn: true}); err != nil {
		t.Fatal(err)
	}
	once, err := l.Start(node, ProcSpec{Name: "once", Args: []string{"env", "-i", "sh", "-c", "sleep 1000 & exec sleep 1000"}})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := l.PowerOff(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	t.Logf("power-off took %s", time.Since(start))
	if pids := running(t, l, node); len(pids) > 0 {
		t.Errorf("processes live on a node without power: %v", pids)
	}
	if reach(l, Client, "198.18.0.12:22") != noAnswer {
		t.Error("the node answers without power")
	}
	if reach(l, Client, "198.18.0.13:22") != refused {
		t.Error("another node does not answer")
	}
	if err := l.PowerOn(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	n, err := l.Node(node)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.waitKubeProxy(t.Context(), n); err != nil {
		t.Error(err)
	}
	if p, err := l.Process(node, "boots"); err != nil || !p.Alive() {
		t.Errorf("what starts at boot did not (%v)", err)
	}
	if once.Alive() {
		t.Error("what does not start at boot lives")
	}
	if reach(l, Client, "198.18.0.12:22") != refused {
		t.Error("the node does not answer after power-on")
	}
}

// What came of a connection to a port where nobody listens.
const noAnswer, refused = "no answer", "refused"

func reach(l *Lab, from, addr string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := l.Dial(ctx, from, "tcp", addr)
	switch {
	case err == nil:
		conn.Close()
		return "connected"
	case strings.Contains(err.Error(), "refused"):
		return refused
	default:
		return noAnswer
	}
}

func TestServiceAnswersTheClientThroughKubeProxy(t *testing.T) {
	l := upLight(t, "tsvc")
	ctx := t.Context()
	app := map[string]string{"app": "web"}
	for i, spec := range []BackendSpec{
		{Name: "web-pod", Labels: app, Node: "node-1"},
		{Name: "web-segment", Labels: app, Node: "node-2", OnSegment: true},
	} {
		if _, err := l.AddBackend(ctx, spec); err != nil {
			t.Fatalf("backend %d: %v", i, err)
		}
	}
	vips := []string{"198.18.0.200", "fd00:198:18::200"}
	createLoadBalancer(t, l, app, vips)
	for _, vip := range vips {
		checkAnswers(t, l, vip, l.Nodes()[2], 2) // has no backend of its own
	}
	// A backend that is plugged into its node shares the node's power.
	if err := l.PowerOff(ctx, "node-1"); err != nil {
		t.Fatal(err)
	}
	for place, want := range map[string]bool{"backend-1": false, "backend-2": true} {
		if p, err := l.Process(place, "webserver"); err != nil || p.Alive() != want {
			t.Errorf("the webserver of %s lives: %v, want %v (%v)", place, !want, want, err)
		}
	}
	if err := l.PowerOn(ctx, "node-1"); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitNode(ctx, "node-1"); err != nil {
		t.Fatal(err)
	}
	checkAnswers(t, l, vips[0], l.Nodes()[0], 2)
	logs := t.TempDir()
	if err := l.CopyLogs(logs); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(logs, Control, APIServer+".log")); err != nil {
		t.Error(err)
	}
	checkRemoval(t, l)
}

// checkRemoval removes every backend.
func checkRemoval(t *testing.T, l *Lab) {
	backends, err := l.Backends()
	if err != nil || len(backends) != 2 {
		t.Fatalf("backends are %v, %v", backends, err)
	}
	for _, b := range backends {
		if err := l.RemoveBackend(t.Context(), b); err != nil {
			t.Error(err)
		}
		if l.IsBackend(b.Place()) {
			t.Errorf("%s is still there", b.Place())
		}
	}
}

func get(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// createLoadBalancer makes a dual-stack Service and gives it its addresses, as
// Bellwether's controller would.
func createLoadBalancer(t *testing.T, l *Lab, selector map[string]string, vips []string) {
	t.Helper()
	client, err := l.Client()
	if err != nil {
		t.Fatal(err)
	}
	dual := corev1.IPFamilyPolicyRequireDualStack
	svc, err := client.CoreV1().Services(metav1.NamespaceDefault).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: selector, IPFamilyPolicy: &dual,
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ingress []corev1.LoadBalancerIngress
	mode := corev1.LoadBalancerIPModeVIP
	for _, vip := range vips {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: vip, IPMode: &mode})
	}
	status := corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: ingress}}
	if err := patch(map[string]any{"status": status}, func(data []byte) error {
		_, err := client.CoreV1().Services(svc.Namespace).Patch(t.Context(), svc.Name, types.MergePatchType, data, metav1.PatchOptions{}, "status")
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestServiceAccountMayDoWhatItMayDo(t *testing.T) {
	l := upLight(t, "tsa", func(o *Options) { o.Nodes, o.IPv4Only = 1, true })
	path, err := l.ServiceAccountKubeconfig(t.Context(), metav1.NamespaceDefault, "default")
	if err != nil {
		t.Fatal(err)
	}
	kubectl := func(args ...string) string {
		out, _ := l.Command(Control, append([]string{l.Binary("kubectl"), "--kubeconfig=" + path}, args...)...).CombinedOutput()
		return strings.TrimSpace(string(out))
	}
	if who := kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); who != "system:serviceaccount:default:default" {
		t.Errorf("the token is for %q", who)
	}
	if may := kubectl("auth", "can-i", "list", "nodes"); !strings.HasSuffix(may, "no") {
		t.Errorf("it may list nodes: %q", may)
	}
}

func TestControlPlaneStopsAndStarts(t *testing.T) {
	l := upLight(t, "tctl", func(o *Options) { o.Nodes = 1 })
	api, err := l.Process(Control, APIServer)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // it must have let go of its port each time
		if err := api.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := l.broken(t.Context()); err == nil {
			t.Error("a lab without an API server is called well")
		}
		if err := l.Restart(api); err != nil {
			t.Fatal(err)
		}
		if err := l.WaitAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := api.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	client, err := l.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err == nil {
		t.Error("a paused API server answers")
	}
	if err := api.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitAPIServer(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNeighbourLimitsAreRestored(t *testing.T) {
	o := Options{Name: "tneigh", Nodes: 1, Light: true, NeighbourTable: 70001}
	was := settings(t, o)
	t.Run("up", func(t *testing.T) {
		up(t, o)
		for key, value := range settings(t, o) {
			if value != "70001" {
				t.Errorf("%s is %s", key, value)
			}
		}
	})
	checkSettings(t, o, was)
}
