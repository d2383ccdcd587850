package explain_test

import (
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

func web() cluster.Key { return cluster.Key{Namespace: "shop", Name: "web"} }

func condition(conditionType string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: conditionType, Status: status, Reason: reason, Message: message}
}

// healthy is a world of two nodes in which one Service can be reached over ARP, and over BGP where peers are given.
func healthy(peers ...string) *explain.World {
	a := netip.MustParseAddr("192.0.2.10")
	w := &explain.World{Namespace: "bellwether-system", Controller: explain.Controller{Known: true, Running: true, Holder: "controller-1"}}
	w.Objects.Pools = []v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "public"},
		Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/24"}, Advertise: []v1beta1.Protocol{v1beta1.ProtocolL2}}}}
	for _, n := range []string{"node-1", "node-2"} {
		w.Nodes = append(w.Nodes, cluster.Node{Name: n, Labels: map[string]string{"kubernetes.io/hostname": n}})
		w.Speakers = append(w.Speakers, v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: n}, Status: v1beta1.SpeakerStatus{
			Links: []v1beta1.SpeakerLink{{Name: "eth0", Up: true, Prefixes: []string{"192.0.2.1/24"}}},
			Conditions: []metav1.Condition{condition("Ready", metav1.ConditionTrue, "Ready", "may own addresses"),
				condition("MembersAgree", metav1.ConditionTrue, "AllHeard", ""), condition("KubeProxyHealthy", metav1.ConditionTrue, "Healthy", "")},
		}})
	}
	if len(peers) > 0 {
		w.Objects.Pools[0].Spec.Advertise = []v1beta1.Protocol{v1beta1.ProtocolBGP}
	}
	for _, p := range peers {
		w.Objects.BGPPeers = append(w.Objects.BGPPeers, v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: p},
			Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: new(int64(65001)), PeerAddress: "192.0.2.254"}})
		for i := range w.Speakers {
			w.Speakers[i].Status.BGP.Sessions = append(w.Speakers[i].Status.BGP.Sessions, v1beta1.SpeakerBGPSession{Peer: p, State: v1beta1.SessionEstablished})
		}
	}
	w.Services = []explain.Service{{
		Service: cluster.Service{Key: web(), Families: []cluster.Family{cluster.IPv4}, Selector: "app=web", Held: []netip.Addr{a}, HeldFrom: []string{"public"},
			Serving: []string{"node-1", "node-2"}, Ports: []cluster.Port{{Protocol: "TCP", Number: 80}}},
		Type: "LoadBalancer", Ours: true, Marked: true, Ingress: []netip.Addr{a}, Endpoints: 2,
		Conditions: []metav1.Condition{condition("bellwether.dev/Allocated", metav1.ConditionTrue, "Allocated", "192.0.2.10 from pool public")},
	}}
	parse(w)
	if len(peers) == 0 {
		answer(w, owner(w))
	}
	return w
}

func parse(w *explain.World) { w.Config, w.Problems = config.Parse(w.Objects) }

// owner is the node that should answer.
func owner(w *explain.World) string {
	for _, n := range w.Explain(web()).Nodes {
		if n.Layer2 == "Announced" {
			return n.Name
		}
	}
	return ""
}

func TestANodeWhoseLinkIsSilentIsNoOwner(t *testing.T) {
	w := healthy()
	before := owner(w)
	for i := range w.Speakers {
		w.Speakers[i].Status.Links[0].Silent = w.Speakers[i].Name == before
	}
	if now := owner(w); now == before || now == "" {
		t.Errorf("the owner is %q, and was %q", now, before)
	}
}

// answer has these speakers alone say that they answer.
func answer(w *explain.World, nodes ...string) {
	for i := range w.Speakers {
		w.Speakers[i].Status.Layer2.Owned = nil
		for _, n := range nodes {
			if w.Speakers[i].Name == n {
				w.Speakers[i].Status.Layer2.Owned = []v1beta1.OwnedAddress{{Address: "192.0.2.10", Interfaces: []string{"eth0"}}}
			}
		}
	}
}

func set(conditions []metav1.Condition, c metav1.Condition) []metav1.Condition {
	for i := range conditions {
		if conditions[i].Type == c.Type {
			conditions[i] = c
			return conditions
		}
	}
	return append(conditions, c)
}

func TestNothingIsWrong(t *testing.T) {
	for name, w := range map[string]*explain.World{"over ARP": healthy(), "over BGP": healthy("router")} {
		if e := w.Explain(web()); e.Cause != nil || len(e.Steps) < 5 || e.State() != explain.OK {
			t.Errorf("%s: %+v", name, e)
		}
		if all := w.ExplainAll(); len(all) != 1 || all[0].Cause != nil {
			t.Errorf("%s: of all: %+v", name, all)
		}
	}
}

func TestTheTrueCauseComesFirst(t *testing.T) {
	for _, c := range []struct {
		name       string
		peers      []string
		harm       func(*explain.World)
		step       string
		says, mend string
		state      explain.State
	}{
		{name: "there is no such Service", harm: func(w *explain.World) { w.Services = nil }, step: "Service", says: "there is no Service shop/web", mend: "kubectl get services -A"},
		{name: "another type", harm: func(w *explain.World) { w.Services[0].Type, w.Services[0].Ours = "ClusterIP", false }, step: "Service", says: "its type is ClusterIP", mend: "kubectl patch service -n shop web"},
		{name: "another class", harm: func(w *explain.World) { w.Services[0].Class, w.Services[0].Ours = "example.com/lb", false }, step: "Service", says: "example.com/lb, which another controller serves", mend: "delete it"},
		{name: "another controller's address", harm: func(w *explain.World) {
			s := &w.Services[0]
			s.Marked, s.Held, s.Conditions, s.Ingress = false, nil, nil, []netip.Addr{netip.MustParseAddr("203.0.113.9")}
		}, step: "Service", says: "another controller gave it 203.0.113.9", mend: "have one controller serve it"},
		{name: "another controller's host name", harm: func(w *explain.World) {
			s := &w.Services[0]
			s.Marked, s.Held, s.Conditions, s.Ingress, s.Hostname = false, nil, nil, nil, true
		}, step: "Service", says: "another controller gave it a host name"},
		{name: "no controller runs, and there is no address yet", harm: func(w *explain.World) {
			w.Controller.Running = false
			s := &w.Services[0]
			s.Held, s.Ingress, s.Conditions, s.Marked = nil, nil, nil, false
		}, step: "Controller", says: "no controller runs", mend: "kubectl get pods -n bellwether-system -l app.kubernetes.io/component=controller"},
		{name: "no controller runs, but all is well yet", harm: func(w *explain.World) { w.Controller.Running = false }, step: "Controller", says: "no controller runs", state: explain.Warning},
		{name: "a full pool", harm: func(w *explain.World) {
			s := &w.Services[0]
			s.Held, s.Ingress = nil, nil
			s.Conditions = []metav1.Condition{condition("bellwether.dev/Allocated", metav1.ConditionFalse, "Exhausted", "no IPv4 address is free in pool public")}
		}, step: "Address", says: "Exhausted: no IPv4 address is free in pool public", mend: "widen the pool"},
		{name: "an address that no pool has any more", harm: func(w *explain.World) {
			w.Services[0].Conditions = []metav1.Condition{condition("bellwether.dev/Allocated", metav1.ConditionTrue, "OutOfPool", "keeps it")}
		}, step: "Address", says: "OutOfPool", state: explain.Warning},
		{name: "another machine has the address", harm: func(w *explain.World) {
			w.Services[0].Conditions = set(w.Services[0].Conditions, condition("bellwether.dev/AddressConflict", metav1.ConditionTrue, "StationAnswers", "another machine has it"))
		}, step: "Conflict", says: "another machine has it", mend: "excludedAddresses"},
		{name: "no advertisement", harm: func(w *explain.World) { w.Objects.Pools[0].Spec.Advertise = nil; parse(w) }, step: "Advertisement",
			says: "no advertisement selects 192.0.2.10", mend: `kubectl patch ipaddresspools.bellwether.dev public --type merge -p '{"spec":{"advertise":["L2"]}}'`},
		{name: "an advertisement of another pool", harm: func(w *explain.World) {
			w.Objects.Pools[0].Spec.Advertise = nil
			w.Objects.L2Advertisements = []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "typo"}, Spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"pubic"}}}}
			parse(w)
		}, step: "Advertisement", says: "L2Advertisement typo:", mend: "correct the selectors"},
		{name: "an interface that no node has", harm: func(w *explain.World) {
			w.Objects.Pools[0].Spec.Advertise = nil
			w.Objects.L2Advertisements = []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1beta1.L2AdvertisementSpec{Interfaces: []string{"bond*"}}}}
			parse(w)
			answer(w)
		}, step: "Layer 2", says: "node-1, node-2: no interface that is up is named by interfaces of an advertisement (node-1 has eth0, node-2 has eth0)", mend: "correct interfaces"},
		{name: "no node is selected", harm: func(w *explain.World) {
			w.Objects.Pools[0].Spec.Advertise = nil
			w.Objects.L2Advertisements = []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "a"},
				Spec: v1beta1.L2AdvertisementSpec{NodeSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": "9"}}}}}}
			parse(w)
			answer(w)
		}, step: "Layer 2", says: "no nodeSelectors of an advertisement select the node", mend: "kubectl get nodes --show-labels"},
		{name: "no speaker runs", harm: func(w *explain.World) {
			for i := range w.Speakers {
				w.Speakers[i].Status = v1beta1.SpeakerStatus{Conditions: []metav1.Condition{condition("Ready", metav1.ConditionUnknown, "NotHeard", "")}}
			}
		}, step: "Layer 2", says: "no speaker runs there, or is heard", mend: "kubectl get pods -n bellwether-system -l app.kubernetes.io/component=speaker"},
		{name: "no speaker's Pod runs any more", harm: func(w *explain.World) { w.Running = map[string]bool{} }, step: "Layer 2", says: "node-1, node-2: no speaker runs there, or is heard"},
		{name: "no speaker is ready", harm: func(w *explain.World) {
			for i := range w.Speakers {
				w.Speakers[i].Status.Conditions[0] = condition("Ready", metav1.ConditionFalse, "Starting", "the kube-proxy of this node is not healthy yet")
			}
			answer(w)
		}, step: "Layer 2", says: "the kube-proxy of this node is not healthy yet"},
		{name: "the owner does not answer", harm: func(w *explain.World) { answer(w) }, step: "Layer 2", says: "should answer for 192.0.2.10, and does not say that it does", mend: "kubectl logs"},
		{name: "two answer", harm: func(w *explain.World) { answer(w, "node-1", "node-2") }, step: "Layer 2", says: "node-1 and node-2 all say that they answer"},
		{name: "every node is excluded", harm: func(w *explain.World) {
			for i := range w.Nodes {
				w.Nodes[i].Excluded = true
			}
		}, step: "Layer 2", says: "although it should not (NodeExcluded)", mend: "node.kubernetes.io/exclude-from-external-load-balancers-", state: explain.Warning},
		{name: "Local, and no endpoint", harm: func(w *explain.World) {
			s := &w.Services[0]
			s.TrafficPolicy, s.Serving, s.Endpoints, s.Waiting = cluster.TrafficLocal, nil, 0, 1
			answer(w)
		}, step: "Layer 2", says: "externalTrafficPolicy is Local, and no node that may announce 192.0.2.10 has a serving endpoint", mend: "kubectl get pods -n shop -o wide -l app=web"},
		{name: "no Pod matches", harm: func(w *explain.World) { w.Services[0].Endpoints, w.Services[0].Serving = 0, nil }, step: "Endpoints", says: "no Pod that runs matches its selector app=web", mend: "kubectl get pods -n shop -l app=web"},
		{name: "no Pod is ready", harm: func(w *explain.World) { w.Services[0].Endpoints, w.Services[0].Waiting = 0, 3 }, step: "Endpoints", says: "3 endpoints, and none of them is ready"},
		{name: "kube-proxy is down where the traffic comes to", harm: func(w *explain.World) {
			for i := range w.Speakers {
				w.Speakers[i].Status.Conditions[2] = condition("KubeProxyHealthy", metav1.ConditionFalse, "Unhealthy", "it is not healthy")
			}
		}, step: "kube-proxy", says: "which traffic comes to: it is not healthy", mend: "kubectl get pods -n kube-system"},
		{name: "gossip is blocked", harm: func(w *explain.World) {
			for i := range w.Speakers {
				w.Speakers[i].Status.Conditions[1] = condition("MembersAgree", metav1.ConditionFalse, "GossipBlocked", "heard on the network and not by gossip")
			}
		}, step: "Speakers", says: "node-1, node-2: heard on the network and not by gossip", state: explain.Warning},
		{name: "only some clients are let in", harm: func(w *explain.World) { w.Services[0].SourceRanges = []string{"10.0.0.0/8"} }, step: "Clients", says: "only clients in 10.0.0.0/8", state: explain.Warning},
		{name: "a session that is not up", peers: []string{"router"}, harm: func(w *explain.World) {
			for i := range w.Speakers {
				w.Speakers[i].Status.BGP.Sessions[0] = v1beta1.SpeakerBGPSession{Peer: "router", State: "Active", LastError: "the router expects another AS number"}
			}
		}, step: "BGP", says: "no router has been told of 192.0.2.10: node-1 to router is Active: the router expects another AS number", mend: "kubectl describe bgppeers"},
		{name: "one of two sessions is not up", peers: []string{"router"}, harm: func(w *explain.World) {
			w.Speakers[0].Status.BGP.Sessions[0] = v1beta1.SpeakerBGPSession{Peer: "router", State: "Idle", BFD: "Down"}
		}, step: "BGP", says: "told over 1 of 2 sessions: node-1 to router is Idle, and BFD is Down", state: explain.Warning},
		{name: "no peer at all", peers: []string{"router"}, harm: func(w *explain.World) { w.Objects.BGPPeers = nil; parse(w) }, step: "BGP", says: "no BGPPeer"},
	} {
		w := healthy(c.peers...)
		c.harm(w)
		e := w.Explain(web())
		want := c.state
		if want == "" {
			want = explain.Broken
		}
		switch {
		case e.Cause == nil:
			t.Errorf("%s: nothing is said to be wrong: %+v", c.name, e.Steps)
		case e.Cause.Name != c.step || e.Cause.State != want || !strings.Contains(e.Cause.Says, c.says) || !strings.Contains(e.Cause.Fix, c.mend):
			t.Errorf("%s: %+v", c.name, *e.Cause)
		}
	}
}

func TestWhatIsHeardOnTheSegment(t *testing.T) {
	for _, c := range []struct {
		name     string
		stations []string
		state    explain.State
		says     string
	}{
		{"the owner alone", []string{"02:00:00:00:00:01"}, explain.OK, "hears node-1 answer for 192.0.2.10"},
		{"nobody", nil, explain.Broken, "hears nobody answer for 192.0.2.10, though node-1 says that it does"},
		{"a stranger", []string{"02:00:00:00:00:99"}, explain.Broken, "a machine that is no node, with 02:00:00:00:00:99"},
		{"the owner and a stranger", []string{"02:00:00:00:00:01", "02:00:00:00:00:99"}, explain.Broken, "node-1 and a machine that is no node"},
		{"another node", []string{"02:00:00:00:00:02"}, explain.Broken, "hears node-2 answer"},
	} {
		w := healthy()
		for i := range w.Speakers {
			w.Speakers[i].Status.Links[0].MAC = "02:00:00:00:00:0" + string(rune('1'+i))
		}
		answer(w, "node-1")
		e := explain.Explanation{Addresses: []string{"192.0.2.10"}, Nodes: []explain.Node{{Name: "node-1", Addr: "192.0.2.10", Answers: true}, {Name: "node-2", Addr: "192.0.2.10"}}}
		w.Heard(&e, explain.Asked{Node: "node-2", Address: "192.0.2.10", Interface: "eth0", Stations: c.stations})
		if e.State() != c.state || !strings.Contains(e.Steps[0].Says, c.says) {
			t.Errorf("%s: %+v", c.name, e.Steps)
		}
	}
	if got := healthy().Neighbours("192.0.2.10"); strings.Join(got, " ") != "node-1 node-2" {
		t.Errorf("neighbours are %v", got)
	}
}
