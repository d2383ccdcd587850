package obs

import (
	"fmt"
	"os"
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
	if err := ReleasePages(); err != nil {
		t.Fatal(err)
	}
	if after := fileBacked(t); after > before*9/10 {
		t.Errorf("%d KiB of files before, %d after", before, after)
	}
}
