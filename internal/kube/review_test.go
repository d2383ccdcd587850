package kube

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
)

// TestAReviewer asks as an API server of one user wants it, and no more often than it must.
func TestAReviewer(t *testing.T) {
	var asked atomic.Int32
	var away atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if away.Load() {
			http.Error(w, "away", http.StatusInternalServerError)
			return
		}
		var answer any
		switch r.URL.Path {
		case "/apis/authentication.k8s.io/v1/tokenreviews":
			var review authenticationv1.TokenReview
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Kind != "TokenReview" {
				t.Errorf("%+v, %v", review, err)
			}
			if review.Spec.Token == "good" {
				review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{
					Username: "prometheus", UID: "7", Groups: []string{"readers"}, Extra: map[string]authenticationv1.ExtraValue{"pod": {"p-0"}}}}
			}
			answer = review
		case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
			var review authorizationv1.SubjectAccessReview
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Kind != "SubjectAccessReview" {
				t.Errorf("%+v, %v", review, err)
			}
			s := review.Spec
			if s.User != "prometheus" || s.UID != "7" || !slices.Equal(s.Groups, []string{"readers"}) || s.Extra["pod"][0] != "p-0" || s.NonResourceAttributes.Verb != "get" {
				t.Errorf("it asks for %+v", s)
			}
			review.Status.Allowed = s.NonResourceAttributes.Path == "/metrics"
			answer = review
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	client, err := NewClient(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	r := NewReviewer(client)
	for _, c := range []struct {
		token, path string
		user        string
		allowed     bool
		asks        int32
	}{
		{"good", "/metrics", "prometheus", true, 2},
		{"good", "/metrics", "prometheus", true, 0},
		{"good", "/debug/view", "prometheus", false, 2},
		{"good", "/debug/view", "prometheus", false, 0},
		{"bad", "/metrics", "", false, 1},
		{"bad", "/metrics", "", false, 0},
		{"", "/metrics", "", false, 0},
	} {
		before := asked.Load()
		user, allowed, err := r.MayGet(t.Context(), c.token, c.path)
		if err != nil || user != c.user || allowed != c.allowed || asked.Load()-before != c.asks {
			t.Errorf("%q gets %s: %q, %v, %v after %d questions; want %q, %v after %d", c.token, c.path, user, allowed, err, asked.Load()-before, c.user, c.allowed, c.asks)
		}
	}
	away.Store(true)
	if _, allowed, err := r.MayGet(t.Context(), "another", "/metrics"); allowed || err == nil || !strings.Contains(err.Error(), "whose a token is") {
		t.Errorf("while the API server is away: %v, %v", allowed, err)
	}
}
