package kube

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

func TestAFencedClientSendsNothingWithoutTheLease(t *testing.T) {
	var arrived atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","resourceVersion":"2"}}`))
	}))
	defer server.Close()
	plain, err := NewClient(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	var held atomic.Bool
	fenced, err := plain.Fenced(held.Load)
	if err != nil {
		t.Fatal(err)
	}
	write := func() error {
		_, err := fenced.WriteService(t.Context(), cluster.Key{Namespace: "ns", Name: "web"}, "u1", "1", ServiceStatus{})
		return err
	}
	for round := range int32(3) {
		held.Store(false)
		if err := write(); err == nil || Answered(err) { // mostly errFenced; or that the transport has closed the connection because of it
			t.Errorf("without the lease: %v", err)
		}
		if n := arrived.Load(); n != round {
			t.Errorf("%d requests arrived without the lease", n-round)
		}
		held.Store(true)
		if err := write(); err != nil {
			t.Errorf("with the lease: %v", err)
		}
	}
}
