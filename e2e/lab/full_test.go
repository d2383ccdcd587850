package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// deployWeb runs the webserver in as many pods, away from one another.
func deployWeb(t *testing.T, client kubernetes.Interface, labels map[string]string, replicas int32) {
	t.Helper()
	apart := corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: labels}}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: "web", Image: "bellwether-lab/webserver:" + imageVersion}},
					Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
						RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{apart},
					}},
				},
			},
		},
	}
	deployments := client.AppsV1().Deployments(metav1.NamespaceDefault)
	if _, err := deployments.Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := waitFor(t.Context(), 60*time.Second, "the pods", func(ctx context.Context) error {
		d, err := deployments.Get(ctx, d.Name, metav1.GetOptions{})
		if err == nil && d.Status.AvailableReplicas != replicas {
			err = fmt.Errorf("%d of %d are available", d.Status.AvailableReplicas, replicas)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFullLab(t *testing.T) {
	o := Options{Name: "tmach", Nodes: 2}
	was := settings(t, o)
	t.Run("up", func(t *testing.T) { testFullLab(t, o) })
	checkSettings(t, o, was)
}

func testFullLab(t *testing.T, o Options) {
	start := time.Now()
	l := up(t, o)
	t.Logf("up in %s", time.Since(start))
	client, err := l.Client()
	if err != nil {
		t.Fatal(err)
	}
	app := map[string]string{"app": "web"}
	deployWeb(t, client, app, 2)
	vips := []string{"198.18.0.201", "fd00:198:18::201"}
	createLoadBalancer(t, l, app, vips)
	for _, vip := range vips {
		checkAnswers(t, l, vip, l.Nodes()[0], 2)
	}
	t.Run("pods reach the API server", func(t *testing.T) {
		out, err := l.Command("node-2", "curl", "-sk", "-m", "5", "https://198.19.128.1/version").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "v1.37") {
			t.Errorf("the API server at its ClusterIP says %s, %v", out, err)
		}
	})
	t.Run("images", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(l.imageDir(), "*webserver*.tar"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		again := filepath.Join(t.TempDir(), "again.tar")
		if err := copyFile(files[0], again); err != nil {
			t.Fatal(err)
		}
		if err := l.LoadImages(t.Context(), again); err != nil {
			t.Error(err)
		}
	})
	t.Run("power", func(t *testing.T) { testFullPower(t, l, vips[0]) })
}

// testFullPower takes a node's power away and gives it back: its pods die and
// are started again.
func testFullPower(t *testing.T, l *Lab, vip string) {
	const node = "node-2"
	var images []string
	for _, pid := range running(t, l, node) {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
			images = append(images, filepath.Base(exe))
		}
	}
	for _, want := range []string{"kubelet", "containerd", "containerd-shim-runc-v2", "pause", "webserver", "kube-proxy"} {
		if !slices.Contains(images, want) {
			t.Errorf("%s is not seen as the node's, among %v", want, images)
		}
	}
	start := time.Now()
	if err := l.PowerOff(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	t.Logf("power-off took %s", time.Since(start))
	if left := running(t, l, node); len(left) > 0 {
		t.Errorf("processes %v live without power", left)
	}
	start = time.Now()
	if err := l.PowerOn(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	t.Logf("power-on took %s", time.Since(start))
	checkAnswers(t, l, vip, l.Nodes()[1], 2)
}

// checkAnswers asks a Service from the client by way of one node until that
// many different pods have answered.
func checkAnswers(t *testing.T, l *Lab, vip string, by Node, want int) {
	t.Helper()
	mac := hardwareAddr(firstNode + by.Index - 1).String()
	if out, err := l.Command(Client, "ip", "neigh", "replace", vip, "lladdr", mac, "dev", link).CombinedOutput(); err != nil {
		t.Fatalf("neighbour entry: %v: %s", err, out)
	}
	seen := map[string]bool{}
	client := l.HTTPClient(Client, time.Second)
	err := waitFor(t.Context(), 30*time.Second, fmt.Sprintf("%d pods at %s", want, vip), func(ctx context.Context) error {
		body, err := get(ctx, client, "http://"+netip.AddrPortFrom(netip.MustParseAddr(vip), 80).String())
		if err != nil {
			return err
		}
		name, _, _ := strings.Cut(body, "\n")
		if seen[name] = true; len(seen) < want {
			return fmt.Errorf("only %v answered", seen)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
