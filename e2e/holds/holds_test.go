package holds

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
)

// story feeds a ledger with versions of Services.
type story struct {
	*testing.T
	*Ledger
	version int
}

func newStory(t *testing.T, across bool) *story {
	return &story{T: t, Ledger: NewLedger(func(netip.Addr) bool { return across })}
}

func (s *story) tell(what watch.EventType, service *corev1.Service) {
	s.Helper()
	s.version++
	service = service.DeepCopy()
	service.ResourceVersion = strconv.Itoa(s.version)
	if err := s.See(watch.Event{Type: what, Object: service}); err != nil {
		s.Fatal(err)
	}
}

// service is one of namespace a unless the name says otherwise, with port 80.
func service(name string, addrs ...string) *corev1.Service {
	namespace, short, found := strings.Cut(name, "/")
	if !found {
		namespace, short = "a", name
	}
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: short, UID: types.UID(name)}}
	s.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}
	for _, a := range addrs {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
	}
	return s
}

func with(s *corev1.Service, edit func(*corev1.Service)) *corev1.Service {
	s.Annotations = map[string]string{SharingKey: "k"}
	edit(s)
	return s
}

func TestADoubleHoldIsReportedThoughItHeals(t *testing.T) {
	s := newStory(t, false)
	s.tell(watch.Added, service("first", "192.0.2.1"))
	s.tell(watch.Added, service("second"))
	s.tell(watch.Modified, service("second", "192.0.2.1"))
	s.tell(watch.Modified, service("second"))
	doubles := s.Doubles()
	if len(doubles) != 1 {
		t.Fatalf("reported are %q, want one double hold", doubles)
	}
	for _, part := range []string{"version 3", "a/first", "a/second", "192.0.2.1"} {
		if !strings.Contains(doubles[0], part) {
			t.Errorf("%q does not say %q", doubles[0], part)
		}
	}
}

func TestWhoMayHoldOneAddress(t *testing.T) {
	local := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	port := func(n int32) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.Ports[0].Port = n }
	}
	both := func(edits ...func(*corev1.Service)) func(*corev1.Service) {
		return func(s *corev1.Service) {
			for _, edit := range edits {
				edit(s)
			}
		}
	}
	none := func(*corev1.Service) {}
	for _, c := range []struct {
		name        string
		across      bool
		other       string // name of the second Service
		first, then func(*corev1.Service)
		fault       string // part of what is reported; "" for nothing
	}{
		{"two with one key and two ports", false, "b", none, port(81), ""},
		{"two with one key and one port", false, "b", none, none, "80/TCP"},
		{"one port with two protocols", false, "b", none, func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }, ""},
		{"two keys", false, "b", none, both(port(81), func(s *corev1.Service) { s.Annotations[SharingKey] = "l" }), "sharing keys"},
		{"two empty keys", false, "b", func(s *corev1.Service) { s.Annotations[SharingKey] = "" },
			both(port(81), func(s *corev1.Service) { s.Annotations[SharingKey] = "" }), "sharing keys"},
		{"two namespaces", false, "b/b", none, port(81), "namespaces"},
		{"two namespaces in a pool that lets them", true, "b/b", none, port(81), ""},
		{"two namespaces in a pool that lets them, but Local", true, "b/b", local, both(local, port(81)), "namespaces"},
		{"one Local, one Cluster", false, "b", local, port(81), "Local"},
		{"both Local with one selector", false, "b", local, both(local, port(81)), ""},
		{"both Local with two selectors", false, "b", local,
			both(local, port(81), func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "x"} }), "select"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t, c.across)
			s.tell(watch.Added, with(service("a", "192.0.2.1", "2001:db8::1"), c.first))
			s.tell(watch.Added, with(service(c.other, "2001:db8::1"), c.then))
			switch doubles := s.Doubles(); {
			case c.fault == "" && len(doubles) > 0:
				t.Errorf("reported is %q, want nothing", doubles)
			case c.fault != "" && (len(doubles) != 1 || !strings.Contains(doubles[0], c.fault)):
				t.Errorf("reported is %q, want one that says %q", doubles, c.fault)
			}
		})
	}
}

func TestSharersThatFallOutMustPart(t *testing.T) {
	s := newStory(t, false)
	s.tell(watch.Added, with(service("a", "192.0.2.1"), func(*corev1.Service) {}))
	s.tell(watch.Added, with(service("b", "192.0.2.1"), func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }))
	if doubles := s.Doubles(); len(doubles) > 0 {
		t.Fatal(doubles)
	}
	s.tell(watch.Modified, with(service("b", "192.0.2.1"), func(*corev1.Service) {}))
	if doubles, standing := s.Doubles(), s.Standing(); len(doubles) != 0 || len(standing) == 0 {
		t.Errorf("held twice are %q, and standing is %q: an edit is no gift, and must have an end", doubles, standing)
	}
	s.tell(watch.Modified, with(service("b", "192.0.2.2"), func(*corev1.Service) {}))
	if doubles, standing := s.Doubles(), s.Standing(); len(doubles)+len(standing) != 0 {
		t.Errorf("held twice are %q, and standing is %q", doubles, standing)
	}
}

func TestAnAddressThatIsGivenOnIsNoDoubleHold(t *testing.T) {
	s := newStory(t, false)
	s.tell(watch.Added, service("first", "192.0.2.1"))
	s.tell(watch.Added, service("second"))
	s.tell(watch.Deleted, service("first", "192.0.2.1"))
	s.tell(watch.Modified, service("second", "192.0.2.1"))
	s.tell(watch.Modified, service("second", "192.0.2.2"))
	s.tell(watch.Added, service("third", "192.0.2.1"))
	if doubles := s.Doubles(); len(doubles) > 0 {
		t.Errorf("reported are %q", doubles)
	}
	if moved := s.Moved(); len(moved) != 1 || !strings.Contains(moved[0], "a/second had [192.0.2.1] and has [192.0.2.2]") {
		t.Errorf("moved are %q", moved)
	}
}

func TestAnAccountTellsTheWholeStory(t *testing.T) {
	s := newStory(t, false)
	s.tell(watch.Added, service("web"))
	s.tell(watch.Modified, service("web", "192.0.2.1"))
	s.tell(watch.Modified, service("web", "192.0.2.1"))
	s.tell(watch.Modified, service("web", "192.0.2.1", "2001:db8::1"))
	s.tell(watch.Modified, service("web", "2001:db8::1"))
	a, found := s.Account("web")
	if !found || a.Writes != 4 || len(a.Changes) != 3 || a.Gone {
		t.Errorf("got %+v, %t", a, found)
	}
	if lost := a.Lost(); !slices.Equal(lost, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) {
		t.Errorf("lost are %v", lost)
	}
	s.tell(watch.Deleted, service("web", "2001:db8::1"))
	if a, _ = s.Account("web"); !a.Gone || len(a.Lost()) != 1 || len(s.Moved()) != 1 {
		t.Errorf("a Service that is deleted lost its address: %+v, %q", a, s.Moved())
	}
}

func TestTheStreamStartsWithWhatThereIsAndMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := service("old", "192.0.2.1")
		old.ResourceVersion = "1"
		client := fake.NewClientset(old)
		s, err := Open(t.Context(), client.CoreV1(), NewLedger(nil))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		young := service("young", "192.0.2.1")
		young.ResourceVersion = "2"
		if _, err := client.CoreV1().Services("a").Create(ctx, young, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(ctx); err != nil {
			t.Fatal(err)
		}
		if doubles := s.Doubles(); len(doubles) != 1 {
			t.Errorf("reported are %q, want one double hold", doubles)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAStreamWithAHoleIsAnError(t *testing.T) {
	w := watch.NewFake()
	go w.Error(&metav1.Status{Reason: metav1.StatusReasonExpired, Message: "too old"})
	s := &Stream{Ledger: NewLedger(nil)}
	if err := s.drain(t.Context(), w); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("got %v", err)
	}
	if err := s.See(watch.Event{Type: watch.Error, Object: &metav1.Status{}}); err == nil {
		t.Error("the ledger takes in an error")
	}
}
