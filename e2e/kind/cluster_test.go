package kind

import (
	"io"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

func TestConfigurationOfEitherFamily(t *testing.T) {
	four := Range{Pods: netip.MustParsePrefix("198.19.0.0/17"), Services: netip.MustParsePrefix("198.19.128.0/20")}
	six := Range{Pods: netip.MustParsePrefix("fd00::/56"), Services: netip.MustParsePrefix("fd01::/112")}
	for _, c := range []struct {
		ranges                []Range
		family, pods, service string
	}{
		{[]Range{four}, "ipv4", "198.19.0.0/17", "198.19.128.0/20"},
		{[]Range{four, six}, "dual", "198.19.0.0/17,fd00::/56", "198.19.128.0/20,fd01::/112"},
	} {
		config, err := configure(Spec{Workers: 2, Ranges: c.ranges})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(config)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Networking struct{ IPFamily, PodSubnet, ServiceSubnet string }
			Nodes      []struct{ Role string }
		}
		if err := yaml.Unmarshal(text, &got); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if n := got.Networking; n.IPFamily != c.family || n.PodSubnet != c.pods || n.ServiceSubnet != c.service || len(got.Nodes) != 3 {
			t.Errorf("%d families: %+v", len(c.ranges), got)
		}
	}
}

func TestMachinesOfWhatDockerSays(t *testing.T) {
	got, err := parse([]byte(`[
{"Name": "/c-worker", "State": {"Pid": 0, "StartedAt": "2026-01-02T03:04:05Z"}, "Config": {"Labels": {"io.x-k8s.kind.role": "worker"}},
 "NetworkSettings": {"Networks": {"c": {"IPAddress": "", "GlobalIPv6Address": ""}}}},
{"Name": "/c-control-plane", "State": {"Pid": 7}, "Config": {"Labels": {"io.x-k8s.kind.role": "control-plane"}},
 "NetworkSettings": {"Networks": {"c": {"IPAddress": "198.18.0.16", "GlobalIPv6Address": "fd00::10"}}}}]`), "c")
	want := []Machine{
		{"c-control-plane", true, 7, time.Time{}, []netip.Addr{netip.MustParseAddr("198.18.0.16"), netip.MustParseAddr("fd00::10")}},
		{"c-worker", false, 0, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), nil},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := parse([]byte(`[{"NetworkSettings": {"Networks": {"c": {"IPAddress": "nonsense"}}}}]`), "c"); err == nil {
		t.Error("nonsense is an address")
	}
}
