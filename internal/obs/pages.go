package obs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// KeepHeapSmall has the garbage collector run twice as often as it would, unless GOGC says otherwise, and gives memory back that only a
// burst took, until ctx ends: a pass leaves much garbage beside little that stays, and an idle process would keep the room of its busiest
// moment, as nothing makes it collect. Memory is dearer here than time.
func KeepHeapSmall(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(50)
	go func() {
		tick := time.NewTicker(trimEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if live, more := heap(); more > max(trimLeast, live/3) {
				debug.FreeOSMemory()
				_ = ReleasePages() // of a burst's code too, where the kernel lets it
			}
		}
	}()
}

// The heap is looked at so often, and is not given back for less.
const (
	trimEvery = 10 * time.Second
	trimLeast = 6 << 20
)

// heap is what of the heap was in use when it was last collected, and what is held beside it, in bytes.
func heap() (live, more uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(samples)
	live = samples[0].Value.Uint64()
	held := samples[1].Value.Uint64() + samples[2].Value.Uint64() + samples[3].Value.Uint64()
	return live, held - min(held, live)
}

// ReleasePages gives back the memory that the program's own code and constants take, for the kernel to bring what is used again back
// from the page cache. Most of it was read once, by what initialises the libraries.
func ReleasePages() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program's file: %w", err)
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("read the program's mappings: %w", err)
	}
	defer func() { _ = maps.Close() }()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		f := strings.Fields(lines.Text()) // 00400000-01a2b000 r-xp 00000000 fd:01 1234 /speaker
		if len(f) != 6 || f[5] != exe || f[1][1] != '-' {
			continue // of another file, or written to
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		if err != nil {
			return fmt.Errorf("read the program's mappings: %w", err)
		}
		end, err := strconv.ParseUint(to, 16, 64)
		if err != nil {
			return fmt.Errorf("read the program's mappings: %w", err)
		}
		if err := syscall.Madvise(mapped(uintptr(start), uintptr(end)), syscall.MADV_DONTNEED); err != nil {
			return fmt.Errorf("release the program's pages: %w", err)
		}
	}
	return lines.Err()
}

// mapped is the memory of a mapping that is never taken away.
func mapped(start, end uintptr) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&start))), end-start)
}
