// Command speaker makes the addresses of Services reachable from its node's network segments.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/obs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "speaker:", err)
		os.Exit(1)
	}
}

type options struct {
	kubeconfig, namespace, node string
	class                       string
	bind                        netip.Addr
	port                        uint
	secret                      string
	secureAddr, tlsFolder       string
	addr, debugAddr             string
	metalLB                     string
	logLevel, logFormat         string
	notReadyDelay               time.Duration
	proxyPort                   uint
}

func parse(args []string) (options, error) {
	var o options
	var bind string
	hostname, _ := os.Hostname()
	f := flag.NewFlagSet("speaker", flag.ContinueOnError)
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig to reach the API server with; empty: the Pod's service account")
	f.StringVar(&o.namespace, "namespace", env("POD_NAMESPACE", "bellwether-system"), "namespace of the gossip Secret")
	f.StringVar(&o.node, "node", env("NODE_NAME", hostname), "name of the Node that this speaker is on")
	f.StringVar(&o.class, "load-balancer-class", kube.DefaultLoadBalancerClass, "spec.loadBalancerClass to serve, besides Services that have none")
	f.StringVar(&bind, "gossip-address", os.Getenv("NODE_IP"), "address of this node to gossip on")
	f.UintVar(&o.port, "gossip-port", 7948, "UDP and TCP port to gossip on, the same on every node")
	f.StringVar(&o.secret, "gossip-secret", kube.GossipSecret, "Secret that the gossip key is made from (its key secret, 16 bytes at least); another one is for you to make, with the right to get it; empty: gossip is not encrypted")
	f.StringVar(&o.metalLB, "metallb-objects", "", "namespace of MetalLB's objects (metallb.io) to work on besides Bellwether's own; empty: none")
	f.StringVar(&o.addr, "listen", ":7480", "address of /metrics, /healthz and /readyz")
	f.StringVar(&o.debugAddr, "debug-listen", "127.0.0.1:7481", "address of /debug/; empty turns it off")
	f.StringVar(&o.secureAddr, "secure-listen", "", "address of /metrics and /debug/ over TLS, for those only whom the API server lets get these paths, such as :7483; "+
		"--listen has no /metrics then; empty: off")
	f.StringVar(&o.tlsFolder, "tls-folder", "", "folder of tls.crt and tls.key for --secure-listen, read again when they change; empty: a certificate that is made at the start")
	f.DurationVar(&o.notReadyDelay, "node-not-ready-delay", time.Minute,
		"how long a Node may be without the condition Ready before others are preferred to it; a kubelet that restarts takes less")
	f.UintVar(&o.proxyPort, "kube-proxy-healthz-port", 10256,
		"port of the node's kube-proxy (/healthz) to wait for before this speaker takes addresses over; 0: do not wait")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.tlsFolder != "" && o.secureAddr == "" {
		return o, errors.New("--tls-folder is for --secure-listen, which is not set: set both, or neither")
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: everything is set by flags, see --help", f.Arg(0))
	}
	addr, err := netip.ParseAddr(bind)
	if err != nil {
		return o, fmt.Errorf("--gossip-address %q is not an IP address: give this node's own, or set NODE_IP to status.hostIP", bind)
	}
	if o.port == 0 || o.port > 65535 {
		return o, fmt.Errorf("--gossip-port %d is not a port: use 1 to 65535", o.port)
	}
	if o.proxyPort > 65535 {
		return o, fmt.Errorf("--kube-proxy-healthz-port %d is not a port: use 1 to 65535, or 0 not to wait", o.proxyPort)
	}
	o.bind = addr
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
	client, err := kube.Connect(o.kubeconfig, "bellwether-speaker")
	if err != nil {
		return err
	}
	log = log.With("node", o.node)
	obs.KeepSmall(ctx, log)
	log.Info("starting", "version", obs.Version(), "gossip", netip.AddrPortFrom(o.bind, uint16(o.port)))
	key, err := gossipKey(ctx, client, o, log)
	if err != nil {
		return err
	}
	s, err := newSpeaker(client, o, key, log)
	if err != nil {
		return err
	}
	return s.run(ctx)
}
