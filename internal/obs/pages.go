package obs

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// KeepHeapSmall has the garbage collector run twice as often as it would, unless GOGC says otherwise: a pass leaves much garbage beside
// little that stays, and memory is dearer here than time.
func KeepHeapSmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
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
