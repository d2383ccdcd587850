package membership

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"io"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// TestStatesOfOtherReleases: states of version 1 as they were gossiped first, and with what a later release may add. Speakers of other
// releases say and understand these: a field may come, and none may go or mean something else (docs/upgrades.md).
func TestStatesOfOtherReleases(t *testing.T) {
	const first = `{"node":"node-1","epoch":7,"seq":8,"member":{"ready":true,"leaving":true,"links":[{"name":"eth0","index":2,"mac":"02:00:00:00:00:01",` +
		`"prefixes":["192.0.2.1/24"],"up":true,"gateways":["192.0.2.254"],"silent":true}]}}`
	const later = `{"node":"node-1","epoch":7,"seq":8,"mood":"good","member":{"ready":true,"leaving":true,"age":3,"links":[{"name":"eth0","index":2,` +
		`"mac":"02:00:00:00:00:01","prefixes":["192.0.2.1/24"],"up":true,"gateways":["192.0.2.254"],"silent":true,"colour":"red"}]}}`
	want := state{Node: "node-1", Epoch: 7, Seq: 8, Member: cluster.Member{Ready: true, Leaving: true, Links: []cluster.Link{{
		Name: "eth0", Index: 2, MAC: cluster.MAC{2, 0, 0, 0, 0, 1}, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, Up: true,
		Gateways: []netip.Addr{netip.MustParseAddr("192.0.2.254")}, Silent: true}}}}
	compare := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	for _, text := range []string{first, later} {
		got, err := decode(packed(t, text))
		if diff := cmp.Diff(want, got, compare, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
			t.Errorf("%s is read as (+), %v: %s", text, err, diff)
		}
	}
	data, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(flate.NewReader(bytes.NewReader(data[1:])))
	if err != nil || data[0] != 1 {
		t.Fatalf("version %d, %v", data[0], err)
	}
	var now, before any
	if err := json.Unmarshal(text, &now); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(first), &before); err != nil {
		t.Fatal(err)
	}
	if !has(now, before) {
		t.Errorf("what is said now,\n%s, lacks something of what was said before,\n%s", text, first)
	}
	if epoch, ok := epochOf([]byte{1, 0, 0, 0, 0, 0, 0, 0, 7}); !ok || epoch != 7 {
		t.Errorf("the epoch of a member is read as %d, %v", epoch, ok)
	}
	if !bytes.Equal(epochMeta(7), []byte{1, 0, 0, 0, 0, 0, 0, 0, 7}) {
		t.Errorf("the epoch goes out as %v", epochMeta(7))
	}
}

// packed is a state as it is gossiped.
func packed(t *testing.T, text string) []byte {
	t.Helper()
	buf := bytes.NewBuffer([]byte{1})
	w, err := flate.NewWriter(buf, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// has reports whether all of one JSON value is in another, which may have more fields.
func has(all, part any) bool {
	switch part := part.(type) {
	case map[string]any:
		fields, is := all.(map[string]any)
		for name, value := range part {
			if !is || !has(fields[name], value) {
				return false
			}
		}
		return true
	case []any:
		items, is := all.([]any)
		if !is || len(items) != len(part) {
			return false
		}
		for i := range part {
			if !has(items[i], part[i]) {
				return false
			}
		}
		return true
	}
	return all == part
}
