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
	d := &desk{syncer: &syncer{log: slog.New(slog.DiscardHandler)}, owned: map[netip.Addr]struct{}{}, now: time.Unix(1000, 0)}
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
	w := &snapshot{Config: d.config}
	if v := d.record.Value; v.Wanted && (len(v.Held) > 0 || len(v.Ingress) == 0 && !v.Hostname || d.adopts(v)) {
		service := v.Service
		if len(service.Held) == 0 {
			service.Held = v.Ingress
		}
		w.Services = append(w.Services, service)
	}
	w.Assignments = allocator.Assign(d.config, w.Services)
	return w
}

func (d *desk) ask() (kube.ServiceStatus, bool, time.Duration) {
	return d.desired(d.record, d.world(), d.owned, d.now)
}

// write makes what is wanted what stands in the Service, as the API server does.
func (d *desk) write(want kube.ServiceStatus) {
	v := &d.record.Value
	v.Held, v.Ingress, v.HeldFrom = want.Addrs, want.Addrs, slices.Repeat([]string{want.AllocatedFrom}, len(want.Addrs))
	if want.AllocatedFrom == "" {
		v.HeldFrom = nil
	}
	for _, c := range want.Conditions {
		v.Conditions = slices.DeleteFunc(slices.Clone(v.Conditions), func(o metav1.Condition) bool { return o.Type == c.Type })
		v.Conditions = append(v.Conditions, c)
	}
	v.Conditions = slices.DeleteFunc(slices.Clone(v.Conditions), func(o metav1.Condition) bool { return slices.Contains(want.Remove, o.Type) })
	v.Marked, v.Hostname = len(v.Conditions) > 0 || want.AllocatedFrom != "", false
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
		if !slices.Equal(want.Addrs, addrs) || want.AllocatedFrom != from {
			t.Errorf("%s: gives %v from %q, want %v from %q", what, want.Addrs, want.AllocatedFrom, addrs, from)
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
	if !differs || !slices.Equal(want.Addrs, ips("192.0.2.3")) || want.AllocatedFrom != "p" {
		t.Errorf("writes %t %+v, want its own address and the mark", differs, want)
	}
}

func TestAServiceThatIsNoLongerOursIsReleasedOnce(t *testing.T) {
	d := newDesk(holds("p", "192.0.2.1"), func(v *kube.Service) {
		v.Wanted = false
		v.Ingress = ips("203.0.113.1") // the next controller was quick
		v.Conditions = []metav1.Condition{{Type: kube.ConditionAllocated}, {Type: kube.ConditionAnnounced}}
	})
	want, differs, _ := d.ask()
	if !differs || !slices.Equal(want.Addrs, ips("203.0.113.1")) || want.AllocatedFrom != "" || len(want.Conditions) > 0 || len(want.Remove) != 2 {
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
		v.Conditions = []metav1.Condition{{Type: kube.ConditionAnnounced, Status: metav1.ConditionTrue}}
	})
	want, differs, _ := d.ask()
	if got := summary(want); !differs || !slices.Equal(got, []string{"Allocated=False PoolNotFound"}) || !slices.Equal(want.Remove, []string{kube.ConditionAnnounced}) {
		t.Errorf("says %v, removes %v", got, want.Remove)
	}
}
