// Command controller allocates addresses from IPAddressPools to Services of type LoadBalancer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sync/errgroup"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/kube/lease"
	"github.com/bellwether-lb/bellwether/internal/obs"
	"github.com/bellwether-lb/bellwether/internal/page"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

type options struct {
	kubeconfig, namespace, identity string
	class                           string
	secureAddr, tlsFolder           string
	addr, debugAddr                 string
	metalLB, pageAddr               string
	logLevel, logFormat             string
	renumberWindow                  time.Duration
}

func parse(args []string) (options, error) {
	var o options
	hostname, _ := os.Hostname()
	f := flag.NewFlagSet("controller", flag.ContinueOnError)
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig to reach the API server with; empty: the Pod's service account")
	f.StringVar(&o.namespace, "namespace", env("POD_NAMESPACE", "bellwether-system"), "namespace of the leader lease and of the gossip Secret")
	f.StringVar(&o.identity, "identity", env("POD_NAME", hostname), "this replica's name in the lease")
	f.StringVar(&o.class, "load-balancer-class", kube.DefaultLoadBalancerClass, "spec.loadBalancerClass to serve, besides Services that have none")
	f.StringVar(&o.pageAddr, "status-listen", "", "address of the live status page, which says everything to whoever reaches it, such as 127.0.0.1:7482; empty: there is none")
	f.StringVar(&o.metalLB, "metallb-objects", "", "namespace of MetalLB's objects (metallb.io) to work on besides Bellwether's own; empty: none")
	f.StringVar(&o.addr, "listen", ":7480", "address of /metrics, /healthz and /readyz")
	f.StringVar(&o.debugAddr, "debug-listen", "127.0.0.1:7481", "address of /debug/; empty turns it off")
	f.StringVar(&o.secureAddr, "secure-listen", "", "address of /metrics and /debug/ over TLS, for those only whom the API server lets get these paths, such as :7483; "+
		"--listen has no /metrics then; empty: off")
	f.StringVar(&o.tlsFolder, "tls-folder", "", "folder of tls.crt and tls.key for --secure-listen, read again when they change; empty: a certificate that is made at the start")
	f.DurationVar(&o.renumberWindow, "renumber-window", time.Minute, "how long a Service that moves to another address holds the old one too")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.renumberWindow < 0 {
		return o, fmt.Errorf("--renumber-window is %v: set it to a length of time that is not negative", o.renumberWindow)
	}
	if o.tlsFolder != "" && o.secureAddr == "" {
		return o, errors.New("--tls-folder is for --secure-listen, which is not set: set both, or neither")
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: everything is set by flags, see --help", f.Arg(0))
	}
	return o, nil
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log, err := obs.NewLogger(os.Stderr, o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	client, err := kube.Connect(o.kubeconfig, "bellwether-controller")
	if err != nil {
		return err
	}
	registry := obs.NewRegistry()
	s, err := newSyncer(client, o, newMetrics(registry), log)
	if err != nil {
		return err
	}
	server := &obs.Server{Addr: o.addr, DebugAddr: o.debugAddr, Secure: obs.NewSecure(o.secureAddr, o.tlsFolder, kube.NewReviewer(client).MayGet), Registry: registry, Ready: s.ready, Log: log,
		Dumps: map[string]func() any{"view": s.dumpView, "plan": s.dumpPlan}}
	tasks := append(s.tasks(), server.Run)
	if o.pageAddr != "" {
		shown, err := page.New(o.pageAddr, client, kube.Reading{Namespace: o.namespace, Class: o.class, MetalLB: o.metalLB, NotReadyDelay: time.Minute}, log)
		if err != nil {
			return err
		}
		tasks = append(tasks, shown.Run)
	}
	obs.KeepSmall(ctx, log)
	log.Info("starting", "version", obs.Version(), "loadBalancerClass", o.class)

	group, ctx := errgroup.WithContext(ctx)
	for _, task := range tasks {
		group.Go(func() error { return task(ctx) })
	}
	return group.Wait()
}

// newSyncer wires the sources to the loop.
func newSyncer(client *kube.Client, o options, m *metrics, log *slog.Logger) (*syncer, error) {
	poke := reconcile.NewPoke()
	s := &syncer{
		client:    client,
		namespace: o.namespace,
		poke:      poke,
		lease:     lease.New(client.Config, o.namespace, kube.LeaseName, o.identity, poke, log),
		events:    kube.NewRecorder(client, "bellwether-controller", ""),
		overlay:   kube.NewOverlay(),
		retention: newRetention(),
		settled:   settled{},
		conflicts: conflicts{},
		metrics:   m,
		log:       log,
		idle:      make(chan struct{}),

		renumberWindow: o.renumberWindow,
	}
	s.reports = &reporter{client: client, held: s.lease.Held, poke: poke, log: log, box: reconcile.NewLatest[report]()}
	fenced, err := client.Fenced(s.lease.Held)
	if err != nil {
		return nil, err
	}
	s.writer = newWriter(fenced, client, poke)
	s.convert = kube.ServiceConverter(o.class)
	if s.services, err = kube.NewSource(client.Services(""), &corev1.Service{}, s.convert, poke); err != nil {
		return nil, err
	}
	s.services.Only(func(v kube.Service) bool { return v.Wanted || v.Marked })
	if s.namespaces, err = kube.NewSource(client.Namespaces, &corev1.Namespace{}, kube.Namespace, poke); err != nil {
		return nil, err
	}
	if s.nodes, err = kube.NewSource(client.Nodes, &corev1.Node{}, kube.Node, poke); err != nil {
		return nil, err
	}
	s.nodes.Unless(func(was, now cluster.Node) bool { return reflect.DeepEqual(was, now) })
	if s.objects, err = kube.NewConfigSource(client, o.metalLB, poke, log); err != nil {
		return nil, err
	}
	if s.speakers, err = kube.NewSource(client.Speakers, &v1beta1.Speaker{}, kube.Speaker, poke); err != nil {
		return nil, err
	}
	return s, nil
}
