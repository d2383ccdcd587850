package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/pkg/allocator"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// keeping is a replica that sees pool "p" of 192.0.2.0/29 keep addresses for ten minutes.
type keeping struct {
	*testing.T
	*retention
	config config.Config
	pool   v1beta1.IPAddressPool
	now    time.Time
}

func newKeeping(t *testing.T) *keeping {
	k := &keeping{T: t, retention: newRetention(), now: time.Unix(1_000_000, 0)}
	k.pool = v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	k.pool.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.0/29"}
	k.retainFor("10m")
	return k
}

func (k *keeping) retainFor(text string) {
	k.pool.Spec.RetainFor = text
	var problems []config.Problem
	if k.config, problems = config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{k.pool}}); len(problems) > 0 {
		k.Fatal(problems)
	}
}

// see looks at the Services that there are, by name, with their addresses; "web again" is web with another UID.
func (k *keeping) see(services map[string][]string) {
	var records []*serviceRecord
	for name, addrs := range services {
		r := &serviceRecord{ObjectMeta: metav1.ObjectMeta{UID: "u-1"}}
		if name == "web again" {
			name, r.UID = "web", "u-2"
		}
		r.Value = kube.Service{Wanted: true}
		r.Value.Key, r.Value.Held = cluster.Key{Namespace: "ns", Name: name}, ips(addrs...)
		records = append(records, r)
	}
	k.watch(k.config, records, k.now)
}

func (k *keeping) wants(what string, want ...string) {
	k.Helper()
	var got []string
	for _, entry := range k.status(k.config.Pools[0]) {
		got = append(got, entry.Address+" for "+entry.Service.Name+" in "+entry.Until.Sub(k.now).String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		k.Errorf("%s: %s", what, diff)
	}
}

func TestTheAddressOfAServiceThatGoesIsKeptForItsName(t *testing.T) {
	k := newKeeping(t)
	k.see(map[string][]string{"web": {"192.0.2.1"}, "other": {"192.0.2.2"}})
	k.wants("nobody has gone")
	k.see(map[string][]string{"other": {"192.0.2.2"}})
	k.wants("web has gone", "192.0.2.1 for web in 10m0s")
	k.now = k.now.Add(4 * time.Minute)
	k.see(map[string][]string{"other": {"192.0.2.2"}, "web again": nil})
	k.wants("web is back, and waits", "192.0.2.1 for web in 6m0s")
	if list, next := k.list(k.now); len(list) != 1 || next != 6*time.Minute {
		t.Errorf("keeps %v, looks again in %v", list, next)
	}
	k.see(map[string][]string{"web again": {"192.0.2.1"}, "other": {"192.0.2.2"}})
	k.wants("web has its address again")
}

func TestWhatIsKeptIsKeptForSoLongOnly(t *testing.T) {
	k := newKeeping(t)
	k.see(map[string][]string{"web": {"192.0.2.1"}})
	k.see(nil)
	k.now = k.now.Add(10*time.Minute - time.Second)
	k.see(nil)
	k.wants("a second before", "192.0.2.1 for web in 1s")
	k.now = k.now.Add(time.Second)
	k.see(nil)
	k.wants("then")
}

func TestARecreatedServiceLeftItsAddressToItself(t *testing.T) {
	k := newKeeping(t)
	k.see(map[string][]string{"web": {"192.0.2.1"}})
	k.see(map[string][]string{"web again": {"192.0.2.3"}})
	k.wants("deleted and made anew between two looks, with another address", "192.0.2.1 for web in 10m0s")
	k.retainFor("")
	k.see(map[string][]string{"web again": {"192.0.2.3"}})
	k.wants("the pool keeps nothing any more")
}

func TestAPoolThatKeepsNothingKeepsNothing(t *testing.T) {
	k := newKeeping(t)
	k.retainFor("")
	if k.needed(k.config) {
		t.Error("looks at Services for nothing")
	}
	k.see(map[string][]string{"web": {"192.0.2.1"}})
	k.see(nil)
	k.wants("web has gone")
}

func TestANewLeaderKnowsWhatTheLastOneWroteDown(t *testing.T) {
	first := newKeeping(t)
	first.see(map[string][]string{"web": {"192.0.2.1"}, "other": {"192.0.2.2"}})
	first.see(nil)
	written := first.pool
	written.Status.Retained = first.status(first.config.Pools[0])

	second := newKeeping(t)
	second.now = first.now.Add(time.Minute)
	second.learn([]v1beta1.IPAddressPool{written})
	second.see(nil)
	second.wants("the next leader", "192.0.2.1 for web in 9m0s", "192.0.2.2 for other in 9m0s")
	list, _ := second.list(second.now)
	if !slices.Contains(list, allocator.Retention{Addr: ips("192.0.2.1")[0], Service: cluster.Key{Namespace: "ns", Name: "web"}}) {
		t.Errorf("keeps %v", list)
	}
}
