package kube

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/rest"
)

// verdict is what the API server says of somebody who asks for a path.
type verdict struct {
	user    string // "" where the token is nobody's
	allowed bool
}

// Reviewer asks the API server whose a token is (TokenReview), and whether that is somebody who may get a path that is no resource's
// (SubjectAccessReview). It remembers the answers for a while. It takes the rights of the ClusterRole system:auth-delegator.
type Reviewer struct {
	client rest.Interface
	known  *cache.LRUExpireCache
	asking chan struct{} // a place for each question that may be under way
}

// A verdict is remembered for so long: as the API server does with those of webhooks, one that refuses for less.
const (
	allowedFor = time.Minute
	refusedFor = 10 * time.Second
	remembered = 256
	// Whoever sends made-up tokens makes no more work for the API server than so many questions at a time.
	atATime = 4
)

// NewReviewer prepares a Reviewer; it asks nothing yet.
func NewReviewer(c *Client) *Reviewer {
	return &Reviewer{client: c.core, known: cache.NewLRUExpireCache(remembered), asking: make(chan struct{}, atATime)}
}

// MayGet says whose a bearer token is, "" for nobody's, and whether that user may get a path.
func (r *Reviewer) MayGet(ctx context.Context, token, path string) (user string, allowed bool, err error) {
	if token == "" {
		return "", false, nil
	}
	key := sha256.Sum256([]byte(path + "\x00" + token)) // no tokens in memory for longer than it takes
	if kept, _ := r.known.Get(key); kept != nil {
		if v, is := kept.(verdict); is {
			return v.user, v.allowed, nil
		}
	}
	v, err := r.ask(ctx, token, path)
	if err != nil {
		return "", false, err
	}
	keep := refusedFor
	if v.allowed {
		keep = allowedFor
	}
	r.known.Add(key, v, keep)
	return v.user, v.allowed, nil
}

func (r *Reviewer) ask(ctx context.Context, token, path string) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return verdict{}, fmt.Errorf("waiting to ask the API server whose a token is: %w", ctx.Err())
	}
	who := authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token},
	}
	if err := r.review(ctx, "/apis/authentication.k8s.io/v1/tokenreviews", &who); err != nil {
		return verdict{}, fmt.Errorf("asking the API server whose a token is: %w", err)
	}
	user := who.Status.User
	if !who.Status.Authenticated || user.Username == "" {
		return verdict{}, nil
	}
	may := authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
		Spec: authorizationv1.SubjectAccessReviewSpec{User: user.Username, UID: user.UID, Groups: user.Groups, Extra: map[string]authorizationv1.ExtraValue{},
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"}},
	}
	for name, values := range user.Extra {
		may.Spec.Extra[name] = authorizationv1.ExtraValue(values)
	}
	if err := r.review(ctx, "/apis/authorization.k8s.io/v1/subjectaccessreviews", &may); err != nil {
		return verdict{}, fmt.Errorf("asking the API server what %s may do: %w", user.Username, err)
	}
	return verdict{user: user.Username, allowed: may.Status.Allowed && !may.Status.Denied}, nil
}

// review posts an object, and puts what comes back in its place.
func (r *Reviewer) review(ctx context.Context, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	answer, err := r.client.Post().AbsPath(path).SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").Body(body).Do(ctx).Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, object)
}
