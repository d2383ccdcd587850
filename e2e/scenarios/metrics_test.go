package scenarios

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// prometheus scrapes all of Bellwether's programs, as the labels of the PodMonitor have it.
func (s *ledgered) prometheus() (query func(path string, params url.Values, into any)) {
	s.Helper()
	var targets strings.Builder
	target := func(address, container, node, pod string) {
		fmt.Fprintf(&targets, "      - {targets: [%q], labels: {container: %s, node: %q, pod: %s}}\n", address, container, node, pod)
	}
	for _, n := range s.Lab.Nodes() {
		target(net.JoinHostPort(n.Addrs[0].String(), "7480"), "speaker", n.Name, "speaker-"+n.Name)
	}
	for i, name := range controllers() {
		target(fmt.Sprintf("127.0.0.1:%d", 7490+10*i), "controller", "", name)
	}
	dir := s.TempDir()
	config := filepath.Join(dir, "prometheus.yaml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n  - job_name: bellwether\n    static_configs:\n%s",
		filepath.Join(s.Repo, "config", "monitoring", "rules.yaml"), &targets)
	s.act(os.WriteFile(config, []byte(text), 0o644))
	p, err := s.Lab.Start(lab.Control, lab.ProcSpec{Name: "prometheus", Args: []string{"prometheus", "--config.file", config,
		"--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", "127.0.0.1:9090"}})
	s.act(err)
	s.Cleanup(func() { s.act(p.Kill()) })
	client := s.Lab.HTTPClient(lab.Control, 5*time.Second)
	return func(path string, params url.Values, into any) {
		s.Helper()
		s.eventually(patience, "Prometheus answers", func() bool {
			resp, err := client.Get("http://127.0.0.1:9090/api/v1/" + path + "?" + params.Encode())
			if err != nil {
				return false
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode == http.StatusServiceUnavailable {
				return false
			}
			if resp.StatusCode != http.StatusOK {
				s.Fatalf("Prometheus answers %s to %s: %s", resp.Status, params, body)
			}
			var answer struct{ Data json.RawMessage }
			s.act(json.Unmarshal(body, &answer))
			s.act(json.Unmarshal(answer.Data, into))
			return true
		})
	}
}

// TestPrometheusReadsWhatTheDashboardShows with Services on both protocols and a router: every query of the dashboard has an answer, and no
// alert fires.
func TestPrometheusReadsWhatTheDashboardShows(t *testing.T) {
	s := onSegment(t)
	s.calm()
	node := s.Lab.Nodes()[0]
	s.frrOn(fmt.Sprintf("neighbor %s", node.Addrs[0]), "")
	s.only(fmt.Sprintf("peerAddress: %s", s.Lab.Addrs(lab.Router)[0]))
	s.poolOf("lan", `advertise: [L2, BGP], addresses: ["198.18.0.200-198.18.0.220"]`)
	s.becomes(s.create("web"), 1, "Allocated")
	s.eventually(patience, "the session is up, and BFD", func() bool { return s.sessionOf("state") == "Established" && s.sessionOf("bfd") == "Up" })
	query := s.prometheus()
	var up struct {
		ActiveTargets []struct{ Health, LastError string }
	}
	s.eventually(patience, "all programs are scraped", func() bool {
		query("targets", nil, &up)
		for _, target := range up.ActiveTargets {
			if target.Health != "up" {
				return false
			}
		}
		return len(up.ActiveTargets) == len(s.Lab.Nodes())+len(controllers())
	})
	text, err := os.ReadFile(filepath.Join(s.Repo, "config", "monitoring", "dashboard.json"))
	s.act(err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	s.act(json.Unmarshal(text, &dashboard))
	type vector struct{ Result []struct{ Value [2]any } }
	asked := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			asked++
			s.eventually(patience, fmt.Sprintf("%s is answered: %s", panel.Title, target.Expr), func() bool {
				var v vector
				query("query", url.Values{"query": {target.Expr}}, &v)
				return len(v.Result) > 0
			})
		}
	}
	if asked < 20 {
		t.Errorf("the dashboard asks %d queries", asked)
	}
	for expr, want := range map[string]string{
		"sum(bellwether_speaker_announced_addresses)":                                "1",
		`bellwether_bgp_announced_prefixes{node="node-1"}`:                           "1",
		"sum(bellwether_controller_leading)":                                         "1",
		`clamp_max(sum(bellwether_speaker_owner_changes_total{change="gained"}), 1)`: "1",
		"max(bellwether_allocator_addresses_in_use_total)":                           "1",
		`min(bellwether_speaker_members)`:                                            fmt.Sprint(len(s.Lab.Nodes())),
		`bellwether_allocator_addresses_total{family="ipv4"}>0`:                      "21",
	} {
		s.eventually(patience, expr+" is "+want, func() bool {
			var v vector
			query("query", url.Values{"query": {expr}}, &v)
			return len(v.Result) == 1 && v.Result[0].Value[1] == want
		})
	}
	var names []string
	query("label/__name__/values", nil, &names)
	s.documented(names)
	var firing struct{ Alerts []struct{ State string } }
	query("alerts", nil, &firing)
	for _, alert := range firing.Alerts {
		if alert.State == "firing" {
			t.Errorf("an alert fires though all is well: %+v", firing.Alerts)
		}
	}
	s.stayed()
}

// documented holds the names of metrics against docs/metrics.md.
func (s *ledgered) documented(names []string) {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.Repo, "docs", "metrics.md"))
	s.act(err)
	said := map[string]bool{}
	for _, name := range regexp.MustCompile("`(bellwether_[a-z0-9_]+)`").FindAllStringSubmatch(string(text), -1) {
		said[name[1]] = false
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "bellwether_") {
			continue
		}
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, part)
		}
		if _, is := said[name]; !is {
			s.Errorf("docs/metrics.md does not have %s", name)
		}
		said[name] = true
	}
	for name, is := range said {
		if !is {
			s.Errorf("docs/metrics.md has %s, and nobody serves it", name)
		}
	}
}
