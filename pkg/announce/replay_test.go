package announce

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the plans of testdata/views anew, to be looked at in the diff")

// TestReplay decides every view in testdata/views and compares the plan. This is how a bug report becomes a test: save what
// /debug/view of a speaker shows as testdata/views/NAME.json, run with -update, and correct the plan by hand to what it
// should be.
func TestReplay(t *testing.T) {
	views, err := filepath.Glob(filepath.Join("testdata", "views", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	replayed := 0
	for _, path := range views {
		if strings.HasSuffix(path, ".plan.json") {
			continue
		}
		replayed++
		t.Run(filepath.Base(path), func(t *testing.T) { replay(t, path, strings.TrimSuffix(path, ".json")+".plan.json") })
	}
	if replayed == 0 {
		t.Error("no view was found to replay")
	}
}

func replay(t *testing.T, path, golden string) {
	t.Helper()
	dump, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var view View
	in := json.NewDecoder(bytes.NewReader(dump))
	in.DisallowUnknownFields() // a field that is gone would be a test of less than it says
	if err := in.Decode(&view); err != nil {
		t.Fatalf("reading %s: %v", path, err)
	}
	got, err := json.MarshalIndent(Decide(view), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("no plan to compare with (-update writes one): %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the plan is not that of %s:\n%s", golden, got)
	}
}
