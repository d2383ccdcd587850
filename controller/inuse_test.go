package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

const stranger = "02:00:00:00:00:99"

// records is what a source has.
func records[T any](values ...T) []*kube.Record[T] {
	var out []*kube.Record[T]
	for _, v := range values {
		out = append(out, &kube.Record[T]{Value: v})
	}
	return out
}

func inConflict(address string, announced bool) kube.Said {
	return kube.Said{Node: "n", Conflicts: []v1beta1.AddressConflict{{Address: address, Station: stranger, Announced: announced}}}
}

func TestWhatOthersHaveIsRememberedForAWhile(t *testing.T) {
	c, now := conflicts{}, time.Unix(1000, 0)
	if !c.learn(records(inConflict("192.0.2.1", false)), now) || c.learn(records(inConflict("192.0.2.1", false)), now) {
		t.Error("it is new once")
	}
	if got := c.unusable(ips("192.0.2.1", "192.0.2.2")); !slices.Equal(got, []string{"192.0.2.1 (station " + stranger + ")"}) {
		t.Errorf("unusable: %v", got)
	}
	condition, is := c.condition(ips("192.0.2.1"))
	if !is || condition.Type != v1beta1.ConditionAddressConflict || !strings.Contains(condition.Message, stranger) {
		t.Errorf("condition %+v", condition)
	}
	if !c.learn(records(inConflict("192.0.2.1", true)), now) || len(c.unusable(ips("192.0.2.1"))) != 0 {
		t.Error("it is announced now, and that is new")
	}
	if !c.learn(nil, now) || c.learn(nil, now) || len(c) != 1 {
		t.Errorf("no speaker says so any more: %v", c)
	}
	if _, is := c.condition(ips("192.0.2.1")); is {
		t.Error("there is a condition though nobody says so any more")
	}
	c.learn(nil, now.Add(caution-1))
	if len(c) != 1 {
		t.Error("forgotten too early")
	}
	c.learn(nil, now.Add(caution))
	if len(c) != 0 {
		t.Error("not forgotten")
	}
}

func TestWhatSomethingElseHas(t *testing.T) {
	pool := func(detection v1beta1.ConflictDetection) config.Config {
		p := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
		p.Spec.Addresses, p.Spec.ConflictDetection = []v1beta1.AddressRange{"192.0.2.0/24"}, detection
		c, _ := config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{p}})
		return c
	}
	node := cluster.Node{Name: "n", Addrs: ips("192.0.2.10", "10.0.0.1")}
	said := kube.Said{Node: "n", Links: ips("192.0.2.11"), Gateways: ips("192.0.2.12"), Conflicts: inConflict("192.0.2.13", false).Conflicts}
	for _, c := range []struct {
		detection v1beta1.ConflictDetection
		want      string
	}{
		{v1beta1.ConflictDetectionWarn, "192.0.2.10 192.0.2.11 192.0.2.12 192.0.2.13"},
		{v1beta1.ConflictDetectionEnforce, "192.0.2.10 192.0.2.11 192.0.2.12 192.0.2.13!"},
		{v1beta1.ConflictDetectionOff, "192.0.2.10 192.0.2.11 192.0.2.12"},
	} {
		s := &syncer{config: pool(c.detection), conflicts: conflicts{}}
		s.conflicts.learn(records(said), time.Unix(1000, 0))
		all, again := elsewhere(s.config, records(node), records(said), s.conflicts, time.Unix(1000, 0))
		var got []string
		for _, u := range all {
			text := u.Addr.String()
			if u.Unusable {
				text += "!"
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != c.want || again != 0 {
			t.Errorf("%s: %v, again after %v", c.detection, all, again)
		}
		s.inUse = all
		hints := s.inUseHints("p")
		if len(hints) != len(all) || !strings.Contains(hints[0], "192.0.2.10 is in use by node n") {
			t.Errorf("hints %v", hints)
		}
	}
}

// TestAnAddressThatCannotBeAnnounced is not waited for.
func TestAnAddressThatCannotBeAnnounced(t *testing.T) {
	d := newDesk(func(v *kube.Service) {
		v.Held, v.Ingress, v.HeldFrom = ips("192.0.2.1"), ips("192.0.2.1"), []string{"p"}
	})
	d.conflicts = conflicts{netip.MustParseAddr("192.0.2.1"): {station: stranger}}
	world := d.world()
	want, _, _ := d.desired(d.record, world.outcome(0), d.owned, d.now)
	byType := map[string]metav1.Condition{}
	for _, c := range want.Conditions {
		byType[c.Type] = c
	}
	announced := byType[v1beta1.ConditionAnnounced]
	if announced.Status != metav1.ConditionFalse || announced.Reason != "AddressConflict" || !strings.Contains(announced.Message, stranger) {
		t.Errorf("announced: %+v", announced)
	}
	if byType[v1beta1.ConditionAddressConflict].Status != metav1.ConditionTrue {
		t.Errorf("conditions: %+v", want.Conditions)
	}
}
