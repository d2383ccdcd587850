package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/gentype"
	"sigs.k8s.io/yaml"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/config/metallb"
)

// metalLBKind is a kind of metallb.io that is configuration, with the versions that are read, the best first.
type metalLBKind struct {
	resource, kind string
	versions       []string
}

func metalLBKinds() []metalLBKind {
	only := []string{"v1beta1"}
	return []metalLBKind{{"ipaddresspools", "IPAddressPool", only}, {"l2advertisements", "L2Advertisement", only}, {"bgpadvertisements", "BGPAdvertisement", only},
		{"bgppeers", "BGPPeer", []string{"v1beta2", "v1beta1"}}, {"bfdprofiles", "BFDProfile", only}, {"communities", "Community", only}}
}

// MetalLBSource follows the configuration that MetalLB has in a cluster.
type MetalLBSource struct {
	client    *Client
	namespace string
	poke      reconcile.Poke
	log       *slog.Logger
	served    func(context.Context) ([]schema.GroupVersionResource, error)
	// Rotated is rung when a password may be another.
	Rotated reconcile.Poke

	sources   atomic.Pointer[[]*Source[json.RawMessage]] // nil until it is known which kinds there are
	passwords *Source[string]                            // of Secrets in its namespace
	inline    atomic.Pointer[map[string]string]          // passwords in BGPPeers, by the names of the Secrets that stand for them
}

// NewMetalLBSource prepares to follow what is in a namespace.
func NewMetalLBSource(c *Client, namespace string, poke reconcile.Poke, log *slog.Logger) (*MetalLBSource, error) {
	s := &MetalLBSource{client: c, namespace: namespace, poke: poke, log: log, served: c.served, Rotated: reconcile.NewPoke()}
	var err error
	s.passwords, err = NewSource(OnlyBasicAuth(c.Secrets(namespace)), &corev1.Secret{}, Password, s.Rotated)
	return s, err
}

// Run follows it until ctx ends.
func (s *MetalLBSource) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	var sources []*Source[json.RawMessage]
	known := map[string]bool{}
	for ctx.Err() == nil && len(known) < len(metalLBKinds()) {
		for _, resource := range s.discover(ctx, known) {
			source, err := NewSource(s.client.theirs(resource, s.namespace), &theirObject{}, rawOf(resource), s.poke)
			if err != nil {
				return err
			}
			source.Unless(func(was, now json.RawMessage) bool { return bytes.Equal(was, now) })
			sources, known[resource.Resource] = append(sources, source), true
			group.Go(func() error { return source.Run(ctx) })
		}
		all := slices.Clone(sources)
		s.sources.Store(&all)
	}
	return group.Wait()
}

// RunPasswords follows the Secrets until ctx ends. Only speakers need them.
func (s *MetalLBSource) RunPasswords(ctx context.Context) error { return s.passwords.Run(ctx) }

// PasswordsSynced reports whether the first list of the Secrets is complete.
func (s *MetalLBSource) PasswordsSynced() bool { return s.passwords.Synced() }

// How long to wait before MetalLB's kinds are looked for again: while there are none, and while some of them are missing.
const (
	noneEvery = time.Second
	someEvery = 30 * time.Second
)

// discover finds out which of MetalLB's kinds the API server has, and asks again until it has one that is not known, or ctx ends.
func (s *MetalLBSource) discover(ctx context.Context, known map[string]bool) []schema.GroupVersionResource {
	for said := len(known) > 0; ; {
		found, err := s.served(ctx)
		found = slices.DeleteFunc(found, func(r schema.GroupVersionResource) bool { return known[r.Resource] })
		if err == nil && len(found) > 0 {
			return found
		}
		if !said {
			said = true
			s.log.Warn("there are no objects of MetalLB to work on: waiting for its CustomResourceDefinitions; leave out --metallb-objects to go on without", "error", err)
		}
		wait := noneEvery
		if len(known) > 0 {
			wait = someEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// served returns the best version of each of MetalLB's kinds that the API server has.
func (c *Client) served(ctx context.Context) ([]schema.GroupVersionResource, error) {
	has := map[string][]string{}
	for _, version := range []string{"v1beta1", "v1beta2"} {
		text, err := c.metalLB[version].Get().AbsPath("apis", metallb.Group, version).Do(ctx).Raw()
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for MetalLB's kinds: %w", err)
		}
		var list metav1.APIResourceList
		if err := json.Unmarshal(text, &list); err != nil {
			return nil, fmt.Errorf("look for MetalLB's kinds: %w", err)
		}
		for i := range list.APIResources {
			has[list.APIResources[i].Name] = append(has[list.APIResources[i].Name], version)
		}
	}
	var all []schema.GroupVersionResource
	for _, k := range metalLBKinds() {
		for _, v := range k.versions {
			if slices.Contains(has[k.resource], v) {
				all = append(all, schema.GroupVersionResource{Group: metallb.Group, Version: v, Resource: k.resource})
				break
			}
		}
	}
	return all, nil
}

// theirObject is an object of MetalLB's of any kind: its own programs are not needed to read it.
type theirObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec json.RawMessage `json:"spec"`
}

// DeepCopyObject makes it a runtime.Object.
func (o *theirObject) DeepCopyObject() runtime.Object {
	out := o.copy()
	return &out
}

func (o *theirObject) copy() theirObject {
	out := theirObject{TypeMeta: o.TypeMeta, Spec: bytes.Clone(o.Spec)}
	o.DeepCopyInto(&out.ObjectMeta)
	return out
}

type theirList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []theirObject `json:"items"`
}

// DeepCopyObject makes it a runtime.Object.
func (l *theirList) DeepCopyObject() runtime.Object {
	out := &theirList{TypeMeta: l.TypeMeta}
	l.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items = append(out.Items, l.Items[i].copy())
	}
	return out
}

// addMetalLB makes MetalLB's kinds known.
func addMetalLB(s *runtime.Scheme) error {
	for _, version := range []string{"v1beta1", "v1beta2"} {
		gv := schema.GroupVersion{Group: metallb.Group, Version: version}
		for _, k := range metalLBKinds() {
			s.AddKnownTypeWithName(gv.WithKind(k.kind), &theirObject{})
			s.AddKnownTypeWithName(gv.WithKind(k.kind+"List"), &theirList{})
		}
		metav1.AddToGroupVersion(s, gv)
	}
	return nil
}

// theirs is access to one of MetalLB's kinds.
func (c *Client) theirs(of schema.GroupVersionResource, namespace string) *gentype.ClientWithList[*theirObject, *theirList] {
	return gentype.NewClientWithList(of.Resource, c.metalLB[of.Version], runtime.NewParameterCodec(c.Scheme), namespace,
		func() *theirObject { return &theirObject{} }, func() *theirList { return &theirList{} })
}

// rawOf makes JSON of objects of a kind, without what changes when nobody changes it.
func rawOf(of schema.GroupVersionResource) func(*theirObject) json.RawMessage {
	kinds := metalLBKinds()
	kind := kinds[slices.IndexFunc(kinds, func(k metalLBKind) bool { return k.resource == of.Resource })].kind
	return func(o *theirObject) json.RawMessage {
		raw, err := json.Marshal(theirObject{TypeMeta: metav1.TypeMeta{APIVersion: of.GroupVersion().String(), Kind: kind}, Spec: o.Spec,
			ObjectMeta: metav1.ObjectMeta{Name: o.Name, Namespace: o.Namespace, Labels: o.Labels, CreationTimestamp: o.CreationTimestamp}})
		if err != nil {
			return nil // nothing that came as JSON
		}
		return raw
	}
}

// Synced reports whether the first lists of all are complete.
func (s *MetalLBSource) Synced() bool {
	sources := s.sources.Load()
	return sources != nil && !slices.ContainsFunc(*sources, func(one *Source[json.RawMessage]) bool { return !one.Synced() })
}

// Versions is another text whenever an object is another.
func (s *MetalLBSource) Versions() string {
	var all []string
	if sources := s.sources.Load(); sources != nil {
		for _, source := range *sources {
			all = append(all, VersionsOf(source.Records()))
		}
	}
	return strings.Join(all, "/")
}

// Convert returns what the configuration is for Bellwether.
func (s *MetalLBSource) Convert() metallb.Result {
	var all []json.RawMessage
	if sources := s.sources.Load(); sources != nil {
		for _, source := range *sources {
			all = append(all, values(source)...)
		}
	}
	slices.SortFunc(all, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
	r := metallb.Convert(all, yaml.YAMLToJSON)
	inline := map[string]string{}
	for _, secret := range r.Secrets {
		if secret.Password != "" {
			inline[secret.Name] = secret.Password
		}
	}
	if was := s.inline.Swap(&inline); was == nil || !maps.Equal(*was, inline) {
		s.Rotated.Ring()
	}
	return r
}

// Password returns what a BGPPeer of MetalLB's has for a password, by the name of the Secret.
func (s *MetalLBSource) Password(secret string) (password string, known bool) {
	if inline := s.inline.Load(); inline != nil {
		if password, known = (*inline)[secret]; known {
			return password, true
		}
	}
	for _, r := range s.passwords.Records() {
		if r.Name == secret {
			return r.Value, true
		}
	}
	return "", false
}

// ReadMetalLB reads MetalLB's configuration once.
func (c *Client) ReadMetalLB(ctx context.Context, namespace string) (metallb.Result, error) {
	resources, err := c.served(ctx)
	if err != nil {
		return metallb.Result{}, err
	}
	var all []json.RawMessage
	for _, resource := range resources {
		list, err := c.theirs(resource, namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return metallb.Result{}, fmt.Errorf("read MetalLB's %s: %w", resource.Resource, err)
		}
		raw := rawOf(resource)
		for i := range list.Items {
			all = append(all, raw(&list.Items[i]))
		}
	}
	return metallb.Convert(all, yaml.YAMLToJSON), nil
}
