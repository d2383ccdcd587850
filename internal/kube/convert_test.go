package kube

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func TestNode(t *testing.T) {
	wire := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"rack": "1"}}}
	wire.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.1"},
		{Type: corev1.NodeInternalIP, Address: "198.18.0.1"}, {Type: corev1.NodeInternalIP, Address: "not an address"},
		{Type: corev1.NodeInternalIP, Address: "2001:db8::1"},
	}
	n := Node(wire)
	if n.Name != "n1" || n.Labels["rack"] != "1" || !slices.Equal(n.Addrs, addrs("198.18.0.1", "2001:db8::1")) || n.Excluded || n.NetworkUnavailable {
		t.Errorf("got %+v", n)
	}
	wire.Labels[corev1.LabelNodeExcludeBalancers] = ""
	wire.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse}}
	if n = Node(wire); !n.Excluded || n.NetworkUnavailable {
		t.Errorf("excluded %t, network unavailable %t; want true, false", n.Excluded, n.NetworkUnavailable)
	}
	wire.Status.Conditions[1].Status = corev1.ConditionTrue
	if n = Node(wire); !n.NetworkUnavailable {
		t.Error("the condition NetworkUnavailable is not seen")
	}
}

func TestWhatSpeaksAgainstANode(t *testing.T) {
	at := metav1.Unix(1000, 0)
	for _, c := range []struct {
		name   string
		change func(*corev1.Node)
		want   cluster.Node
	}{
		{"nothing", func(*corev1.Node) {}, cluster.Node{}},
		{"it is Ready", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: at}}
		}, cluster.Node{}},
		{"it is not Ready", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, LastTransitionTime: at}}
		}, cluster.Node{NotReadySince: 1000}},
		{"nobody knows whether it is Ready", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: at}}
		}, cluster.Node{NotReadySince: 1000}},
		{"it drains", func(n *corev1.Node) { n.Annotations = map[string]string{AnnotationDrain: "true"} }, cluster.Node{Draining: true}},
		{"it drains, said without a value", func(n *corev1.Node) { n.Annotations = map[string]string{AnnotationDrain: ""} }, cluster.Node{Draining: true}},
		{"it does not drain", func(n *corev1.Node) { n.Annotations = map[string]string{AnnotationDrain: "false"} }, cluster.Node{}},
		{"it is out of service", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "other"}, {Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute}}
		}, cluster.Node{OutOfService: true}},
		{"a cordon is nothing", func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable}}
		}, cluster.Node{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := &corev1.Node{}
			c.change(wire)
			if diff := cmp.Diff(c.want, Node(wire)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhichEndpointsServe(t *testing.T) {
	yes, no := new(true), new(false)
	for _, c := range []struct {
		name       string
		conditions discoveryv1.EndpointConditions
		want       bool
	}{
		{"one that says nothing", discoveryv1.EndpointConditions{}, true},
		{"one that is ready", discoveryv1.EndpointConditions{Ready: yes}, true},
		{"one that is not ready", discoveryv1.EndpointConditions{Ready: no}, false},
		{"one that serves", discoveryv1.EndpointConditions{Serving: yes, Ready: no}, true},
		{"one that does not serve", discoveryv1.EndpointConditions{Serving: no, Ready: yes}, false},
		{"one on its way out, though it serves", discoveryv1.EndpointConditions{Serving: yes, Terminating: yes}, false},
		{"one that is not on its way out", discoveryv1.EndpointConditions{Serving: yes, Terminating: no}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := serves(c.conditions); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestSliceNamesEachServingNodeOnce(t *testing.T) {
	no := new(false)
	on := func(node string, ready *bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: ready}}
	}
	got := Slice(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-x7f", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Endpoints:  []discoveryv1.Endpoint{on("n2", nil), on("n1", nil), on("n2", nil), on("n3", no), {}},
	})
	want := Endpoints{Service: cluster.Key{Namespace: "default", Name: "web"}, Serving: []string{"n1", "n2"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatASpeakerSays(t *testing.T) {
	wire := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	wire.Status.Layer2.Owned = []v1beta1.OwnedAddress{{Address: "192.0.2.1"}, {Address: "garbage"}, {Address: "2001:db8::1"}}
	wire.Status.Layer2.Conflicts = []v1beta1.AddressConflict{{Address: "192.0.2.9", Station: "02:00:00:00:00:09"}}
	wire.Status.Links = []v1beta1.SpeakerLink{{Name: "eth0", Prefixes: []string{"10.0.0.7/24", "garbage", "fd00::7/64"}, Gateways: []string{"10.0.0.1"}}}
	want := Said{Node: "n", Owned: addrs("192.0.2.1", "2001:db8::1"), Links: addrs("10.0.0.7", "fd00::7"), Gateways: addrs("10.0.0.1"),
		Conflicts: wire.Status.Layer2.Conflicts}
	if diff := cmp.Diff(want, Speaker(wire), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func TestConversionsOfOurObjectsDropWhatIsNeverRead(t *testing.T) {
	meta := metav1.ObjectMeta{Name: "x", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"long": "text"}, ManagedFields: []metav1.ManagedFieldsEntry{{}}}
	for _, got := range []metav1.ObjectMeta{
		Bare(&v1beta1.IPAddressPool{ObjectMeta: meta}).ObjectMeta,
		Bare(&v1beta1.L2Advertisement{ObjectMeta: meta}).ObjectMeta,
	} {
		if got.Annotations != nil || got.ManagedFields != nil || got.Labels["a"] != "b" || got.Name != "x" {
			t.Errorf("got %+v", got)
		}
	}
}

func TestTheStatusPatchOfAService(t *testing.T) {
	for _, c := range []struct {
		name   string
		status ServiceStatus
		want   string
	}{
		{"gives addresses, v4 and v6", ServiceStatus{Addrs: addrs("192.0.2.1", "2001:db8::1"), Pools: []string{"p"}, SharedAs: "t"},
			`{"metadata":{"annotations":{"bellwether.dev/allocated-from":"p","bellwether.dev/shared-as":"t"},"resourceVersion":"10","uid":"u1"},
			  "status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"VIP"},{"ip":"2001:db8::1","ipMode":"VIP"}]}}}`},
		{"takes all away, and the annotation with it", ServiceStatus{},
			`{"metadata":{"annotations":{"bellwether.dev/allocated-from":null,"bellwether.dev/shared-as":null},"resourceVersion":"10","uid":"u1"},
			  "status":{"loadBalancer":{"ingress":[]}}}`},
		{"sets conditions and removes others, and leaves those of others alone",
			ServiceStatus{Conditions: []metav1.Condition{{Type: v1beta1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: "NoPool", Message: "m"}}, Remove: []string{v1beta1.ConditionAnnounced}},
			`{"metadata":{"annotations":{"bellwether.dev/allocated-from":null,"bellwether.dev/shared-as":null},"resourceVersion":"10","uid":"u1"},
			  "status":{"conditions":[{"type":"bellwether.dev/Allocated","status":"False","reason":"NoPool","message":"m","lastTransitionTime":null},
			    {"$patch":"delete","type":"bellwether.dev/Announced"}],"loadBalancer":{"ingress":[]}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			patch, err := c.status.patch("u1", "10")
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := json.Unmarshal(patch, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheStatusPatchOfOurObjectsReplacesTheWholeStatus(t *testing.T) {
	for _, c := range []struct{ name, version, want string }{
		{"of any version", "", `[{"op":"add","path":"/status","value":{"layer2":{"addresses":0},"bgp":{"established":0,"bfdUp":0}}}]`},
		{"of one version", "10", `[{"op":"add","path":"/status","value":{"layer2":{"addresses":0},"bgp":{"established":0,"bfdUp":0}}},{"op":"replace","path":"/metadata/resourceVersion","value":"10"}]`},
	} {
		got, err := StatusPatch(v1beta1.SpeakerStatus{}, c.version)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.name, err, got, c.want)
		}
	}
}
