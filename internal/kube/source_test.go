package kube

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// fakeNodes lists two nodes, at version 100, and then watches what the test says.
type fakeNodes struct{ events *watch.FakeWatcher }

func (fakeNodes) List(context.Context, metav1.ListOptions) (*corev1.NodeList, error) {
	return &corev1.NodeList{ListMeta: metav1.ListMeta{ResourceVersion: "100"}, Items: []corev1.Node{*node("a", 90), *node("b", 95)}}, nil
}

func (f fakeNodes) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return f.events, nil
}

func node(name string, version int) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: strconv.Itoa(version), Labels: map[string]string{"big": "label"}}}
}

func TestASourcePublishesConversionsAndHowFarItIs(t *testing.T) {
	events, poke := watch.NewFake(), reconcile.NewPoke()
	source, err := NewSource(fakeNodes{events}, &corev1.Node{}, func(n *corev1.Node) string { return "node " + n.Name }, poke)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- source.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	until := func(version string, want ...string) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			at := source.Version()
			var got []string
			for _, r := range source.Records() {
				if r.Labels != nil {
					t.Errorf("keeps the labels of %s", r.Name)
				}
				got = append(got, r.Value)
			}
			if slices.Sort(got); at == version && slices.Equal(got, want) {
				return
			}
			select {
			case <-poke:
			case <-time.After(10 * time.Millisecond):
			case <-deadline:
				t.Fatalf("is at %s with %v, want %s with %v", at, got, version, want)
			}
		}
	}
	until("100", "node a", "node b")
	for start := time.Now(); !source.Synced(); time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal("is not synced after its first list")
		}
	}
	events.Add(node("c", 101))
	until("101", "node a", "node b", "node c")
	events.Modify(node("a", 102))
	until("102", "node a", "node b", "node c")
	events.Delete(node("b", 103)) // what the overlay takes a missing Service for deleted by
	until("103", "node a", "node c")

	if r, found := source.Get("a"); !found || r.ResourceVersion != "102" {
		t.Errorf("Get: %+v, %t", r, found)
	}
	if _, found := source.Get("b"); found {
		t.Error("Get finds what was deleted")
	}
}

func TestOnlyWhatMattersRings(t *testing.T) {
	source, err := NewSource(fakeNodes{watch.NewFake()}, &corev1.Node{}, func(n *corev1.Node) string { return n.Name })
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := &Record[string]{Value: "ours"}, &Record[string]{Value: "theirs"}
	if !source.rings(theirs) {
		t.Error("without a rule everything rings")
	}
	source.Only(func(name string) bool { return name == "ours" })
	if !source.rings(ours) || source.rings(theirs) {
		t.Error("what matters does not ring, or what does not does")
	}
	if !source.rings("a tombstone") {
		t.Error("a deletion that was missed does not ring")
	}
}

func TestVersionsChangeWithTheObjectsAndNotWithTheirOrder(t *testing.T) {
	record := func(uid, version string) *Record[string] {
		return &Record[string]{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: version}}
	}
	a, b := record("a", "1"), record("b", "2")
	if VersionsOf([]*Record[string]{a, b}) != VersionsOf([]*Record[string]{b, a}) {
		t.Error("another order is taken for a change")
	}
	for _, other := range [][]*Record[string]{{a}, {a, record("b", "3")}, {a, record("c", "2")}, nil} {
		if VersionsOf(other) == VersionsOf([]*Record[string]{a, b}) {
			t.Errorf("%v is taken for no change", other)
		}
	}
}
