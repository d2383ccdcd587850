package allocator

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// world is a random small cluster: few addresses and few keys, so that everything collides.
type world struct {
	rng      *rand.Rand
	objects  config.Objects
	services []cluster.Service
	retained []Retention
	inUse    []InUse
	next     int
	parsed   *config.Config
}

func (w *world) assign() map[cluster.Key]Outcome {
	return byKey(Assign(w.config(), w.services, w.retained, w.inUse))
}

func byKey(a Assignments) map[cluster.Key]Outcome {
	m := make(map[cluster.Key]Outcome, len(a.Services))
	for _, o := range a.Services {
		m[o.Service] = o
	}
	return m
}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 7))}
	for range 1 + w.rng.IntN(4) {
		w.addPool()
	}
	for range w.rng.IntN(14) {
		w.addService()
	}
	for range w.rng.IntN(3) {
		w.addInUse()
	}
	return w
}

// addInUse lets something else have an address, if nothing has yet.
func (w *world) addInUse() {
	u := InUse{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(w.rng.IntN(26))}), By: "another machine", Unusable: w.chance(50)}
	if w.chance(25) {
		u.Addr = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", w.rng.IntN(24)))
	}
	if !w.isInUse(u.Addr) {
		w.inUse = append(w.inUse, u)
	}
}

func (w *world) isInUse(a netip.Addr) bool {
	return slices.ContainsFunc(w.inUse, func(u InUse) bool { return u.Addr == a })
}

func (w *world) config() config.Config {
	if w.parsed == nil {
		c, _ := config.Parse(w.objects)
		w.parsed = &c
	}
	return *w.parsed
}

// setPools replaces the pools; nothing else changes them.
func (w *world) setPools(pools []v1beta1.IPAddressPool) { w.objects.Pools, w.parsed = pools, nil }

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func pick[T any](w *world, from ...T) T { return from[w.rng.IntN(len(from))] }

func (w *world) addPool() {
	w.next++
	pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{
		Name:              fmt.Sprintf("pool-%d", w.next),
		CreationTimestamp: metav1.NewTime(time.Unix(int64(w.rng.IntN(5)), 0)),
	}}
	base := w.rng.IntN(6) * 4
	if w.chance(85) {
		pool.Spec.Addresses = append(pool.Spec.Addresses, v1beta1.AddressRange(
			fmt.Sprintf("192.0.2.%d-192.0.2.%d", base, base+w.rng.IntN(6))))
	}
	if w.chance(50) || len(pool.Spec.Addresses) == 0 {
		pool.Spec.Addresses = append(pool.Spec.Addresses, v1beta1.AddressRange(
			fmt.Sprintf("2001:db8::%x-2001:db8::%x", base, base+w.rng.IntN(4))))
	}
	if w.chance(20) {
		pool.Spec.ExcludedAddresses = []v1beta1.AddressRange{v1beta1.AddressRange(fmt.Sprintf("192.0.2.%d", base+1))}
	}
	pool.Spec.AvoidBuggyIPs = w.chance(20)
	if w.chance(15) {
		no := false
		pool.Spec.AutoAssign = &no
	}
	if w.chance(30) {
		pool.Spec.Sharing = v1beta1.SharingAcrossNamespaces
	}
	if w.chance(40) {
		pool.Spec.ServiceAllocation = w.allocation()
	}
	if w.chance(20) {
		pool.Spec.MaxPerNamespace = new(int32(1 + w.rng.IntN(2)))
	}
	if w.chance(30) {
		pool.Spec.OnChange = v1beta1.OnChangeRenumber
	}
	for w.chance(40) {
		pool.Spec.Reservations = append(pool.Spec.Reservations, v1beta1.Reservation{
			Address: v1beta1.Address(w.someAddr(pick(w, cluster.IPv4, cluster.IPv6)).String()),
			Service: v1beta1.ServiceName(w.someName())})
	}
	w.setPools(append(slices.Clone(w.objects.Pools), pool))
}

// someName is the name of a Service that there is, or may come.
func (w *world) someName() cluster.Key {
	if s := w.someHolder(); s.Key.Name != "" && w.chance(60) {
		return s.Key
	}
	return cluster.Key{Namespace: pick(w, "a", "b", "c"), Name: fmt.Sprintf("s%d", w.next+1+w.rng.IntN(6))}
}

func (w *world) allocation() *v1beta1.ServiceAllocation {
	sa := &v1beta1.ServiceAllocation{}
	if w.chance(50) {
		p := int32(w.rng.IntN(3))
		sa.Priority = &p
	}
	if w.chance(40) {
		sa.Namespaces = []string{pick(w, "a", "b")}
	}
	if w.chance(30) {
		sa.NamespaceSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"team": pick(w, "a", "b")}}}
	}
	if w.chance(30) {
		sa.ServiceSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": pick(w, "1", "2")}}}
	}
	return sa
}

func (w *world) addService() cluster.Service {
	w.next++
	ns := pick(w, "a", "b", "c")
	s := cluster.Service{
		Key:             cluster.Key{Namespace: ns, Name: fmt.Sprintf("s%d", w.next)},
		UID:             fmt.Sprint(w.next),
		Created:         int64(w.rng.IntN(4)),
		Labels:          map[string]string{"tier": pick(w, "1", "2", "3")},
		NamespaceLabels: map[string]string{"team": ns},
		Selector:        pick(w, "app=x", "app=y"),
		Ports:           []cluster.Port{{Protocol: pick(w, "TCP", "UDP"), Number: uint16(80 + w.rng.IntN(4))}},
	}
	s.Families = pick(w, []cluster.Family{cluster.IPv4}, []cluster.Family{cluster.IPv6},
		[]cluster.Family{cluster.IPv4, cluster.IPv6}, []cluster.Family{cluster.IPv6, cluster.IPv4})
	s.AllFamilies = len(s.Families) == 2 && w.chance(50)
	w.request(&s)
	if w.chance(20) { // found with addresses, as after a restore or another allocator's work
		for _, f := range s.Families {
			s.Held = append(s.Held, w.someAddr(f))
			s.HeldFrom = append(s.HeldFrom, "pool-1")
		}
		if w.chance(30) {
			s.Held, s.HeldFrom = append(s.Held, w.someAddr(s.Families[0])), append(s.HeldFrom, "pool-2")
		}
		if w.chance(50) {
			s.SharedAs = Terms(&s)
		}
	}
	w.services = append(w.services, s)
	return s
}

// request changes what a Service asks for.
func (w *world) request(s *cluster.Service) {
	s.SharingKey, s.WantAddrs, s.WantPool, s.RequestError = "", nil, "", ""
	if w.chance(40) {
		s.SharingKey = pick(w, "k1", "k2")
	}
	if w.chance(30) {
		s.TrafficPolicy = cluster.TrafficLocal
	}
	if w.chance(20) {
		s.WantAddrs = []netip.Addr{w.someAddr(pick(w, s.Families...))}
	}
	if other := w.someHolder(); w.chance(30) && len(other.Held) > 0 { // what another has, and may be leaving
		s.WantAddrs = other.Held[:1:1]
	}
	if w.chance(15) && len(w.objects.Pools) > 0 {
		s.WantPool = pick(w, w.objects.Pools...).Name
	}
	if w.chance(3) {
		s.RequestError = "load-balancer-ips: \"x\" is not an address"
	}
}

func (w *world) someHolder() cluster.Service {
	if len(w.services) == 0 {
		return cluster.Service{}
	}
	return pick(w, w.services...)
}

func (w *world) someAddr(f cluster.Family) netip.Addr {
	if f == cluster.IPv4 {
		return netip.AddrFrom4([4]byte{192, 0, 2, byte(w.rng.IntN(28))})
	}
	a := netip.MustParseAddr("2001:db8::").As16()
	a[15] = byte(w.rng.IntN(28))
	return netip.AddrFrom16(a)
}

// apply gives every Service what it was assigned, as the controller does.
func (w *world) apply(a map[cluster.Key]Outcome) {
	w.services = applied(w.services, a)
}

func applied(services []cluster.Service, a map[cluster.Key]Outcome) []cluster.Service {
	out := slices.Clone(services)
	for i := range out {
		outcome := a[out[i].Key]
		out[i].Held, out[i].HeldFrom, out[i].SharedAs, out[i].OldMayGo = outcome.Addrs, outcome.Pools, outcome.SharedAs, false
	}
	return out
}

// edit changes the world the way operators do.
func (w *world) edit() {
	switch n := w.rng.IntN(13); {
	case n == 12:
		w.addInUse()
	case n == 11 && len(w.inUse) > 0:
		w.inUse = w.inUse[1:]
	case n < 3:
		w.addService()
	case n < 5 && len(w.services) > 0:
		i := w.rng.IntN(len(w.services))
		for _, a := range w.services[i].Held {
			if w.chance(50) {
				w.retained = append(w.retained, Retention{a, w.services[i].Key})
			}
		}
		w.services = slices.Delete(w.services, i, i+1)
	case n == 10 && len(w.services) > 0:
		w.services[w.rng.IntN(len(w.services))].OldMayGo = true
	case n < 8 && len(w.services) > 0:
		w.request(&w.services[w.rng.IntN(len(w.services))])
	case n < 9 && w.chance(50):
		w.addPool()
	case len(w.objects.Pools) > 0:
		w.damagePool()
	}
}

// damagePool makes a pool object worse: shrunk, excluded, restricted, unreadable, or gone.
func (w *world) damagePool() {
	w.setPools(slices.Clone(w.objects.Pools))
	i := w.rng.IntN(len(w.objects.Pools))
	pool := &w.objects.Pools[i]
	switch w.rng.IntN(8) {
	case 6:
		pool.Spec.MaxPerNamespace = new(int32(1))
	case 7:
		pool.Spec.Sharing = v1beta1.SharingSameNamespace
	case 0:
		pool.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.3"}
	case 1:
		pool.Spec.Addresses = append(slices.Clone(pool.Spec.Addresses), "not an address")
	case 2:
		pool.Spec.ExcludedAddresses = []v1beta1.AddressRange{"192.0.2.0/24", "2001:db8::/64"}
	case 3:
		pool.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{
			{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Bogus"}}}}}
	case 4:
		pool.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{Namespaces: []string{"nobody"}}
	default:
		w.setPools(slices.Delete(w.objects.Pools, i, i+1))
	}
}
