package holds

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Stream feeds a Ledger with every change of every Service.
type Stream struct {
	*Ledger
	services corev1.ServiceInterface
	version  string
}

// Open reads what there is now into a ledger. Run goes on from there, and misses nothing that happens between.
func Open(ctx context.Context, client corev1.ServicesGetter, ledger *Ledger) (*Stream, error) {
	s := &Stream{Ledger: ledger, services: client.Services(metav1.NamespaceAll)}
	list, err := s.services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the Services: %w", err)
	}
	for i := range list.Items {
		if err := ledger.See(watch.Event{Type: watch.Added, Object: &list.Items[i]}); err != nil {
			return nil, err
		}
	}
	s.version = list.ResourceVersion
	return s, nil
}

// Run watches until ctx ends. A watch that the API server ends is begun again where it ended; when that cannot be done
// without a hole, Run returns an error.
func (s *Stream) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		w, err := s.services.Watch(ctx, metav1.ListOptions{ResourceVersion: s.version, AllowWatchBookmarks: true})
		if err == nil {
			err = s.drain(ctx, w)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch the Services from version %s: %w", s.version, err)
		}
	}
	return nil
}

func (s *Stream) drain(ctx context.Context, w watch.Interface) error {
	defer w.Stop()
	for {
		var e watch.Event
		var open bool
		select {
		case <-ctx.Done():
			return nil
		case e, open = <-w.ResultChan():
		}
		if !open {
			return nil
		}
		meta, is := e.Object.(metav1.Object)
		if !is {
			return fmt.Errorf("it has a %s: %+v", e.Type, e.Object)
		}
		if e.Type != watch.Bookmark {
			if err := s.See(e); err != nil {
				return err
			}
		}
		s.version = meta.GetResourceVersion()
	}
}

// Settle waits until the ledger is as far as the API server: for when nothing is written any more.
func (s *Stream) Settle(ctx context.Context) error {
	for {
		list, err := s.services.List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("read the Services: %w", err)
		}
		if s.agrees(list.Items) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the stream of Services did not get to where the API server is: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
