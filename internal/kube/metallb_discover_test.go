package kube

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestKindsOfMetalLBMayComeOneByOne: as they do while they are being applied.
func TestKindsOfMetalLBMayComeOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &MetalLBSource{log: slog.New(slog.DiscardHandler), served: func(context.Context) (found []schema.GroupVersionResource, err error) {
			for _, kind := range []struct {
				resource string
				from     time.Duration
			}{{"ipaddresspools", 2500 * time.Millisecond}, {"bgppeers", 20 * time.Second}} {
				if time.Since(began) >= kind.from {
					found = append(found, schema.GroupVersionResource{Resource: kind.resource})
				}
			}
			if len(found) == 0 {
				return nil, errors.New("not there")
			}
			return found, nil
		}}
		known := map[string]bool{}
		for _, want := range []struct {
			resource string
			at       time.Duration
		}{{"ipaddresspools", 3 * noneEvery}, {"bgppeers", 3*noneEvery + someEvery}} {
			found := s.discover(t.Context(), known)
			if len(found) != 1 || found[0].Resource != want.resource || time.Since(began) != want.at {
				t.Fatalf("found %v after %v, want %s after %v", found, time.Since(began), want.resource, want.at)
			}
			known[want.resource] = true
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if found := s.discover(ctx, known); found != nil {
			t.Errorf("found %v once more", found)
		}
	})
}
