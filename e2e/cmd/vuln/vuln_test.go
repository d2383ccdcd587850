package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheIndexNamesEveryModuleOnce(t *testing.T) {
	osv, db := t.TempDir(), t.TempDir()
	text := `{"id":"GO-1","modified":"2026-01-02T03:04:05Z","aliases":["CVE-1"],"affected":[{"package":{"name":"a"}},{"package":{"name":"a"}},{"package":{"name":"b"}}]}`
	if err := os.WriteFile(filepath.Join(osv, "GO-1.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := index(osv, db); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(db, "index", "modules.json"))
	if err != nil {
		t.Fatal(err)
	}
	var modules []module
	if err := json.Unmarshal(raw, &modules); err != nil {
		t.Fatal(err)
	}
	for _, m := range modules {
		if len(m.Vulns) != 1 || m.Vulns[0].ID != "GO-1" || m.Path != "a" && m.Path != "b" {
			t.Errorf("%+v", m)
		}
	}
	if copied, err := os.ReadFile(filepath.Join(db, "ID", "GO-1.json")); err != nil || string(copied) != text || len(modules) != 2 {
		t.Errorf("%d modules, and %q, %v", len(modules), copied, err)
	}
	if err := index(t.TempDir(), t.TempDir()); err == nil {
		t.Error("a database of nothing is taken for one")
	}
}

const said = `{"config":{"scanner_name":"govulncheck"}} {"progress":{"message":"Scanning"}}
{"osv":{"id":"GO-1","summary":"it breaks"}} {"osv":{"id":"GO-2","summary":"another"}}
{"finding":{"osv":"GO-2","trace":[{"module":"m","version":"v1.0.0"}]}}
{"finding":{"osv":"GO-2","trace":[{"module":"m","version":"v1.0.0","package":"m/p"}]}}
{"finding":{"osv":"GO-1","fixed_version":"v1.2.4","trace":[{"module":"m","version":"v1.2.3","package":"m/p","function":"F"}]}}`

func TestOnlyWhatIsCalledIsFound(t *testing.T) {
	found, err := called(strings.NewReader(said))
	if err != nil || len(found) != 1 || found["GO-1"] != (finding{"it breaks", "m", "v1.2.3", "v1.2.4"}) {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := called(strings.NewReader("")); err == nil {
		t.Error("silence is taken for nothing found")
	}
}

func TestWhatIsFoundIsAcceptedOrAnError(t *testing.T) {
	found := map[string]finding{"GO-1": {"it breaks", "m", "v1.2.3", "v1.2.4"}}
	for _, c := range []struct {
		name     string
		found    map[string]finding
		accepted map[string]string
		err, out string
	}{
		{"nothing", nil, nil, "", ""},
		{"one", found, nil, "1 known vulnerabilities can be called", "GO-1 in m v1.2.3: it breaks: raise it to v1.2.4"},
		{"an accepted one", found, map[string]string{"GO-1": "never reached"}, "", "never reached"},
		{"an accepted one that is gone", nil, map[string]string{"GO-1": "never reached"}, "GO-1 is accepted and was not found", ""},
		{"one without a remedy", map[string]finding{"GO-1": {"it breaks", "m", "v1.2.3", ""}}, nil, "1 known", "there is no version without it"},
	} {
		var out strings.Builder
		err := judge(&out, c.found, c.accepted)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !strings.Contains(out.String(), c.out) {
			t.Errorf("%s: %v, %q", c.name, err, out.String())
		}
	}
}
