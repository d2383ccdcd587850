package kube

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/rest"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// apiServer answers for Secrets and for the status of one Service, as much as these tests need.
type apiServer struct {
	*Client
	mu      sync.Mutex
	secrets map[string]*corev1.Secret
	service *corev1.Service
	refuse  error // answered to everything
	before  func(r *http.Request)
	asked   []string
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{secrets: map[string]*corev1.Secret{}, before: func(*http.Request) {}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	var err error
	if s.Client, err = NewClient(&rest.Config{Host: server.URL, QPS: -1}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.before(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	body, _ := io.ReadAll(r.Body)
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	secrets := schema.GroupResource{Resource: "secrets"}
	switch {
	case s.refuse != nil:
		reply(w, nil, s.refuse)
	case r.Method == http.MethodGet && s.secrets[name] == nil:
		reply(w, nil, apierrors.NewNotFound(secrets, name))
	case r.Method == http.MethodGet:
		reply(w, s.secrets[name], nil)
	case r.Method == http.MethodPost:
		made := &corev1.Secret{}
		if _, _, err := serializer.NewCodecFactory(s.Scheme).UniversalDeserializer().Decode(body, nil, made); err != nil {
			reply(w, nil, apierrors.NewBadRequest(err.Error()))
			return
		}
		if s.secrets[made.Name] != nil {
			reply(w, nil, apierrors.NewAlreadyExists(secrets, made.Name))
			return
		}
		s.secrets[made.Name] = made
		reply(w, made, nil)
	case r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/services/web/status"):
		old, _ := json.Marshal(s.service)
		merged, err := strategicpatch.StrategicMergePatch(old, body, corev1.Service{})
		if err != nil {
			reply(w, nil, apierrors.NewBadRequest(err.Error()))
			return
		}
		s.service = &corev1.Service{}
		_ = json.Unmarshal(merged, s.service)
		reply(w, s.service, nil)
	default:
		reply(w, nil, apierrors.NewMethodNotSupported(secrets, r.Method))
	}
}

func reply(w http.ResponseWriter, object any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if status, failed := err.(apierrors.APIStatus); failed {
		refusal := status.Status()
		refusal.APIVersion, refusal.Kind = "v1", "Status"
		w.WriteHeader(int(refusal.Code))
		object = refusal
	}
	switch o := object.(type) {
	case *corev1.Secret:
		o.APIVersion, o.Kind = "v1", "Secret"
	case *corev1.Service:
		o.APIVersion, o.Kind = "v1", "Service"
	}
	_ = json.NewEncoder(w).Encode(object)
}

func TestAGossipSecretIsMadeOnceAndNeverReplaced(t *testing.T) {
	s := newAPIServer(t)
	if err := s.EnsureGossipSecret(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	first := string(s.secrets[GossipSecret].Data[GossipKey])
	if len(first) != 32 || s.secrets[GossipSecret].Namespace != "ns" {
		t.Fatalf("made %+v, want 32 random bytes", s.secrets[GossipSecret])
	}
	if err := s.EnsureGossipSecret(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	if got := string(s.secrets[GossipSecret].Data[GossipKey]); got != first {
		t.Error("the Secret was replaced")
	}
}

func TestTwoReplicasMayMakeTheGossipSecretAtOnce(t *testing.T) {
	s := newAPIServer(t)
	s.before = func(r *http.Request) {
		if r.Method == http.MethodPost { // the other was quicker
			s.mu.Lock()
			s.secrets[GossipSecret] = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: GossipSecret}}
			s.mu.Unlock()
		}
	}
	if err := s.EnsureGossipSecret(t.Context(), "ns"); err != nil {
		t.Errorf("making a Secret that another made at the same time: %v", err)
	}
}

func TestARefusalToReadTheGossipSecretIsNoReasonToMakeOne(t *testing.T) {
	s := newAPIServer(t)
	s.refuse = apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, GossipSecret, nil)
	err := s.EnsureGossipSecret(t.Context(), "ns")
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "looking for Secret ns/bellwether-gossip") {
		t.Errorf("got %v", err)
	}
	if len(s.asked) != 1 {
		t.Errorf("asked %v, want one read", s.asked)
	}
}

func TestASpeakerWaitsForTheGossipSecret(t *testing.T) {
	s := newAPIServer(t)
	reads := 0
	s.before = func(*http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch reads++; reads {
		case 2: // too short to be a secret
			s.secrets["g"] = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "g"}, Data: map[string][]byte{GossipKey: []byte("short")}}
		case 3:
			s.secrets["g"].Data[GossipKey] = []byte("long enough to be one")
		}
	}
	got, err := s.WaitGossipSecret(t.Context(), "ns", "g", slog.New(slog.DiscardHandler))
	if err != nil || string(got) != "long enough to be one" || reads != 3 {
		t.Errorf("got %q, %v after %d reads", got, err, reads)
	}
}

func TestWaitingForTheGossipSecretEndsWithItsContext(t *testing.T) {
	s := newAPIServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.WaitGossipSecret(ctx, "ns", "g", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "waiting for Secret ns/g") {
		t.Errorf("got %v", err)
	}
}

func TestWritingAServiceLeavesWhatIsOthersAlone(t *testing.T) {
	s := newAPIServer(t)
	s.service = loadBalancer(annotated(AnnotationAllocatedFrom, "old", "example.com/theirs", "stays"), ourCondition, ingress("192.0.2.1"))
	s.service.Name = "web"
	written, err := s.WriteService(t.Context(), cluster.Key{Namespace: "default", Name: "web"}, "u1", "1", ServiceStatus{
		Addrs: addrs("192.0.2.2"), Conditions: []metav1.Condition{{Type: v1beta1.ConditionAnnounced, Status: metav1.ConditionTrue}}, Remove: []string{v1beta1.ConditionAllocated}})
	if err != nil {
		t.Fatal(err)
	}
	if written.Annotations["example.com/theirs"] != "stays" || written.Annotations[AnnotationAllocatedFrom] != "" {
		t.Errorf("annotations %v", written.Annotations)
	}
	types := map[string]bool{}
	for _, c := range written.Status.Conditions {
		types[c.Type] = true
	}
	if len(types) != 2 || !types["example.com/Other"] || !types[v1beta1.ConditionAnnounced] {
		t.Errorf("conditions %v, want theirs and Announced", types)
	}
	if in := written.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != "192.0.2.2" {
		t.Errorf("ingress %v", in)
	}
}

func TestARefusedWriteNamesTheServiceAndKeepsTheReason(t *testing.T) {
	s := newAPIServer(t)
	s.refuse = apierrors.NewConflict(schema.GroupResource{Resource: "services"}, "web", nil)
	_, err := s.WriteService(t.Context(), cluster.Key{Namespace: "default", Name: "web"}, "u1", "1", ServiceStatus{})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "default/web") {
		t.Errorf("got %v", err)
	}
}
