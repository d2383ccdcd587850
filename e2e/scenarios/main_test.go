package scenarios

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/labtest"
	"github.com/bellwether-lb/bellwether/e2e/probe"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// shared is a lab that scenarios run on, one after the other. Each cleans up after itself.
type shared struct {
	up      func() (*product.Product, error)
	started bool
}

func newShared(o lab.Options) *shared {
	s := &shared{}
	s.up = sync.OnceValues(func() (*product.Product, error) {
		s.started = true
		return bringUp(context.Background(), o)
	})
	return s
}

var (
	full  = newShared(fullLab())
	light = newShared(lab.Options{Name: "allocation", Light: true, Nodes: 1, Log: os.Stderr})
	// segmented has several nodes that are quick to lose and to mend: the speakers are plain processes.
	segmented = newShared(lab.Options{Name: "segment", Light: true, Nodes: 3, Log: os.Stderr})
)

func bringUp(ctx context.Context, o lab.Options) (*product.Product, error) {
	if err := lab.Down(ctx, o.Name); err != nil { // what a killed run left
		return nil, err
	}
	l, err := lab.Up(ctx, o)
	if err != nil {
		return nil, err
	}
	p, err := product.New(l)
	if err != nil {
		return nil, err
	}
	if o.Light {
		err = p.Install(ctx)
		return p, err
	}
	if err := p.LoadImages(ctx); err != nil {
		return p, err
	}
	err = p.InstallChart(ctx) // make demo installs with kustomize
	return p, err
}

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "FAIL: scenarios run as root: they make network namespaces and run container runtimes in them")
		os.Exit(1)
	}
	release, err := labtest.Machine(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: wait for the machine:", err)
		os.Exit(1)
	}
	if err := choose(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: choose the scenarios:", err)
		os.Exit(1)
	}
	code := m.Run()
	for _, s := range []*shared{full, light, segmented} {
		if !s.started {
			continue
		}
		p, err := s.up()
		if p == nil {
			continue
		}
		if err != nil {
			keepLogs(p, "bring-up")
		}
		if err := p.Lab.Down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL: the lab did not come down:", err)
			code = 1
		}
	}
	release()
	os.Exit(code)
}

// keepLogsWhenFailed keeps the logs as they are when a test has failed: those after it may restart what had them.
func keepLogsWhenFailed(t *testing.T, p *product.Product) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			keepLogs(p, t.Name())
		}
	})
}

// keepLogs keeps the logs of a lab under out/logs, in a folder of what was done on it.
func keepLogs(p *product.Product, what string) {
	to := filepath.Join(p.Repo, "out", "logs", p.Lab.Options().Name, what)
	if err := p.Lab.CopyLogs(to); err != nil {
		fmt.Fprintln(os.Stderr, "the logs could not be kept:", err)
		return
	}
	fmt.Fprintln(os.Stderr, "logs are in", to)
	if p.Lab.Options().Light {
		return
	}
	for _, component := range []string{"controller", "speaker"} {
		out, _ := p.Kubectl(context.Background(), "-n", product.Namespace, "logs", "--prefix", "--tail=-1",
			"-l", "app.kubernetes.io/component="+component)
		_ = os.WriteFile(filepath.Join(to, component+".log"), []byte(out), 0o644)
	}
}

// scene is one test's view of a lab.
type scene struct {
	*testing.T
	*product.Product
	ctx context.Context
}

// onFullLab begins a scenario on the shared lab.
func onFullLab(t *testing.T) *scene {
	t.Helper()
	p, err := full.up()
	if err != nil {
		t.Fatal("bring up the lab:", err)
	}
	keepLogsWhenFailed(t, p)
	return &scene{T: t, Product: p, ctx: t.Context()}
}

// must runs kubectl.
func (s *scene) must(args ...string) string {
	s.Helper()
	out, err := s.Kubectl(s.ctx, args...)
	if err != nil {
		s.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// have applies manifests, and takes the objects away at the end of the test.
func (s *scene) have(manifests string) {
	s.Helper()
	if _, err := s.Apply(s.ctx, manifests); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := s.Delete(context.Background(), manifests); err != nil {
			s.Error("clean up:", err)
		}
	})
}

// eventually waits until ok says so.
func (s *scene) eventually(within time.Duration, what string, ok func() bool) {
	s.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			s.Fatalf("%s: not within %v", what, within)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// pool has a pool of the lab's addresses, announced on layer 2.
func (s *scene) pool(name string, addresses ...string) {
	s.Helper()
	s.have(fmt.Sprintf(`{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: %s},
spec: {addresses: ["%s"], advertise: [L2]}}`, name, strings.Join(addresses, `", "`)))
}

// manifest writes a Service of type LoadBalancer in front of the pods app=web; more is further fields of its spec.
func manifest(name, more string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: %s},
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}], %s}}
---
`, name, more)
}

const dualStack = "ipFamilyPolicy: RequireDualStack"

// web has pods app=web running, one on each node.
func (s *scene) web() {
	s.Helper()
	s.have(`{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}},
template: {metadata: {labels: {app: web}}, spec: {terminationGracePeriodSeconds: 0, containers: [
{name: web, image: "bellwether-lab/webserver:dev", imagePullPolicy: IfNotPresent, ports: [{containerPort: 8080}]}]}}}}`)
	s.must("rollout", "status", "daemonset/web", "--timeout=90s")
}

// addresses waits for a Service's addresses.
func (s *scene) addresses(service string, n int) []netip.Addr {
	s.Helper()
	addrs, err := s.Addresses(s.ctx, "default", service, n)
	if err != nil {
		s.Fatal(err)
	}
	return addrs
}

// owner waits until some node but one says that it answers for an address, and returns it with its MAC.
func (s *scene) owner(a netip.Addr, but string) (node, mac string) {
	s.Helper()
	s.eventually(20*time.Second, fmt.Sprintf("a speaker other than %q answers for %s", but, a), func() bool {
		var err error
		if node, err = s.Owner(s.ctx, a); err != nil {
			s.Fatal(err)
		}
		return node != "" && node != but
	})
	mac, err := s.MAC(s.ctx, node)
	if err != nil {
		s.Fatal(err)
	}
	return node, mac
}

// asking asks for addresses from the client until the returned function is called.
func (s *scene) asking(every time.Duration, addrs ...netip.Addr) (stop func() probe.Record) {
	s.Helper()
	stop, _ = s.probing(every, addrs...)
	return stop
}

// probing is asking, with the prober that it is done by.
func (s *scene) probing(every time.Duration, addrs ...netip.Addr) (func() probe.Record, *probe.Prober) {
	s.Helper()
	prober, err := probe.NewProber(s.Lab.NetNS(lab.Client), "eth0", every, addrs...)
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan error, 1)
	go func() { done <- prober.Run(ctx) }()
	return func() probe.Record {
		s.Helper()
		cancel()
		if err := <-done; err != nil {
			s.Error("asking from the client:", err)
		}
		return prober.Record()
	}, prober
}

// answeredBy checks who answers for an address, for a second.
func (s *scene) answeredBy(a netip.Addr, mac string) {
	s.Helper()
	stop := s.asking(20*time.Millisecond, a)
	time.Sleep(time.Second)
	record := stop()
	if len(record) < 25 || !slices.Equal(record.MACs(), []string{mac}) || len(record.Doubles()) > 0 {
		s.Errorf("%s: %d answers to 50 questions in a second, from %v, %d questions answered twice; want only %s",
			a, len(record), record.MACs(), len(record.Doubles()), mac)
	}
}

// silent checks that nobody answers for an address.
func (s *scene) silent(a netip.Addr) {
	s.Helper()
	stop := s.asking(20*time.Millisecond, a)
	time.Sleep(500 * time.Millisecond)
	if record := stop(); len(record) > 0 {
		s.Errorf("%s is still answered for by %v", a, record.MACs())
	}
}

// reachable waits until HTTP works from the client.
func (s *scene) reachable(a netip.Addr) {
	s.Helper()
	client := s.Lab.HTTPClient(lab.Client, time.Second)
	s.eventually(15*time.Second, "HTTP to "+a.String()+" from the client", func() bool {
		resp, err := client.Get("http://" + netip.AddrPortFrom(a, 80).String() + "/")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}
