package obs

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

// fileBacked is how much of the process's memory is of files, in KiB.
func fileBacked(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if n, _ := fmt.Sscanf(line, "RssFile: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatal("the kernel does not say")
	return 0
}

func TestPagesOfTheStartAreGivenBack(t *testing.T) {
	before := fileBacked(t)
	if err := releasePages(); err != nil {
		t.Fatal(err)
	}
	if after := fileBacked(t); after > before*9/10 {
		t.Errorf("%d KiB of files before, %d after", before, after)
	}
}

func TestABurstIsGivenBack(t *testing.T) {
	burst := make([][]byte, 64)
	for i := range burst {
		burst[i] = make([]byte, 1<<20)
	}
	runtime.GC()
	runtime.KeepAlive(burst)
	live, _ := heap()
	if live < 64<<20 {
		t.Fatalf("%d bytes live with 64 MiB in use", live)
	}
	clear(burst)
	debug.FreeOSMemory()
	if now, more := heap(); now > live-(60<<20) || more > 32<<20 {
		t.Errorf("%d bytes live and %d beside it after 64 MiB were given back, of %d", now, more, live)
	}
}
