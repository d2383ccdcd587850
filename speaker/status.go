package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// statusWriter writes this node's Speaker object, once a second at most, and those of speakers that fell silent.
type statusWriter struct {
	client *kube.Client
	node   string
	log    *slog.Logger
	now    func() v1beta1.SpeakerStatus
	stale  reconcile.Poke              // rung when the status may be another
	silent *reconcile.Latest[[]string] // all nodes whose speaker is silent, where it falls to this one to say so
	heard  func(node string) bool

	doubted   atomic.Bool // others may have written in this node's place
	written   *v1beta1.SpeakerStatus
	writtenAt time.Time
	buried    map[string]bool
}

func newStatusWriter(client *kube.Client, node string, log *slog.Logger, now func() v1beta1.SpeakerStatus, heard func(node string) bool) *statusWriter {
	return &statusWriter{client: client, node: node, log: log, now: now, heard: heard, stale: reconcile.NewPoke(),
		silent: reconcile.NewLatest[[]string](), buried: map[string]bool{}}
}

// rewrite is how often the status is written though nothing has changed: others may have taken this speaker for dead, and
// said so in its place, without its knowing.
const rewrite = time.Minute

// Run writes until ctx ends.
func (w *statusWriter) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.stale:
			if err := w.write(ctx, w.now()); err != nil && ctx.Err() == nil {
				w.written = nil
				w.log.Warn("Speaker status not written, will retry", "error", err)
			}
		case nodes := <-w.silent.C():
			if !w.buryAll(ctx, nodes) {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(w.rest()):
		}
	}
}

// rest is how long to wait before the next write: a status is written whole, so the longer it is the less often.
func (w *statusWriter) rest() time.Duration {
	if w.written == nil {
		return time.Second
	}
	return time.Second + time.Duration(len(w.written.Layer2.Owned)+len(w.written.BGP.Local))*time.Millisecond
}

func (w *statusWriter) write(ctx context.Context, status v1beta1.SpeakerStatus) error {
	doubted := w.doubted.Swap(false)
	if w.written != nil {
		for i := range status.Conditions {
			status.Conditions[i].LastTransitionTime = since(w.written.Conditions, status.Conditions[i])
		}
		if apiequality.Semantic.DeepEqual(*w.written, status) && time.Since(w.writtenAt) < rewrite && !doubted {
			return nil
		}
	}
	for i := range status.Conditions {
		if status.Conditions[i].LastTransitionTime.IsZero() {
			status.Conditions[i].LastTransitionTime = metav1.Now()
		}
	}
	patch, err := kube.StatusPatch(status, "")
	if err != nil {
		return fmt.Errorf("preparing the status of Speaker %s: %w", w.node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, kube.RequestTimeout)
	defer cancel()
	_, err = w.client.Speakers.Patch(ctx, w.node, types.JSONPatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		if err := w.create(ctx); err != nil {
			return err
		}
		_, err = w.client.Speakers.Patch(ctx, w.node, types.JSONPatchType, patch, metav1.PatchOptions{}, "status")
	}
	if err != nil {
		return fmt.Errorf("writing the status of Speaker %s: %w", w.node, err)
	}
	w.written, w.writtenAt = &status, time.Now()
	return nil
}

// buryAll clears the objects of those who are silent, each once, and reports whether there were any to clear. What fails is tried again when
// they are told of the next time.
func (w *statusWriter) buryAll(ctx context.Context, nodes []string) (some bool) {
	maps.DeleteFunc(w.buried, func(node string, _ bool) bool { return !slices.Contains(nodes, node) })
	for _, node := range nodes {
		if w.buried[node] {
			continue
		}
		some = true
		if err := w.bury(ctx, node); err == nil {
			w.buried[node] = true
		} else if ctx.Err() == nil {
			w.log.Warn("the Speaker object of a silent speaker still says what it announced, will retry", "speaker", node, "error", err)
		}
	}
	return some
}

// bury says in the Speaker object of a silent speaker that it announces nothing any more, since it cannot itself; unless it does: it is
// heard again, or it wrote while the API server kept this node waiting.
func (w *statusWriter) bury(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, kube.RequestTimeout)
	defer cancel()
	now, err := w.client.Speakers.Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && w.heard(node) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Speaker %s: %w", node, err)
	}
	patch, err := kube.StatusPatch(v1beta1.SpeakerStatus{Conditions: []metav1.Condition{{
		Type: v1beta1.ConditionReady, Status: metav1.ConditionUnknown, Reason: "NotHeard", LastTransitionTime: metav1.Now(),
		Message: "the other speakers do not hear it any more, and take over what it announced",
	}}}, now.ResourceVersion)
	if err != nil {
		return fmt.Errorf("preparing the status of Speaker %s: %w", node, err)
	}
	_, err = w.client.Speakers.Patch(ctx, node, types.JSONPatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("writing the status of Speaker %s: %w", node, err)
	}
	return nil
}

// create makes the Speaker object, owned by the Node: it goes when the Node does.
func (w *statusWriter) create(ctx context.Context) error {
	node, err := w.client.Nodes.Get(ctx, w.node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Node %s (is --node right?): %w", w.node, err)
	}
	object := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: w.node,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}}}
	if _, err := w.client.Speakers.Create(ctx, object, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating Speaker %s: %w", w.node, err)
	}
	return nil
}

// since keeps the time of a condition whose status stays.
func since(old []metav1.Condition, c metav1.Condition) metav1.Time {
	for _, o := range old {
		if o.Type == c.Type && o.Status == c.Status {
			return o.LastTransitionTime
		}
	}
	return metav1.Time{}
}
