package main

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
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

func ips(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

// desk is a syncer with a pool "p" of 192.0.2.0/29 that is announced, a pool "quiet" of 198.51.100.0/29 that is not, and one
// Service. Time is what the test says.
type desk struct {
	*syncer
	record *serviceRecord
	owned  map[netip.Addr]struct{}
	now    time.Time
}

func newDesk(change ...func(*kube.Service)) *desk {
	d := &desk{syncer: &syncer{log: slog.New(slog.DiscardHandler), retention: newRetention(), settled: settled{}, renumberWindow: time.Minute}, owned: map[netip.Addr]struct{}{}, now: time.Unix(1000, 0)}
	loud := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	loud.Spec.Addresses, loud.Spec.Advertise = []v1beta1.AddressRange{"192.0.2.0/29"}, []v1beta1.Protocol{v1beta1.ProtocolL2}
	quiet := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "quiet"}}
	quiet.Spec.Addresses, quiet.Spec.AutoAssign = []v1beta1.AddressRange{"198.51.100.0/29"}, new(false)
	d.config, d.problems = config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{loud, quiet}})
	d.record = &serviceRecord{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u1", ResourceVersion: "10"}}
	v := &d.record.Value
	v.Key, v.Wanted, v.Families = cluster.Key{Namespace: "ns", Name: "web"}, true, []cluster.Family{cluster.IPv4}
	for _, c := range change {
		c(v)
	}
	return d
}

// world is a snapshot of the one Service, assigned.
func (d *desk) world() *snapshot {
	w := &snapshot{Config: d.config, records: []*serviceRecord{d.record}, at: []int{-1}}
	if v := &d.record.Value; d.serves(v) {
		service := v.Service
		if len(service.Held) == 0 {
			service.Held = v.Ingress
		}
		service.OldMayGo = d.windowOver(v, d.owned, d.now)
		w.at[0], w.Services = 0, append(w.Services, service)
	}
	w.Assignments = allocator.Assign(d.config, w.Services, nil, nil)
	return w
}

func (d *desk) ask() (kube.ServiceStatus, bool, time.Duration) {
	return d.desired(d.record, d.world().outcome(0), d.owned, d.now)
}

// write makes what is wanted what stands in the Service, as the API server does.
func (d *desk) write(want kube.ServiceStatus) {
	v := &d.record.Value
	v.Held, v.Ingress, v.HeldFrom, v.SharedAs = want.Addrs, want.Addrs, want.Pools, want.SharedAs
	for _, c := range want.Conditions {
		v.Conditions = slices.DeleteFunc(slices.Clone(v.Conditions), func(o metav1.Condition) bool { return o.Type == c.Type })
		v.Conditions = append(v.Conditions, c)
	}
	v.Conditions = slices.DeleteFunc(slices.Clone(v.Conditions), func(o metav1.Condition) bool { return slices.Contains(want.Remove, o.Type) })
	v.Marked, v.Hostname = len(v.Conditions) > 0 || len(want.Pools) > 0, false
}

func summary(s kube.ServiceStatus) []string {
	var out []string
	for _, c := range s.Conditions {
		out = append(out, strings.TrimPrefix(c.Type, "bellwether.dev/")+"="+string(c.Status)+" "+c.Reason)
	}
	return out
}

func holds(from string, addrs ...string) func(*kube.Service) {
	return func(v *kube.Service) {
		v.Held, v.Ingress, v.Marked = ips(addrs...), ips(addrs...), true
		v.HeldFrom = slices.Repeat([]string{from}, len(addrs))
	}
}

func TestAServiceIsWrittenOncePerChange(t *testing.T) {
	d := newDesk()
	step := func(what string, addrs []netip.Addr, from string, conditions ...string) {
		t.Helper()
		want, differs, _ := d.ask()
		if !differs {
			t.Fatalf("%s: nothing is written", what)
		}
		if !slices.Equal(want.Addrs, addrs) || kube.AllocatedFrom(want.Pools) != from {
			t.Errorf("%s: gives %v from %q, want %v from %q", what, want.Addrs, want.Pools, addrs, from)
		}
		if diff := cmp.Diff(conditions, summary(want)); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
		d.write(want)
		if again, differs, _ := d.ask(); differs {
			t.Errorf("%s: written, and still differs: %+v", what, again)
		}
	}
	one := ips("192.0.2.0")
	step("a new Service", one, "p", "Allocated=True Allocated")
	d.owned[one[0]] = struct{}{}
	step("a speaker answers", one, "p", "Allocated=True Allocated", "Announced=True Announced")

	delete(d.owned, one[0])
	if _, differs, again := d.ask(); differs || again != silence {
		t.Errorf("a failover writes %t, and is looked at again in %v", differs, again)
	}
	d.now = d.now.Add(silence - time.Second)
	if _, differs, again := d.ask(); differs || again != time.Second {
		t.Errorf("nearly too long a failover writes %t, and is looked at again in %v", differs, again)
	}
	d.now = d.now.Add(time.Second)
	step("nobody answers for too long", one, "p", "Allocated=True Allocated", "Announced=False NotAnnounced")
	d.owned[one[0]] = struct{}{}
	step("a speaker answers again", one, "p", "Allocated=True Allocated", "Announced=True Announced")

	d.config, _ = config.Parse(config.Objects{})
	step("the pool has gone", one, "p", "Allocated=True OutOfPool", "Announced=True Announced")
	d.record.Value.Families = []cluster.Family{cluster.IPv6}
	step("the Service wants what there is not", nil, "", "Allocated=False NoPool")
}

func TestAConditionKeepsItsTimeWhileItsStatusStays(t *testing.T) {
	d := newDesk()
	first, _, _ := d.ask()
	d.write(first)
	began := first.Conditions[0].LastTransitionTime
	d.now = d.now.Add(time.Hour)
	d.config, _ = config.Parse(config.Objects{})
	second, differs, _ := d.ask()
	if !differs || !second.Conditions[0].LastTransitionTime.Equal(&began) {
		t.Errorf("another reason, the same status: differs %t, since %v, want %v", differs, second.Conditions[0].LastTransitionTime, began)
	}
	d.write(second)
	d.record.Value.Families = []cluster.Family{cluster.IPv6}
	third, _, _ := d.ask()
	if got := third.Conditions[0].LastTransitionTime; !got.Time.Equal(d.now) {
		t.Errorf("another status: since %v, want %v", got, d.now)
	}
}

func TestAPoolThatNothingAnnouncesIsSaidAtOnce(t *testing.T) {
	d := newDesk(holds("quiet", "198.51.100.1"))
	want, _, again := d.ask()
	if got := summary(want); again != 0 || !slices.Contains(got, "Announced=False NoAdvertisement") {
		t.Errorf("says %v, looks again in %v", got, again)
	}
	if text := want.Conditions[1].Message; !strings.Contains(text, "no advertisement selects 198.51.100.1; set advertise: [L2]") {
		t.Errorf("says %q", text)
	}
}

func TestWhatIsNotOursIsNotTouched(t *testing.T) {
	for _, c := range []struct {
		says   string
		change func(*kube.Service)
	}{
		{"a Service of another type or class", func(v *kube.Service) { v.Wanted = false }},
		{"one with an address of another controller's", func(v *kube.Service) { v.Ingress = ips("203.0.113.1") }},
		{"one with a hostname of another controller's", func(v *kube.Service) { v.Hostname = true }},
		{"one with addresses of which only one is ours", func(v *kube.Service) { v.Ingress = ips("192.0.2.1", "203.0.113.1") }},
	} {
		t.Run(c.says, func(t *testing.T) {
			d := newDesk(c.change)
			if want, differs, _ := d.ask(); differs {
				t.Errorf("would write %+v", want)
			}
		})
	}
}

func TestAServiceThatLostItsMarkIsAdopted(t *testing.T) {
	d := newDesk(func(v *kube.Service) { v.Ingress = ips("192.0.2.3") })
	want, differs, _ := d.ask()
	if !differs || !slices.Equal(want.Addrs, ips("192.0.2.3")) || kube.AllocatedFrom(want.Pools) != "p" {
		t.Errorf("writes %t %+v, want its own address and the mark", differs, want)
	}
}

func TestAServiceThatIsNoLongerOursIsReleasedOnce(t *testing.T) {
	d := newDesk(holds("p", "192.0.2.1"), func(v *kube.Service) {
		v.Wanted = false
		v.Ingress = ips("203.0.113.1") // the next controller was quick
		v.Conditions = []metav1.Condition{{Type: v1beta1.ConditionAllocated}, {Type: v1beta1.ConditionAnnounced}}
	})
	want, differs, _ := d.ask()
	if !differs || !slices.Equal(want.Addrs, ips("203.0.113.1")) || len(want.Pools) > 0 || len(want.Conditions) > 0 || len(want.Remove) != 2 {
		t.Errorf("writes %t %+v, want what stands there, without our marks", differs, want)
	}
	d.write(want)
	if _, differs, _ := d.ask(); differs {
		t.Error("releases it again")
	}
}

func TestAPendingServiceSaysWhyAndNothingOfAnnouncing(t *testing.T) {
	d := newDesk(func(v *kube.Service) {
		v.WantPool = "x"
		v.Conditions = []metav1.Condition{{Type: v1beta1.ConditionAnnounced, Status: metav1.ConditionTrue}}
	})
	want, differs, _ := d.ask()
	if got := summary(want); !differs || !slices.Equal(got, []string{"Allocated=False PoolNotFound"}) || !slices.Equal(want.Remove, []string{v1beta1.ConditionAnnounced}) {
		t.Errorf("says %v, removes %v", got, want.Remove)
	}
}

func TestAMoveHoldsBothAddressesForAWindowAndUntilTheNewOneIsAnnounced(t *testing.T) {
	d := newDesk(holds("p", "192.0.2.1"))
	old, fresh := ips("192.0.2.1")[0], ips("192.0.2.5")[0]
	d.owned[old] = struct{}{}
	first, _, _ := d.ask()
	d.write(first)
	d.record.Value.WantAddrs = ips("192.0.2.5")

	moving, differs, again := d.ask()
	if !differs || !slices.Equal(moving.Addrs, []netip.Addr{fresh, old}) || again != silence ||
		!slices.Contains(summary(moving), "Renumbering=True MakeBeforeBreak") {
		t.Fatalf("asked to move it writes %t %v %v, and looks again in %v", differs, moving.Addrs, summary(moving), again)
	}
	if text := moving.Conditions[len(moving.Conditions)-1].Message; text != "moves to 192.0.2.5; 192.0.2.1 is held as well for 1m0s, and for as long as only the old one is announced" {
		t.Error(text)
	}
	d.write(moving)
	d.now = d.now.Add(d.renumberWindow)
	if want, _, _ := d.ask(); !slices.Equal(want.Addrs, []netip.Addr{fresh, old}) {
		t.Errorf("nobody announces the new address, and it has %v", want.Addrs)
	}
	d.owned[fresh] = struct{}{}
	done, differs, _ := d.ask()
	if !differs || !slices.Equal(done.Addrs, []netip.Addr{fresh}) || !slices.Contains(done.Remove, v1beta1.ConditionRenumbering) {
		t.Errorf("when the window is over it writes %t %v, and removes %v", differs, done.Addrs, done.Remove)
	}
	d.write(done)
	if want, differs, _ := d.ask(); differs {
		t.Errorf("and then writes again: %+v", want)
	}
}

// TestAMoveFromARoutedAddressWaitsForTheNewOne: routers know of the old address, and nobody of the new one.
func TestAMoveFromARoutedAddressWaitsForTheNewOne(t *testing.T) {
	d := newDesk(holds("bgp", "203.0.113.1"))
	bgp := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "bgp"}}
	bgp.Spec.Addresses, bgp.Spec.Advertise = []v1beta1.AddressRange{"203.0.113.0/29"}, []v1beta1.Protocol{v1beta1.ProtocolBGP}
	quiet := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "quiet"}}
	quiet.Spec.Addresses = []v1beta1.AddressRange{"198.51.100.0/29"}
	peer := v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: new(int64(65001)), PeerAddress: "10.0.0.1"}}
	d.config, d.problems = config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{bgp, quiet}, BGPPeers: []v1beta1.BGPPeer{peer}})
	d.routed = routed(d.config, []*kube.Record[cluster.Node]{{Value: cluster.Node{Name: "n"}}}, []*kube.Record[kube.Said]{{Value: kube.Said{Node: "n", Peers: []string{"r"}}}})
	first, _, _ := d.ask()
	d.write(first)
	d.record.Value.WantAddrs = ips("198.51.100.1")
	moving, _, _ := d.ask()
	d.write(moving)
	d.now = d.now.Add(d.renumberWindow)
	if want, _, _ := d.ask(); !slices.Equal(want.Addrs, ips("198.51.100.1", "203.0.113.1")) {
		t.Errorf("only the old address is announced, and it has %v", want.Addrs)
	}
}

// TestAddressesWithoutARecordOfTheirPoolsMayMove: somebody took the annotation away, or a write that takes addresses is under way.
func TestAddressesWithoutARecordOfTheirPoolsMayMove(t *testing.T) {
	for _, record := range [][]string{nil, {"p"}, {""}} {
		d := newDesk(holds("p", "192.0.2.5", "192.0.2.1"))
		d.record.Value.HeldFrom = record
		d.owned[ips("192.0.2.1")[0]] = struct{}{}
		if d.windowOver(&d.record.Value, d.owned, d.now) {
			t.Errorf("recorded are %q: the old address may go, and nobody announces the new one", record)
		}
		d.owned[ips("192.0.2.5")[0]] = struct{}{}
		if !d.windowOver(&d.record.Value, d.owned, d.now) {
			t.Errorf("recorded are %q: the old address may not go", record)
		}
	}
}

func TestAnotherMoveBeginsAnotherWindow(t *testing.T) {
	d := newDesk(holds("p", "192.0.2.1"), func(v *kube.Service) { v.WantAddrs = ips("192.0.2.5") })
	first, _, _ := d.ask()
	d.write(first)
	d.now = d.now.Add(d.renumberWindow / 2)
	d.record.Value.WantAddrs = ips("192.0.2.6")
	second, _, _ := d.ask()
	if !slices.Equal(second.Addrs, ips("192.0.2.6", "192.0.2.5", "192.0.2.1")) || d.windowLeft(second.Conditions, d.now) != d.renumberWindow {
		t.Errorf("has %v, and the old ones for %v", second.Addrs, d.windowLeft(second.Conditions, d.now))
	}
}

func TestWhoLeavesASharedAddressIsToldWhy(t *testing.T) {
	lost := []allocator.Loss{{Addr: ips("192.0.2.1")[0], Other: cluster.Key{Namespace: "ns", Name: "b"}, Attribute: allocator.AttrPolicy}}
	want := ": Service ns/b holds it, and the two cannot share it any more, since they differ in, or clash on, their externalTrafficPolicy"
	if got := lossText(lost, ips("192.0.2.1")[0]); got != want {
		t.Error(got)
	}
	if got := lossText(lost, ips("192.0.2.2")[0]); got != "" {
		t.Error(got)
	}
}
