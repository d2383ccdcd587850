package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/obs"
	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/announce/bgp"
	"github.com/bellwether-lb/bellwether/pkg/announce/l2"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/heartbeat"
)

// explain logs and counts what a pass changed: who owns what, and why this node does not.
func (s *speaker) explain(view announce.View, old *announce.Plan, plan announce.Plan) {
	if old == nil {
		old = &announce.Plan{}
	}
	owned, moved, despite := 0, 0, map[announce.Reason]int{}
	for key, verdicts := range plan.Why {
		for _, v := range verdicts {
			if v.Reason == announce.Announced {
				owned++
			}
			i := slices.IndexFunc(old.Why[key], func(o announce.Verdict) bool { return o.Addr == v.Addr })
			was := announce.Verdict{}
			if i >= 0 {
				was = old.Why[key][i]
			}
			if v.Reason == announce.Announced && v.Despite != "" && v.Despite != was.Despite {
				despite[v.Despite]++
			}
			if was.Owner != v.Owner || was.Reason != v.Reason {
				moved++
				s.metrics.verdict(was, v, view.Alive.Alive)
				s.log.Debug("decided", "service", key, "address", v.Addr, "reason", v.Reason, "owner", v.Owner, "self", v.Self)
			}
		}
	}
	for reason, n := range despite {
		s.log.Warn("no better candidate is left, so this node announces although something speaks against it", "reason", reason, "addresses", n)
	}
	if moved > 0 {
		s.log.Info("decided", "changed", moved, "owned", owned, "members", len(view.Alive.Alive))
	}
}

// report follows what is really announced: it records events for what this node took over, and keeps the Speaker object
// current.
func (s *speaker) report(ctx context.Context) error {
	before, overtaken := map[netip.Addr]l2.State{}, 0
	var silent silence
	var strangers []string
	var sessions map[string]bgp.State
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		case <-tick.C:
		}
		have := s.l2.Have()
		if have.Overtaken > overtaken {
			overtaken = have.Overtaken
			s.poke.Ring()
		}
		s.tell(before, have.Addrs)
		s.warn(before, have.Addrs)
		if now := s.strangers(); !slices.Equal(now, strangers) {
			strangers = now
			if len(now) > 0 {
				s.log.Warn("speakers are heard under another gossip key: see that all read the same Secret, and restart those that do not", "nodes", now)
			}
		}
		before = have.Addrs
		now := s.bgp.Have()
		s.tellSessions(sessions, now)
		sessions = now
		if view := s.seen.Load(); view != nil {
			now := time.Now()
			silent.keep(view.Nodes)
			if silent.look(view.Alive.Alive, s.node, now) {
				s.status.doubted.Store(true)
			}
			cutOff := len(silent.since) > 1 && len(s.found().Cut) > 0
			unsure := cutOff || len(s.stillAnswering()) > 0
			s.status.silent.Put(silent.due(s.node, unsure, now))
		}
		s.metrics.announced.Set(float64(answered(have)))
		s.status.stale.Ring()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reportRest):
		}
	}
}

// answered counts the addresses that are answered for, and not just about to be, or left to another machine.
func answered(have l2.Have) int {
	n := 0
	for _, state := range have.Addrs {
		if len(state.Links) > 0 {
			n++
		}
	}
	return n
}

// hears reports whether the speaker of another node is heard.
func (s *speaker) hears(node string) bool {
	view := s.seen.Load()
	if view == nil {
		return false
	}
	_, heard := view.Alive.Alive[node]
	return heard
}

// reportRest is the shortest time between two looks at what is announced: each looks at all addresses, and in a flood of new ones
// there is a change every few milliseconds.
const reportRest = 50 * time.Millisecond

// eventsAtOnce bounds the events of one change: a failover of thousands of addresses writes no event for each.
const eventsAtOnce = 20

// tell records that this node took addresses over.
func (s *speaker) tell(before, now map[netip.Addr]l2.State) {
	view := s.seen.Load()
	if view == nil {
		return
	}
	gained := map[netip.Addr]struct{}{}
	for a, state := range now {
		if len(state.Links) > 0 && len(before[a].Links) == 0 && !state.Yielding {
			gained[a] = struct{}{}
		}
	}
	if len(gained) == 0 {
		return
	}
	s.log.Info("announcing", "gained", len(gained), "total", answered(s.l2.Have()))
	told := 0
	for _, service := range view.Services {
		for _, a := range service.Held {
			if _, is := gained[a]; is && told < eventsAtOnce {
				told++
				kind, text := s.assigned(service.Key, a)
				s.events.Service(service.Key, types.UID(service.UID), kind, "nodeAssigned", text)
			}
		}
	}
}

// conflictsAtMost bounds the conflicts that a Speaker object lists.
const conflictsAtMost = 100

// warn records events for addresses that other machines have too.
func (s *speaker) warn(before, now map[netip.Addr]l2.State) {
	found := map[netip.Addr]l2.State{}
	for a, state := range now {
		if state.Conflict != (cluster.MAC{}) && state.Conflict != before[a].Conflict {
			found[a] = state
		}
	}
	s.metrics.conflicts.Add(float64(len(found)))
	view := s.seen.Load()
	if len(found) == 0 || view == nil {
		return
	}
	told := 0
	for _, service := range view.Services {
		for _, a := range service.Held {
			state, is := found[a]
			if !is || told >= eventsAtOnce {
				continue
			}
			told++
			doing := "announced all the same"
			if len(state.Links) == 0 {
				doing = "not announced while it answers"
			}
			s.events.Service(service.Key, types.UID(service.UID), corev1.EventTypeWarning, "AddressConflict",
				fmt.Sprintf("another machine on the network, of hardware address %s, has %s: %s", state.Conflict, a, doing))
		}
	}
}

// assigned is the event of an address that this node announces now.
func (s *speaker) assigned(service cluster.Key, a netip.Addr) (kind, text string) {
	text = fmt.Sprintf("announcing %s from node %q with protocol %q", a, s.node, "layer2")
	if plan := s.planned.Load(); plan != nil {
		for _, v := range plan.Why[service] {
			if v.Addr == a && v.Despite != "" {
				return corev1.EventTypeWarning, text + fmt.Sprintf(", although something speaks against it (%s): no better candidate is left", v.Despite)
			}
		}
	}
	return corev1.EventTypeNormal, text
}

// speakerStatus says what the Speaker object shall say.
func (s *speaker) speakerStatus() v1beta1.SpeakerStatus {
	have := s.l2.Have()
	status := v1beta1.SpeakerStatus{Version: obs.Version()}
	if links := s.ownLinks.Load(); links != nil {
		for _, l := range withCut(*links, s.found().Cut) {
			link := v1beta1.SpeakerLink{Name: l.Name, MAC: l.MAC.String(), Up: l.Up, Silent: l.Silent}
			for _, p := range l.Prefixes {
				link.Prefixes = append(link.Prefixes, p.String())
			}
			for _, g := range l.Gateways {
				link.Gateways = append(link.Gateways, g.String())
			}
			status.Links = append(status.Links, link)
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(have.Addrs), netip.Addr.Compare) {
		state := have.Addrs[a]
		if len(state.Links) > 0 {
			status.Layer2.Owned = append(status.Layer2.Owned, v1beta1.OwnedAddress{Address: a.String(), Interfaces: state.Links})
		}
		if state.Conflict != (cluster.MAC{}) && len(status.Layer2.Conflicts) < conflictsAtMost {
			status.Layer2.Conflicts = append(status.Layer2.Conflicts,
				v1beta1.AddressConflict{Address: a.String(), Station: state.Conflict.String(), Announced: len(state.Links) > 0})
		}
	}
	status.Layer2.Addresses = int32(len(status.Layer2.Owned))
	status.BGP = s.bgpStatus()
	status.Conditions = s.conditions()
	return status
}

func (s *speaker) conditions() []metav1.Condition {
	ready := metav1.Condition{Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", Message: "may own addresses"}
	if err := s.ready(); err != nil {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "Starting", err.Error()
	}
	if s.leaving.Load() {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1beta1.ReasonLeaving, "hands its addresses over before it stops"
	}
	agree := metav1.Condition{Type: v1beta1.ConditionMembersAgree, Status: metav1.ConditionTrue, Reason: "AllHeard", Message: "a speaker is heard on every node"}
	if silent := s.silentNodes(); len(silent) > 0 {
		agree.Status, agree.Reason = metav1.ConditionFalse, "NodesSilent"
		agree.Message = fmt.Sprintf("no speaker is heard on %s: look whether it runs there, and whether TCP and UDP port %d is open between the nodes", strings.Join(silent, ", "), s.port)
	}
	if deaf := s.onSegmentOnly(); len(deaf) > 0 {
		agree.Status, agree.Reason = metav1.ConditionFalse, "GossipBlocked"
		agree.Message = fmt.Sprintf("heard on the network and not by gossip: %s; they count as alive. Open TCP and UDP port %d between the nodes", strings.Join(deaf, ", "), s.port)
	}
	if found := s.found(); len(found.Silent)+len(found.Cut) > 0 {
		agree.Status, agree.Reason = metav1.ConditionFalse, "LinksSilent"
		agree.Message = silentLinks(found)
	}
	if still := s.stillAnswering(); len(still) > 0 {
		agree.Status, agree.Reason = metav1.ConditionFalse, "StillAnswering"
		agree.Message = fmt.Sprintf("not heard and yet answering on the network: %s; this speaker takes nothing over from them. Look whether TCP and UDP port %d is open between the nodes", strings.Join(still, ", "), s.port)
	}
	if names := s.strangers(); len(names) > 0 {
		agree.Status, agree.Reason = metav1.ConditionFalse, "OtherGossipKey"
		agree.Message = fmt.Sprintf("heard under another gossip key: %s; this speaker and they take nothing over from each other. See that all read the same Secret, and restart those that do not", strings.Join(names, ", "))
	}
	applied := metav1.Condition{Type: v1beta1.ConditionConfigApplied, Status: metav1.ConditionTrue, Reason: "Applied", Message: "everything is announced as planned"}
	if text := s.setError.Load(); text != nil {
		applied.Status, applied.Reason, applied.Message = metav1.ConditionFalse, "NotApplied", *text
	}
	all := []metav1.Condition{ready, agree, applied}
	if proxy, is := s.proxy.condition(); is {
		all = append(all, proxy)
	}
	return all
}

// stillAnswering returns the stations that answer for addresses which this speaker should take over, at most ten of them.
func (s *speaker) stillAnswering() []string {
	count := map[cluster.MAC]int{}
	for _, state := range s.l2.Have().Addrs {
		if state.Contested != (cluster.MAC{}) {
			count[state.Contested]++
		}
	}
	var still []string
	for mac, n := range count {
		still = append(still, fmt.Sprintf("station %s (%d addresses)", mac, n))
	}
	slices.Sort(still)
	return still[:min(len(still), listed)]
}

// listed is how many things a condition names at most.
const listed = 10

// silentLinks says which links are not heard, or hear nobody.
func silentLinks(f heartbeat.Findings) string {
	var parts []string
	if len(f.Cut) > 0 {
		parts = append(parts, fmt.Sprintf("nobody is heard any more on %s of this node: look at its cable, and at the port that it leads to", strings.Join(f.Cut, ", ")))
	}
	var names []string
	for _, p := range f.Silent[:min(len(f.Silent), listed)] {
		names = append(names, p.Link+" of "+p.Node)
	}
	if len(names) > 0 {
		parts = append(parts, "not heard on the network: "+strings.Join(names, ", "))
	}
	return strings.Join(parts, "; ")
}

// strangers returns the nodes of this cluster that are heard under another gossip key only, ten at most.
func (s *speaker) strangers() []string {
	view := s.seen.Load()
	if view == nil {
		return nil
	}
	names := otherKeys(*view, s.found())
	return names[:min(len(names), listed)]
}

// onSegmentOnly returns the nodes that are heard on a segment and not by gossip.
func (s *speaker) onSegmentOnly() []string {
	view := s.seen.Load()
	if view == nil {
		return nil
	}
	var names []string
	for name, m := range view.Alive.Alive {
		if m.OnSegmentOnly {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names[:min(len(names), listed)]
}

// silentNodes returns the nodes on which no speaker is alive, at most ten of them.
func (s *speaker) silentNodes() []string {
	view := s.seen.Load()
	if view == nil {
		return nil
	}
	var silent []string
	for _, n := range view.Nodes {
		if _, alive := view.Alive.Alive[n.Name]; !alive {
			silent = append(silent, n.Name)
		}
	}
	slices.Sort(silent)
	return silent[:min(len(silent), listed)]
}
