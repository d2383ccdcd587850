package flock

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestOneHolderAtATimeThoughTheFileIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "lock")
	var holders atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				release, err := Take(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				if holders.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				time.Sleep(time.Millisecond)
				holders.Add(-1)
				_, _ = os.Remove(path), os.Remove(filepath.Dir(path))
				release()
			}
		})
	}
	wg.Wait()
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := Take(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Take(ctx, path); err == nil {
		t.Error("two hold the lock")
	}
}
