package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Recorder writes events about Services and about our own objects. Events that repeat are merged and rate-limited by
// client-go's correlator; none is ever waited for. Thousands of Services that change at once are not worth thousands of
// requests: beyond a burst events are dropped, and the Services' conditions, which say the same, have to do.
type Recorder struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	client      *Client
	rates       map[string]flowcontrol.PassiveRateLimiter // by kind: a flood of good news does not drown bad news
}

const (
	eventsPerSecond = 5
	eventsAtOnce    = 25
)

// NewRecorder prepares a recorder for one component; events go out while Run runs.
func NewRecorder(c *Client, component, node string) *Recorder {
	b := record.NewBroadcaster()
	rate := func() flowcontrol.PassiveRateLimiter {
		return flowcontrol.NewTokenBucketPassiveRateLimiter(eventsPerSecond, eventsAtOnce)
	}
	return &Recorder{broadcaster: b, client: c,
		rates:    map[string]flowcontrol.PassiveRateLimiter{corev1.EventTypeNormal: rate(), corev1.EventTypeWarning: rate()},
		recorder: b.NewRecorder(c.Scheme, corev1.EventSource{Component: component, Host: node})}
}

// Run sends events until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	watch := r.broadcaster.StartRecordingToSink(eventSink{ctx: ctx, client: r.client})
	<-ctx.Done()
	watch.Stop()
	r.broadcaster.Shutdown()
	return nil
}

// Service records an event about a Service; kind is Normal or Warning.
func (r *Recorder) Service(key cluster.Key, uid types.UID, kind, reason, message string) {
	r.record(&corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: key.Namespace, Name: key.Name, UID: uid}, kind, reason, message)
}

// Peer records an event about a BGPPeer; kind is Normal or Warning.
func (r *Recorder) Peer(name string, uid types.UID, kind, reason, message string) {
	r.record(&corev1.ObjectReference{APIVersion: v1beta1.GroupVersion().String(), Kind: "BGPPeer", Name: name, UID: uid}, kind, reason, message)
}

func (r *Recorder) record(about *corev1.ObjectReference, kind, reason, message string) {
	if r.rates[kind].TryAccept() {
		r.recorder.Event(about, kind, reason, message)
	}
}

// eventSink sends events with our own client.
type eventSink struct {
	ctx    context.Context
	client *Client
}

func (s eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(s.ctx, RequestTimeout)
	defer cancel()
	return s.client.Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{})
}

func (s eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(s.ctx, RequestTimeout)
	defer cancel()
	return s.client.Events(e.Namespace).Update(ctx, e, metav1.UpdateOptions{})
}

func (s eventSink) Patch(old *corev1.Event, data []byte) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(s.ctx, RequestTimeout)
	defer cancel()
	return s.client.Events(old.Namespace).Patch(ctx, old.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{})
}
