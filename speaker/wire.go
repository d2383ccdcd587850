package main

import (
	"context"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"net/url"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"golang.org/x/sync/errgroup"

	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/obs"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/announce/bfd"
	"github.com/bellwether-lb/bellwether/pkg/announce/l2"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/heartbeat"
	"github.com/bellwether-lb/bellwether/pkg/links"
	"github.com/bellwether-lb/bellwether/pkg/membership"
)

// gossipKey waits for the Secret that the controller makes.
func gossipKey(ctx context.Context, client *kube.Client, o options, log *slog.Logger) ([]byte, error) {
	if o.secret == "" {
		return nil, nil
	}
	secret, err := client.WaitGossipSecret(ctx, o.namespace, o.secret, log)
	if err != nil {
		return nil, err
	}
	key := membership.Key(secret)
	return key[:], nil
}

func newSpeaker(client *kube.Client, o options, key []byte, log *slog.Logger) (*speaker, error) {
	poke := reconcile.NewPoke()
	registry := obs.NewRegistry()
	s := &speaker{
		node:          o.node,
		port:          uint16(o.port),
		poke:          poke,
		notReadyDelay: o.notReadyDelay,
		log:           log,
		local:         reconcile.NewPoke(),
		orders:        reconcile.NewLatest[order](),
		changed:       reconcile.NewPoke(),
		readyAtFirst:  map[string]bool{},
		counters:      &l2.Counters{},
		secret:        reconcile.NewPoke(),
		dropped:       &bfd.Counters{},
		routers:       reconcile.NewPoke(),
		events:        kube.NewRecorder(client, "bellwether-speaker", o.node),
	}
	s.status = newStatusWriter(client, o.node, log, s.speakerStatus, s.hears)
	s.heartbeat = heartbeat.New(heartbeat.Config{Node: o.node, Key: key, Log: log, Traffic: links.Received, Publish: s.hear})
	s.members = membership.New(membership.Config{Node: o.node, Bind: o.bind, Port: s.port, Key: key, Log: log,
		Publish: func(m cluster.Members) {
			s.alive.Store(&m)
			poke.Ring()
		}, Spread: s.heartbeat.State})
	s.proxy = newProxyHealth(o.bind, o.proxyPort, log, poke)
	s.localHealth = newLocalHealth(o.bind, log, poke)
	s.links = links.New(log, func(l []cluster.Link) {
		s.ownLinks.Store(&l)
		s.heartbeat.Links(l)
		poke.Ring()
	})
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(o.node))
	s.l2 = l2.New(l2.Config{Log: log, Seed: seed.Sum64(), Counters: s.counters, Changed: s.changed})
	if err := s.routing(log); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(registry, s)
	s.server = &obs.Server{Addr: o.addr, DebugAddr: o.debugAddr, Secure: obs.NewSecure(o.secureAddr, o.tlsFolder, kube.NewReviewer(client).MayGet), Registry: registry, Ready: s.ready, Log: log,
		Dumps: map[string]func() any{"view": s.dumpView, "plan": s.dumpPlan, "have": func() any { return s.l2.Have() }},
		Asks:  map[string]func(url.Values) (any, error){"who-has": s.whoHas}}
	if err := s.watch(client, o); err != nil {
		return nil, err
	}
	return s, nil
}

// watch prepares the informers.
func (s *speaker) watch(client *kube.Client, o options) error {
	var err error
	services := kube.OnlyLoadBalancers(client.Services(""))
	if s.services, err = kube.NewSource(services, &corev1.Service{}, kube.ServiceConverter(o.class), s.poke); err != nil {
		return err
	}
	// Nobody announces a Service without an address, and most of what is written to one says only that it is announced.
	s.services.Only(func(v kube.Service) bool {
		return v.Wanted && (len(v.Held) > 0 || v.TrafficPolicy == cluster.TrafficLocal)
	})
	s.services.Unless(func(was, now kube.Service) bool {
		return was.Wanted == now.Wanted && reflect.DeepEqual(was.Service, now.Service)
	})
	if s.nodes, err = kube.NewSource(client.Nodes, &corev1.Node{}, kube.Node, s.poke); err != nil {
		return err
	}
	s.nodes.Unless(func(was, now cluster.Node) bool { return reflect.DeepEqual(was, now) })
	if s.slices, err = kube.NewSource(client.Slices, &discoveryv1.EndpointSlice{}, kube.Slice, s.poke); err != nil {
		return err
	}
	secrets := kube.OnlyBasicAuth(client.Secrets(o.namespace))
	if s.passwords, err = kube.NewSource(secrets, &corev1.Secret{}, kube.Password, s.routers); err != nil {
		return err
	}
	if s.objects, err = kube.NewConfigSource(client, o.metalLB, s.poke, s.log); err != nil {
		return err
	}
	s.objects.IgnoreStatus()
	return nil
}

// run works until ctx ends, then hands over what this node owns, leaves, and stops answering last of all.
func (s *speaker) run(ctx context.Context) error {
	answering, stopAnswering := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAnswering()
	group, working := errgroup.WithContext(answering)
	loop := &reconcile.Loop{Name: "decide", Poke: s.poke, Pass: s.pass, Resync: time.Minute, Log: s.log}
	for _, task := range []func(context.Context) error{
		s.services.Run, s.nodes.Run, s.watchEndpoints, s.watchPasswords, s.objects.Run,
		s.links.Run, s.proxy.Run, s.localHealth.Run, s.members.Run, s.heartbeat.Run, s.l2.Run, s.bgp.Run, s.bfd.Run, s.discovery.Run, s.act, s.report, s.status.Run, s.events.Run, s.server.Run, loop.Run,
	} {
		group.Go(func() error { return task(working) })
	}
	group.Go(func() error {
		select {
		case <-working.Done():
			return nil
		case <-ctx.Done():
		}
		s.handOver(working)
		stopAnswering()
		return nil
	})
	return group.Wait()
}

// The bounds of a planned stop. The Pod's grace period must be longer than their sum.
const (
	handOverBound = 4 * time.Second
	leaveBound    = 2 * time.Second
)

// handOver tells the others that this speaker goes, and waits until they have taken over what it answers for.
func (s *speaker) handOver(ctx context.Context) {
	s.log.Info("stopping: handing addresses over", "addresses", answered(s.l2.Have()))
	s.leaving.Store(true)
	s.poke.Ring()
	deadline := time.Now().Add(handOverBound)
	// The plan that yields everything may still be on its way, so silence counts once it has been carried out.
	for !(s.yielded.Load() && s.l2.Have().Quiet() && s.routesDrained()) && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	leave, cancel := context.WithTimeout(ctx, leaveBound)
	defer cancel()
	s.members.Leave(leave)
	s.log.Info("stopped", "stillAnswering", answered(s.l2.Have()))
}

// addrsByNode returns where each node's speaker gossips: the node's first internal address.
func addrsByNode(nodes []cluster.Node) map[string]netip.Addr {
	addrs := make(map[string]netip.Addr, len(nodes))
	for _, n := range nodes {
		if len(n.Addrs) > 0 {
			addrs[n.Name] = n.Addrs[0]
		}
	}
	return addrs
}
