package lease

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

func TestALeaderThatWasCutOffLeavesTheLeaseToItsSuccessor(t *testing.T) {
	var mu sync.Mutex
	var lease *coordinationv1.Lease
	version, puts := 0, []string{}
	cut := make(chan struct{})
	close(cut)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		wait := cut
		mu.Unlock()
		<-wait // packets are lost, and sent again when the network is back
		if r.Context().Err() != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		fail := func(code int, reason metav1.StatusReason) {
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(code), Reason: reason})
		}
		if r.Method != http.MethodGet {
			in := &coordinationv1.Lease{}
			if err := json.NewDecoder(r.Body).Decode(in); err != nil {
				fail(500, metav1.StatusReasonInternalError)
				return
			}
			if r.Method == http.MethodPut && in.ResourceVersion != lease.ResourceVersion {
				fail(409, metav1.StatusReasonConflict)
				return
			}
			version++
			in.ResourceVersion = strconv.Itoa(version)
			lease = in
			puts = append(puts, *in.Spec.HolderIdentity)
		}
		if lease == nil {
			fail(404, metav1.StatusReasonNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(lease)
	}))
	defer srv.Close()
	c := &rest.Config{Host: srv.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
	l := New(c, "ns", "lease", "first", reconcile.NewPoke(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	go l.Run(ctx, func() {})
	defer cancel()
	for !l.Held() {
		time.Sleep(10 * time.Millisecond)
	}
	mu.Lock()
	cut = make(chan struct{})
	mu.Unlock()
	time.Sleep(4300 * time.Millisecond)
	mu.Lock() // the lease has run out, and the other takes it
	version++
	second, n, now := "second", int32(1), metav1.NowMicro()
	lease = lease.DeepCopy()
	lease.ResourceVersion = strconv.Itoa(version)
	lease.Spec.HolderIdentity, lease.Spec.LeaseTransitions, lease.Spec.RenewTime, lease.Spec.AcquireTime = &second, &n, &now, &now
	puts = nil
	close(cut)
	mu.Unlock()
	time.Sleep(time.Second)
	mu.Lock()
	defer mu.Unlock()
	if *lease.Spec.HolderIdentity != "second" || len(puts) > 0 {
		t.Errorf("the lease of second, which is 1 s old and good for 4 s, was written as that of %q, and first holds it: %t", puts, l.Held())
	}
}
