package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/announce"
)

// nodes goes through the nodes that may announce, and what they say that they do.
func (e *explainer) nodes() {
	verdicts := map[netip.Addr][]announce.Verdict{} // by address, in the order of the nodes
	for _, why := range e.d.why {
		for _, v := range why[e.out.Service] {
			verdicts[v.Addr] = append(verdicts[v.Addr], v)
		}
	}
	for _, a := range e.s.Held {
		all := verdicts[a]
		if len(all) == 0 {
			continue
		}
		claimants := e.d.claims[a.String()]
		layer2, routed := all[0].Reason != announce.NoAdvertisement, false
		for i, v := range all {
			n := Node{Name: e.w.Nodes[i].Name, Addr: a.String(), Answers: slices.Contains(claimants, e.w.Nodes[i].Name)}
			if layer2 {
				n.Layer2 = v.Reason
				if v.Reason == announce.NotOwner && v.Self != announce.Candidate || v.Reason == announce.NoCandidate || v.Reason == announce.NoEndpoints {
					n.Layer2 = v.Self
				}
			}
			if v.BGP != nil {
				routed = true
				n.BGP, n.Peers = v.BGP.Reason, v.BGP.Peers
				n.Told = e.told(n.Name, n.Peers)
			}
			e.out.Nodes = append(e.out.Nodes, n)
		}
		first := len(e.out.Steps)
		if layer2 {
			e.owner(a, all[0], claimants)
		}
		if routed {
			e.routes(a)
		}
		if !layer2 && !routed {
			e.add("BGP", Broken, "create a BGPPeer: kubectl explain bgppeers.bellwether.dev.spec", "%s is to be announced over BGP, and there is no BGPPeer", a)
		}
		oneIsEnough(e.out.Steps[first:])
	}
}

// oneIsEnough makes a warning of what is broken where the address is reached in another way.
func oneIsEnough(ways []Step) {
	broken := func(s Step) bool { return s.State == Broken }
	if len(ways) == 2 && broken(ways[0]) != broken(ways[1]) {
		ways[slices.IndexFunc(ways, broken)].State = Warning
	}
}

// told are those of a node's peers that it has an established session with.
func (e *explainer) told(node string, peers []string) []string {
	var told []string
	for _, session := range e.sessions(node) {
		if session.State == v1beta1.SessionEstablished && slices.Contains(peers, session.Peer) {
			told = append(told, session.Peer)
		}
	}
	return told
}

func (e *explainer) sessions(node string) []v1beta1.SpeakerBGPSession {
	if s := e.w.speaker(node); s != nil && e.w.runs(node) {
		return s.Status.BGP.Sessions
	}
	return nil
}

// owner says who is to answer for an address, and who does.
func (e *explainer) owner(a netip.Addr, v announce.Verdict, claimants []string) {
	const step = "Layer 2"
	switch {
	case v.Owner == "" && v.Reason == announce.NoEndpoints:
		e.add(step, Broken, e.kubectl("get pods", "-o wide -l "+e.s.Selector),
			"externalTrafficPolicy is Local, and no node that may announce %s has a serving endpoint", a)
	case v.Owner == "":
		e.excluded(step, a, func(n Node) announce.Reason { return n.Layer2 })
	case len(claimants) > 1:
		e.add(step, Broken, "bellwether doctor", "%s all say that they answer for %s, and %s should", strings.Join(claimants, " and "), a, v.Owner)
	case len(claimants) == 0:
		says, fix := e.troubles(v.Owner)
		e.add(step, Broken, fix, "%s should answer for %s, and does not say that it does%s", v.Owner, a, says)
	case claimants[0] != v.Owner:
		e.add(step, Warning, "look again in a moment", "%s answers for %s, which moves to %s", claimants[0], a, v.Owner)
	case v.Despite != "":
		e.add(step, Warning, despiteFix(v.Despite, v.Owner), "%s answers for %s although it should not (%s), as no better node is left", v.Owner, a, v.Despite)
	default:
		e.add(step, OK, "", "%s answers for %s", v.Owner, a)
	}
}

// troubles is what a speaker says is wrong with it.
func (e *explainer) troubles(node string) (says, fix string) {
	fix = fmt.Sprintf("kubectl logs -n %s -l app.kubernetes.io/component=speaker --prefix | grep %s", e.w.Namespace, node)
	s := e.w.speaker(node)
	if s == nil {
		return "", fix
	}
	var all []string
	for _, c := range s.Status.Conditions {
		if c.Status == metav1.ConditionFalse {
			all = append(all, "; "+c.Message)
		}
	}
	return strings.Join(all, ""), fix
}

// excluded says what rules all nodes out, the same reasons together.
func (e *explainer) excluded(step string, a netip.Addr, reasonOf func(Node) announce.Reason) {
	by := map[announce.Reason][]string{}
	var order []announce.Reason
	for _, n := range e.out.Nodes {
		if n.Addr != a.String() {
			continue
		}
		r := reasonOf(n)
		if by[r] == nil {
			order = append(order, r)
		}
		by[r] = append(by[r], n.Name)
	}
	slices.SortStableFunc(order, func(a, b announce.Reason) int { return len(by[b]) - len(by[a]) })
	var parts []string
	fix := ""
	for _, r := range order {
		says, how := e.ruledOut(r, by[r])
		parts = append(parts, fmt.Sprintf("%s: %s", strings.Join(by[r], ", "), says))
		if fix == "" {
			fix = how
		}
	}
	if len(parts) == 0 {
		parts = []string{"there is no node"}
	}
	e.add(step, Broken, fix, "no node may announce %s: %s", a, strings.Join(parts, "; "))
}

// ruledOut is what a reason means on some nodes, and what to do about it.
func (e *explainer) ruledOut(r announce.Reason, nodes []string) (says, fix string) {
	pods := fmt.Sprintf("kubectl get pods -n %s -l app.kubernetes.io/component=speaker -o wide", e.w.Namespace)
	switch r {
	case announce.SpeakerDown:
		return "no speaker runs there, or is heard", pods
	case announce.SpeakerStarting:
		if s := e.w.speaker(nodes[0]); s != nil {
			if c := find(s.Status.Conditions, v1beta1.ConditionReady); c != nil {
				return "the speaker is not ready: " + c.Message, pods
			}
		}
		return "the speaker is not ready", pods
	case announce.SpeakerLeaving:
		return "the speaker stops", pods
	case announce.NodeNotSelected:
		return "no nodeSelectors of an advertisement select the node", "kubectl get nodes --show-labels; correct nodeSelectors of the advertisement"
	case announce.NoLink:
		return fmt.Sprintf("no interface that is up is named by interfaces of an advertisement (%s)", e.links(nodes)),
			"kubectl edit l2advertisements.bellwether.dev, and correct interfaces"
	case announce.NoLocalEndpoint:
		return "externalTrafficPolicy is Local, and no endpoint serves there", e.kubectl("get pods", "-o wide -l "+e.s.Selector)
	case announce.NoPeer:
		return "no session of the node is one that an advertisement names, or carries the address's family", "kubectl get bgppeers.bellwether.dev,bgpadvertisements.bellwether.dev"
	default: // what speaks against a node rules it out on BGP
		return string(r), despiteFix(r, nodes[0])
	}
}

// links are the interfaces that nodes have.
func (e *explainer) links(nodes []string) string {
	var parts []string
	for _, n := range nodes {
		s := e.w.speaker(n)
		if s == nil {
			continue
		}
		var names []string
		for _, l := range s.Status.Links {
			if name := l.Name; l.Up {
				names = append(names, name)
			}
		}
		parts = append(parts, fmt.Sprintf("%s has %s", n, strings.Join(names, " ")))
		if len(parts) == 3 {
			break
		}
	}
	return strings.Join(parts, ", ")
}

// despiteFix is what to do about what speaks against a node.
func despiteFix(r announce.Reason, node string) string {
	switch r {
	case announce.NodeExcluded:
		return fmt.Sprintf("kubectl label node %s node.kubernetes.io/exclude-from-external-load-balancers-", node)
	case announce.NodeDraining:
		return "bellwether undrain " + node
	case announce.NodeOutOfService:
		return fmt.Sprintf("kubectl taint node %s node.kubernetes.io/out-of-service-", node)
	case announce.NodeNotReady, announce.NodeNetworkUnavailable:
		return "kubectl describe node " + node
	case announce.LinkSilent:
		return "look at the cables and the switch of " + node
	default:
		return ""
	}
}

// routes says which routers have been told of an address.
func (e *explainer) routes(a netip.Addr) {
	const step = "BGP"
	var told, planned int
	var down []string
	for _, n := range e.out.Nodes {
		if n.Addr != a.String() {
			continue
		}
		told, planned = told+len(n.Told), planned+len(n.Peers)
		for _, session := range e.sessions(n.Name) {
			if slices.Contains(n.Peers, session.Peer) && !slices.Contains(n.Told, session.Peer) {
				down = append(down, sessionText(n.Name, session))
			}
		}
	}
	const fix = "kubectl describe bgppeers.bellwether.dev, and the log of the router"
	switch {
	case planned == 0:
		e.excluded(step, a, func(n Node) announce.Reason { return n.BGP })
	case told == 0 && len(down) == 0:
		e.add(step, Broken, "kubectl get speakers.bellwether.dev -o yaml", "%s should be announced, and no speaker has a session", a)
	case told == 0:
		e.add(step, Broken, fix, "no router has been told of %s: %s", a, strings.Join(down, "; "))
	case len(down) > 0:
		e.add(step, Warning, fix, "%s is told over %d of %d sessions: %s", a, told, planned, strings.Join(down, "; "))
	default:
		e.add(step, OK, "", "%s is told over %s", a, count(told, "session"))
	}
}

func sessionText(node string, s v1beta1.SpeakerBGPSession) string {
	text := fmt.Sprintf("%s to %s is %s", node, s.Peer, s.State)
	if s.BFD != "" && s.BFD != "Up" {
		text += ", and BFD is " + s.BFD
	}
	if s.LastError != "" {
		text += ": " + s.LastError
	}
	return text
}
