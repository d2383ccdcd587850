package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
)

// patience is how long something may take before the measurement is given up.
const patience = 3 * time.Minute

// sightings are when a watch first showed each Service of a namespace with an address, and as announced.
type sightings struct {
	services typedcore.ServiceInterface
	news     chan struct{} // holds one

	mu        sync.Mutex // guards what follows
	addressed map[string]time.Time
	announced map[string]time.Time
	broken    error
}

func see(ctx context.Context, services typedcore.ServiceInterface) (*sightings, error) {
	s := &sightings{services: services, news: make(chan struct{}, 1), addressed: map[string]time.Time{}, announced: map[string]time.Time{}}
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the Services: %w", err)
	}
	go s.follow(ctx, list.ResourceVersion)
	return s, nil
}

// follow watches until ctx ends. The API server ends the watch of a client that does not keep up, which under this load may
// be any; it is taken up again where it ended.
func (s *sightings) follow(ctx context.Context, version string) {
	for ctx.Err() == nil {
		w, err := s.services.Watch(ctx, metav1.ListOptions{ResourceVersion: version})
		if err != nil {
			s.fail(fmt.Errorf("watch the Services: %w", err))
			return
		}
		for event := range w.ResultChan() {
			service, is := event.Object.(*corev1.Service)
			if !is {
				s.fail(fmt.Errorf("watch the Services: %w", apierrors.FromObject(event.Object)))
				return
			}
			version = service.ResourceVersion
			s.note(service, event.Type == watch.Deleted, time.Now())
		}
	}
}

func (s *sightings) fail(err error) {
	s.mu.Lock()
	s.broken = err
	s.mu.Unlock()
	s.ring()
}

func (s *sightings) note(service *corev1.Service, deleted bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if deleted {
		delete(s.addressed, service.Name)
		delete(s.announced, service.Name)
		s.ring()
		return
	}
	if _, known := s.addressed[service.Name]; !known && len(service.Status.LoadBalancer.Ingress) > 0 {
		s.addressed[service.Name] = now
		s.ring()
	}
	for _, c := range service.Status.Conditions {
		if _, known := s.announced[service.Name]; !known && c.Type == "bellwether.dev/Announced" && c.Status == metav1.ConditionTrue {
			s.announced[service.Name] = now
			s.ring()
		}
	}
}

func (s *sightings) ring() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// await waits until what was seen is enough. One goroutine awaits at a time.
func (s *sightings) await(ctx context.Context, what string, enough func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %v for %s", patience, what))
	defer cancel()
	for {
		s.mu.Lock()
		done, broken := enough(), s.broken
		s.mu.Unlock()
		switch {
		case done:
			return nil
		case broken != nil:
			return broken
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.news:
		}
	}
}

// all waits until that many Services have addresses, and returns when the last of them was seen.
func (s *sightings) all(ctx context.Context, n int) (last time.Time, err error) {
	err = s.await(ctx, fmt.Sprintf("%d Services to have addresses", n), func() bool {
		if len(s.addressed) != n {
			return false
		}
		for _, t := range s.addressed {
			if t.After(last) {
				last = t
			}
		}
		return true
	})
	return last, err
}

// one waits until a Service has an address, and returns when that was seen.
func (s *sightings) one(ctx context.Context, name string) (seen time.Time, err error) {
	err = s.await(ctx, "Service "+name+" to have an address", func() (is bool) {
		seen, is = s.addressed[name]
		return is
	})
	return seen, err
}
