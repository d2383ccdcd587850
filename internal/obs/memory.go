package obs

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// KeepSmall has the garbage collector run twice as often as it would, unless GOGC says otherwise, and gives memory back that only a
// burst or the start took, until ctx ends: a pass leaves much garbage beside little that stays, and an idle process would keep the room of
// its busiest moment, as nothing makes it collect. Memory is dearer here than time.
func KeepSmall(ctx context.Context, log *slog.Logger) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(50)
	go func() {
		tick := time.NewTicker(trimEvery)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			live, more := heap()
			burst := more > max(trimLeast, live/3)
			if burst {
				debug.FreeOSMemory()
			}
			if burst || n%releaseEvery == 0 {
				if err := releasePages(); err != nil {
					log.Debug("memory of the program's code is not given back", "error", err)
				}
			}
		}
	}()
}

const (
	// The heap is looked at so often, and is not given back for less.
	trimEvery = 10 * time.Second
	trimLeast = 6 << 20
	// releaseEvery is after how many looks the program's code is given back. To bring what is used again back takes less than a millisecond.
	releaseEvery = 6
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

// releasePages gives back the memory that the program's own code and constants take, for the kernel to bring what is used again back
// from the page cache. Most of it was read once, by what initialises the libraries.
func releasePages() error {
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
