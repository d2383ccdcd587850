package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/bellwether-lb/bellwether/internal/reconcile"
)

// Record is one object as a Source keeps it: what identifies it, and the value it was converted to.
type Record[T any] struct {
	metav1.ObjectMeta
	Value T
}

// Source is an informer that converts every object when it arrives, keeps only the conversion, and pokes.
type Source[T any] struct {
	informer cache.SharedIndexInformer
	matters  func(T) bool          // nil: all do
	same     func(was, now T) bool // nil: no two versions are
	asked    atomic.Pointer[time.Time]
}

// Lister is what a Source reads from: the list and watch verbs of a typed client.
type Lister[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// Object is a pointer to a Kubernetes object.
type Object interface {
	runtime.Object
	metav1.Object
}

// NewSource makes a Source of the objects that lister lists; convert sees each of them once per version and must not keep it.
// Any change rings every poke.
func NewSource[O Object, L runtime.Object, T any](lister Lister[L], example O, convert func(O) T, pokes ...reconcile.Poke) (*Source[T], error) {
	s := &Source[T]{}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			if opts.ResourceVersion == "0" {
				opts.ResourceVersion = "" // what is true now, not what some API server remembers
			}
			now := time.Now()
			s.asked.Store(&now)
			return untilAnswered(ctx, func() (L, error) { return lister.List(ctx, opts) })
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			return untilAnswered(ctx, func() (watch.Interface, error) { return lister.Watch(ctx, opts) })
		},
	}
	informer := cache.NewSharedIndexInformerWithOptions(listThenWatch{lw}, example,
		cache.SharedIndexInformerOptions{ObjectDescription: fmt.Sprintf("%T", example)})
	if err := informer.SetTransform(func(obj any) (any, error) {
		if o, isWire := obj.(O); isWire {
			return NewRecord(o, convert(o)), nil
		}
		return obj, nil // a tombstone, or converted already
	}); err != nil {
		return nil, fmt.Errorf("setting the conversion of %T: %w", example, err)
	}
	s.informer = informer
	ring := func(versions ...any) {
		if !slices.ContainsFunc(versions, s.rings) || len(versions) == 2 && s.unchanged(versions[0], versions[1]) {
			return
		}
		for _, p := range pokes {
			p.Ring()
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(now any) { ring(now) },
		UpdateFunc: func(was, now any) { ring(was, now) },
		DeleteFunc: func(was any) { ring(was) },
	}); err != nil {
		return nil, fmt.Errorf("watching %T: %w", example, err)
	}
	return s, nil
}

// listThenWatch has an informer list first. A watch that begins with all objects would take twice as long and twice the processor time, at
// both ends: each comes as an event of its own.
type listThenWatch struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported is what client-go asks for.
func (listThenWatch) IsWatchListSemanticsUnSupported() bool { return true }

// Asked returns when the API server was last asked for all objects: once synced, the source shows at least what was true then.
// It is zero before.
func (s *Source[T]) Asked() time.Time {
	if asked := s.asked.Load(); asked != nil {
		return *asked
	}
	return time.Time{}
}

// Only lets changes ring the pokes only where the object matters before or after them. It is called before Run.
func (s *Source[T]) Only(matters func(T) bool) { s.matters = matters }

// Unless lets an update ring the pokes only where it is not to the same. It is called before Run.
func (s *Source[T]) Unless(same func(was, now T) bool) { s.same = same }

func (s *Source[T]) unchanged(was, now any) bool {
	before, is := was.(*Record[T])
	after, isToo := now.(*Record[T])
	return s.same != nil && is && isToo && before.UID == after.UID && s.same(before.Value, after.Value)
}

// rings reports whether a change from or to a version of an object is worth a poke. What is not a record is the last that was
// seen of an object whose deletion was missed.
func (s *Source[T]) rings(version any) bool {
	r, is := version.(*Record[T])
	return !is || s.matters == nil || s.matters(r.Value)
}

// untilAnswered asks again, about once a second, while the API server cannot be reached at all. client-go itself would back
// off for up to half a minute, and we would be blind for as long after the API server has come back.
func untilAnswered[R any](ctx context.Context, ask func() (R, error)) (R, error) {
	for {
		answer, err := ask()
		if err == nil || Answered(err) || ctx.Err() != nil {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(500*time.Millisecond + rand.N(time.Second)):
		}
	}
}

// Answered reports whether an error is the API server's own word, and not that of the network on the way to it.
func Answered(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// Refused reports whether an error says that a write has not been carried out, and will not be. One that the API server gave up waiting for
// (500, 504) may yet be.
func Refused(err error) bool {
	return slices.ContainsFunc([]func(error) bool{
		apierrors.IsBadRequest, apierrors.IsConflict, apierrors.IsForbidden, apierrors.IsGone, apierrors.IsInvalid, apierrors.IsMethodNotSupported, apierrors.IsNotFound,
		apierrors.IsRequestEntityTooLargeError, apierrors.IsTooManyRequests, apierrors.IsUnauthorized,
	}, func(is func(error) bool) bool { return is(err) })
}

// NewRecord keeps of an object's metadata what identifies this version of it.
func NewRecord[T any](o metav1.Object, value T) *Record[T] {
	return &Record[T]{
		ObjectMeta: metav1.ObjectMeta{
			Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
			ResourceVersion: o.GetResourceVersion(), Generation: o.GetGeneration(),
		},
		Value: value,
	}
}

// Run watches until ctx ends.
func (s *Source[T]) Run(ctx context.Context) error {
	s.informer.RunWithContext(ctx)
	return nil
}

// Synced reports whether the first list is complete.
func (s *Source[T]) Synced() bool { return s.informer.HasSynced() }

// Version returns how far the watch has got: the resource version of the newest change that Records takes in. Asked for
// before Records, it is a lower bound.
func (s *Source[T]) Version() string { return s.informer.GetStore().LastStoreSyncResourceVersion() }

// Records returns what is known now, in no order. The records are shared and must not be changed.
func (s *Source[T]) Records() []*Record[T] {
	stored := s.informer.GetStore().List()
	out := make([]*Record[T], 0, len(stored))
	for _, obj := range stored {
		if r, ok := obj.(*Record[T]); ok {
			out = append(out, r)
		}
	}
	return out
}

// VersionsOf sums up which objects there are in which versions, in whatever order they come.
func VersionsOf[T any](records []*Record[T]) string {
	versions := make([]string, 0, len(records))
	for _, r := range records {
		versions = append(versions, string(r.UID)+"@"+r.ResourceVersion)
	}
	slices.Sort(versions)
	return strings.Join(versions, " ")
}

// Get returns one object by its key: namespace/name, or the name of a cluster-scoped object.
func (s *Source[T]) Get(key string) (*Record[T], bool) {
	obj, found, err := s.informer.GetStore().GetByKey(key)
	if err != nil || !found {
		return nil, false
	}
	r, ok := obj.(*Record[T])
	return r, ok
}
