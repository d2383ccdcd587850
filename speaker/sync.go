package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/obs"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/bfd"
	"github.com/bellwether-lb/bellwether/pkg/announce/bgp"
	"github.com/bellwether-lb/bellwether/pkg/announce/discovery"
	"github.com/bellwether-lb/bellwether/pkg/announce/l2"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
	"github.com/bellwether-lb/bellwether/pkg/heartbeat"
	"github.com/bellwether-lb/bellwether/pkg/links"
	"github.com/bellwether-lb/bellwether/pkg/membership"
)

// speaker is the process: sources, one loop that decides, and the actuators, for layer 2 and for BGP. Atomics are where a goroutine publishes to
// another; the fields below the line are the loop goroutine's alone.
type speaker struct {
	node          string
	port          uint16
	log           *slog.Logger
	poke          reconcile.Poke
	notReadyDelay time.Duration // how long a Node may be without the condition Ready

	services  *kube.Source[kube.Service]
	nodes     *kube.Source[cluster.Node]
	slices    *kube.Source[kube.Endpoints] // is watched from the first Service on whose externalTrafficPolicy is Local
	local     reconcile.Poke               // rung when there is such a Service
	passwords *kube.Source[string]         // is watched from the first BGPPeer on that has one
	secret    reconcile.Poke               // rung when there is such a peer
	objects   *kube.ConfigSource
	links     *links.Watcher
	members   *membership.Membership
	heartbeat *heartbeat.Heartbeat
	proxy     *proxyHealth

	localHealth *localHealth
	findings    atomic.Pointer[heartbeat.Findings]
	alive       atomic.Pointer[cluster.Members]
	ownLinks    atomic.Pointer[[]cluster.Link]

	orders    *reconcile.Latest[order]
	l2        *l2.Announcer
	bgp       *bgp.Announcer
	bfd       *bfd.Engine
	dropped   *bfd.Counters
	discovery *discovery.Engine
	routers   reconcile.Poke // rung when BFD, a router on a link or a password has changed
	counters  *l2.Counters
	changed   reconcile.Poke
	setError  atomic.Pointer[string]
	events    *kube.Recorder
	status    *statusWriter
	metrics   *metrics
	server    *obs.Server

	standing atomic.Bool // may own addresses, as this node sees itself
	leaving  atomic.Bool
	yielded  atomic.Bool // the plan of a leaving speaker has been carried out
	seen     atomic.Pointer[announce.View]
	planned  atomic.Pointer[announce.Plan]

	// ---
	stance    stance
	overtaken int // of the announcer, when last looked
	seizure   seizure
	configKey string
	config    config.Config
	names     []string // of the nodes, sorted
	peers     map[string]netip.Addr
	// readyAtFirst says of each other speaker whether it was ready when it was heard first.
	readyAtFirst map[string]bool
}

func (s *speaker) synced() bool {
	return s.services.Synced() && s.nodes.Synced() && s.objects.Synced()
}

// ready says why this speaker does not own addresses yet. It is ready a little after it could be, when the others know:
// a rollout that waits for it moves nothing twice.
func (s *speaker) ready() error {
	if err := s.able(); err != nil {
		return err
	}
	if !s.standing.Load() {
		return errors.New("the other speakers are being told that this one is here")
	}
	return nil
}

// able says why this speaker could not own addresses.
func (s *speaker) able() error {
	switch {
	case !s.synced():
		return errors.New("the first lists from the API server are not complete")
	case s.ownLinks.Load() == nil:
		return errors.New("the network interfaces have not been read yet")
	case !s.members.Settled():
		return errors.New("no other speaker has been met yet")
	case !s.proxy.over.Load():
		return errors.New("the kube-proxy of this node is not healthy yet")
	}
	return nil
}

// pass looks at the world once and decides.
func (s *speaker) pass(_ context.Context, asked time.Time) (time.Duration, error) {
	if s.nodes.Synced() {
		s.meet()
	}
	if !s.synced() || s.ownLinks.Load() == nil {
		return 20 * time.Millisecond, nil
	}
	waiting := s.awaitsEndpoints()
	if waiting && s.planned.Load() == nil {
		return 20 * time.Millisecond, nil
	}
	leaving := s.leaving.Load() // before the stance is taken, which then says so too
	again := s.takeStance()
	if waiting {
		again = reconcile.Sooner(again, 50*time.Millisecond)
	}
	started := time.Now()
	view, later := s.view()
	again = reconcile.Sooner(again, later)
	plan := announce.Decide(view)
	soon, took := s.seizure.mark(plan, view, s.l2.Have(), asked, time.Now())
	again = reconcile.Sooner(again, soon)
	plan.L2.Others, plan.L2.AllKnown = s.seizure.others(view, s.found().Heard)
	plan.L2.Again = s.seizure.returned(view)
	s.metrics.pass.Observe(time.Since(started).Seconds())
	old := s.planned.Load()
	s.seen.Store(&view)
	s.planned.Store(&plan) // before it is carried out: who waits for that asks whether this is
	if old == nil || leaving || !old.L2.Equal(plan.L2) || s.setError.Load() != nil {
		s.orders.Put(order{plan: plan.L2, asked: asked, leaving: leaving})
	}
	if old == nil || !old.BGP.Equal(plan.BGP) {
		s.bgp.Set(plan.BGP)
	}
	s.metrics.tookOver(took)
	s.explain(view, old, plan)
	s.changed.Ring()
	return again, nil
}

// meet has the speakers of the other nodes looked for.
func (s *speaker) meet() {
	var nodes []cluster.Node
	for _, r := range s.nodes.Records() {
		nodes = append(nodes, r.Value)
	}
	names := make([]string, len(nodes))
	for i := range nodes {
		names[i] = nodes[i].Name
	}
	if slices.Sort(names); !slices.Equal(s.names, names) {
		s.names = names
		s.heartbeat.Nodes(names)
	}
	if peers := addrsByNode(nodes); s.peers == nil || !maps.Equal(s.peers, peers) {
		s.peers = peers
		s.members.Peers(peers)
	}
}

// startsTogether reports whether all speakers start together with this one.
func (s *speaker) startsTogether() bool {
	alive := s.alive.Load()
	if alive == nil {
		return false
	}
	var nodes []string
	for _, r := range s.nodes.Records() {
		nodes = append(nodes, r.Value.Name)
	}
	return together(nodes, s.node, alive.Alive, s.readyAtFirst)
}

// takeStance tells the others how this node stands, and works out how it sees itself.
func (s *speaker) takeStance() time.Duration {
	if overtaken := s.l2.Have().Overtaken; overtaken > s.overtaken {
		s.log.Warn("others took addresses over while this speaker did not run: handing the rest over too, and starting afresh",
			"overtaken", overtaken-s.overtaken)
		s.overtaken = overtaken
		s.stance.stepBack(time.Now())
	}
	now := cluster.Member{Ready: s.able() == nil, Leaving: s.leaving.Load(), Links: withCut(*s.ownLinks.Load(), s.found().Cut)}
	if !s.stance.told.Ready {
		s.stance.together = s.startsTogether()
	}
	tell, again := s.stance.take(now, time.Now())
	if tell {
		s.members.State(s.stance.told)
	}
	s.standing.Store(s.stance.own.Ready)
	return again
}

// view collects one instant, and says how soon it is another though nothing happens; 0 for never.
func (s *speaker) view() (v announce.View, again time.Duration) {
	s.parseConfig()
	v = announce.View{Self: s.node, Config: s.config, Alive: cluster.Members{Known: true, Alive: map[string]cluster.Member{}}}
	if alive := s.alive.Load(); alive != nil {
		v.Alive.Alive = withSilent(alive.Alive, s.found().Silent)
	}
	v.Alive.Alive[s.node] = s.stance.own
	for _, r := range s.nodes.Records() {
		v.Nodes = append(v.Nodes, r.Value)
	}
	again = s.unready(v.Nodes, time.Now())
	serving, here := map[cluster.Key][]string{}, map[cluster.Key]uint16{}
	for _, r := range s.slices.Records() {
		serving[r.Value.Service] = append(serving[r.Value.Service], r.Value.Serving...)
	}
	services := s.services.Records()
	v.Services = make([]cluster.Service, 0, len(services))
	for _, r := range services {
		if !r.Value.Wanted || len(r.Value.Held) == 0 {
			continue
		}
		service := r.Value.Service
		switch {
		case service.TrafficPolicy != cluster.TrafficLocal:
		case s.slices.Synced():
			service.Serving = slices.Compact(slices.Sorted(slices.Values(serving[service.Key])))
			if _, serves := slices.BinarySearch(service.Serving, s.node); serves && service.HealthPort > 0 && len(v.Config.Peers) > 0 {
				here[service.Key] = service.HealthPort
				service.NotYetHere = !s.localHealth.isReady(service.Key)
			}
		default: // rather than to answer for it nowhere until the endpoints are known; routers are told when they are
			service.TrafficPolicy, service.NotYetHere = cluster.TrafficCluster, true
		}
		v.Services = append(v.Services, service)
	}
	s.localHealth.follow(here)
	return v, again
}

// awaitsEndpoints reports whether there is a Service that is announced only where it has endpoints, and these are not known yet; it has
// them watched then. In most clusters there is none, and nobody need hear of every Pod that comes and goes.
func (s *speaker) awaitsEndpoints() bool {
	local := !s.slices.Synced() && slices.ContainsFunc(s.services.Records(), func(r *kube.Record[kube.Service]) bool {
		return r.Value.Wanted && r.Value.TrafficPolicy == cluster.TrafficLocal
	})
	if local {
		s.local.Ring()
	}
	return local
}

// watchEndpoints begins when somebody awaits them.
func (s *speaker) watchEndpoints(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.local:
		return s.slices.Run(ctx)
	}
}

// unready works out which nodes have not been Ready for too long, and returns how soon there is another, or 0.
func (s *speaker) unready(nodes []cluster.Node, now time.Time) (again time.Duration) {
	for i := range nodes {
		if nodes[i].NotReadySince == 0 {
			continue
		}
		left := s.notReadyDelay - now.Sub(time.Unix(nodes[i].NotReadySince, 0))
		nodes[i].NotReady = left <= 0
		if left > 0 {
			again = reconcile.Sooner(again, left)
		}
	}
	return again
}

// parseConfig parses the pools and advertisements when any of them has changed.
func (s *speaker) parseConfig() {
	key := s.objects.Versions()
	if key == s.configKey {
		return
	}
	s.configKey = key
	s.config, _ = config.Parse(s.objects.Objects())
}

// order is what is to be announced, and when something happened that makes it so.
type order struct {
	plan    announce.L2Plan
	asked   time.Time
	leaving bool // this node hands over all that it has
}

// act carries out the newest plan, and tries again while it does not hold.
func (s *speaker) act(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-s.orders.C():
			plan := o.plan
			if _, err := s.l2.Set(ctx, plan); err != nil && ctx.Err() == nil {
				text := err.Error()
				s.setError.Store(&text)
				s.log.Warn("not everything is announced as planned, will retry", "error", err)
				time.AfterFunc(time.Second, s.poke.Ring)
			} else {
				s.setError.Store(nil)
				s.metrics.toWire.Observe(time.Since(o.asked).Seconds())
			}
			if o.leaving && yieldsAll(plan) {
				s.yielded.Store(true)
			}
			s.changed.Ring()
		}
	}
}

func yieldsAll(plan announce.L2Plan) bool {
	for _, what := range plan.Addrs {
		if !what.Yield {
			return false
		}
	}
	return true
}

func (s *speaker) dumpView() any {
	if v := s.seen.Load(); v != nil {
		return v
	}
	return announce.View{Self: s.node}
}

func (s *speaker) dumpPlan() any {
	if p := s.planned.Load(); p != nil {
		return p
	}
	return announce.Plan{}
}
