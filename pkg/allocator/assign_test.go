package allocator

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

type poolOption func(*v1beta1.IPAddressPool)

// pool makes an IPAddressPool of addresses that are written with spaces between.
func pool(name, addresses string, options ...poolOption) v1beta1.IPAddressPool {
	p := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1, 0))}}
	for a := range strings.FieldsSeq(addresses) {
		p.Spec.Addresses = append(p.Spec.Addresses, v1beta1.AddressRange(a))
	}
	for _, o := range options {
		o(&p)
	}
	return p
}

func manual(p *v1beta1.IPAddressPool)       { p.Spec.AutoAssign = new(false) }
func avoidsBuggy(p *v1beta1.IPAddressPool)  { p.Spec.AvoidBuggyIPs = true }
func sharesAcross(p *v1beta1.IPAddressPool) { p.Spec.Sharing = v1beta1.SharingAcrossNamespaces }
func deleted(p *v1beta1.IPAddressPool)      { p.DeletionTimestamp = new(metav1.Now()) }

func allocation(p *v1beta1.IPAddressPool) *v1beta1.ServiceAllocation {
	if p.Spec.ServiceAllocation == nil {
		p.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{}
	}
	return p.Spec.ServiceAllocation
}

func priority(n int32) poolOption {
	return func(p *v1beta1.IPAddressPool) { allocation(p).Priority = &n }
}

func onlyFor(namespace string) poolOption {
	return func(p *v1beta1.IPAddressPool) { allocation(p).Namespaces = []string{namespace} }
}

type option func(*cluster.Service)

// service makes an IPv4 Service in the namespace "ns" unless its name has one: "other/web".
func service(name string, options ...option) cluster.Service {
	namespace, short, found := strings.Cut(name, "/")
	if !found {
		namespace, short = "ns", name
	}
	s := cluster.Service{Key: cluster.Key{Namespace: namespace, Name: short}, Families: []cluster.Family{cluster.IPv4},
		Ports: []cluster.Port{{Protocol: "TCP", Number: 80}}}
	for _, o := range options {
		o(&s)
	}
	return s
}

func v6(s *cluster.Service)     { s.Families = []cluster.Family{cluster.IPv6} }
func dual(s *cluster.Service)   { s.Families = []cluster.Family{cluster.IPv4, cluster.IPv6} }
func both(s *cluster.Service)   { dual(s); s.AllFamilies = true }
func local(s *cluster.Service)  { s.TrafficPolicy = cluster.TrafficLocal }
func broken(s *cluster.Service) { s.RequestError = "load-balancer-ips: \"x\" is not an IP address" }

func port(n uint16) option {
	return func(s *cluster.Service) { s.Ports = []cluster.Port{{Protocol: "TCP", Number: n}} }
}
func udp(n uint16) option {
	return func(s *cluster.Service) { s.Ports = []cluster.Port{{Protocol: "UDP", Number: n}} }
}
func key(k string) option       { return func(s *cluster.Service) { s.SharingKey = k } }
func endpoints(l string) option { return func(s *cluster.Service) { s.Selector = l } }
func wantPool(p string) option  { return func(s *cluster.Service) { s.WantPool = p } }
func created(at int64) option   { return func(s *cluster.Service) { s.Created = at } }
func want(a ...string) option   { return func(s *cluster.Service) { s.WantAddrs = parseAll(a) } }
func held(from string, a ...string) option {
	return func(s *cluster.Service) {
		s.Held = parseAll(a)
		s.HeldFrom = slices.Repeat([]string{from}, len(a))
	}
}

// agreed makes a Service hold its addresses under the terms that it has at this point of its options.
func agreed(s *cluster.Service) { s.SharedAs = Terms(s) }
func mayGo(s *cluster.Service)  { s.OldMayGo = true }

func reserves(address string, services ...string) poolOption {
	return func(p *v1beta1.IPAddressPool) {
		for _, s := range services {
			namespace, name, _ := strings.Cut(s, "/")
			p.Spec.Reservations = append(p.Spec.Reservations,
				v1beta1.Reservation{Address: v1beta1.Address(address), Service: v1beta1.ServiceName{Namespace: namespace, Name: name}})
		}
	}
}

func allows(n int32) poolOption {
	return func(p *v1beta1.IPAddressPool) { p.Spec.MaxPerNamespace = &n }
}

func parseAll(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

// row is a sentence about what Services get: for each of them "addresses from pools: Reason", as render says it.
type row struct {
	says     string
	pools    []v1beta1.IPAddressPool
	services []cluster.Service
	want     []string
}

func render(o Outcome) string {
	var words []string
	for _, a := range o.Addrs {
		words = append(words, a.String())
	}
	if len(o.Pools) > 0 {
		words = append(words, "from", strings.Join(slices.Compact(slices.Clone(o.Pools)), "+"))
	}
	for _, a := range o.Old {
		words = append(words, "old", a.String())
	}
	if o.Reason != Allocated || len(o.Addrs) == 0 {
		words = append(words, string(o.Reason))
	}
	return strings.Join(words, " ")
}

func check(t *testing.T, rows []row, retained ...Retention) {
	t.Helper()
	checkWith(t, rows, retained, nil)
}

func checkWith(t *testing.T, rows []row, retained []Retention, inUse []InUse) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.says, func(t *testing.T) {
			c, _ := config.Parse(config.Objects{Pools: r.pools})
			got := byKey(Assign(c, r.services, retained, inUse))
			var rendered []string
			for _, s := range r.services {
				rendered = append(rendered, render(got[s.Key]))
			}
			if diff := cmp.Diff(r.want, rendered); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type (
	objects = []v1beta1.IPAddressPool
	these   = []cluster.Service
)

func TestWhichPoolAndAddress(t *testing.T) {
	check(t, []row{
		{"the lowest free address is given", objects{pool("p", "192.0.2.1-192.0.2.3")},
			these{service("a", held("p", "192.0.2.1")), service("b")}, []string{"192.0.2.1 from p", "192.0.2.2 from p"}},
		{"who waits longest is served first", objects{pool("p", "192.0.2.1")},
			these{service("a", created(2)), service("b", created(1))}, []string{"Exhausted", "192.0.2.1 from p"}},
		{"of two that wait as long the first by name", objects{pool("p", "192.0.2.1")},
			these{service("b"), service("a")}, []string{"Exhausted", "192.0.2.1 from p"}},
		{"open pools are tried by name", objects{pool("b", "192.0.2.1"), pool("a", "192.0.2.9")},
			these{service("s"), service("t")}, []string{"192.0.2.9 from a", "192.0.2.1 from b"}},
		{"a pool with a priority goes before one without", objects{pool("a", "192.0.2.1"), pool("b", "192.0.2.9", priority(50))},
			these{service("s")}, []string{"192.0.2.9 from b"}},
		{"the lower priority goes first", objects{pool("a", "192.0.2.1", priority(2)), pool("b", "192.0.2.9", priority(1))},
			these{service("s")}, []string{"192.0.2.9 from b"}},
		{"a pool for the namespace goes before an open one", objects{pool("a", "192.0.2.1"), pool("b", "192.0.2.9", onlyFor("ns"))},
			these{service("s")}, []string{"192.0.2.9 from b"}},
		{"a pool for another namespace gives nothing", objects{pool("b", "192.0.2.9", onlyFor("other"))},
			these{service("s")}, []string{"NoEligiblePool"}},
		{"a pool that is not for automatic assignment gives nothing", objects{pool("p", "192.0.2.1", manual)},
			these{service("s")}, []string{"NoEligiblePool"}},
		{"but gives to who asks for it", objects{pool("p", "192.0.2.1", manual)},
			these{service("s", wantPool("p"))}, []string{"192.0.2.1 from p"}},
		{"or for one of its addresses", objects{pool("p", "192.0.2.1-192.0.2.2", manual)},
			these{service("s", want("192.0.2.2"))}, []string{"192.0.2.2 from p"}},
		{"a pool that is being deleted gives nothing", objects{pool("p", "192.0.2.1", deleted)},
			these{service("s")}, []string{"NoEligiblePool"}},
		{".0 and .255 are skipped where the pool says so", objects{pool("p", "192.0.2.0 192.0.2.255 192.0.3.0-192.0.3.1", avoidsBuggy)},
			these{service("s"), service("t")}, []string{"192.0.3.1 from p", "Exhausted"}},
		{"unless asked for by name", objects{pool("p", "192.0.2.0/24", avoidsBuggy)},
			these{service("s", want("192.0.2.255"))}, []string{"192.0.2.255 from p"}},
		{"and who may share one that another asked for has to ask as well", objects{pool("p", "192.0.2.0/24", avoidsBuggy)},
			these{service("a", want("192.0.2.0"), key("k")), service("b", port(81), key("k")), service("c", port(82), key("k"), want("192.0.2.0"))},
			[]string{"192.0.2.0 from p", "192.0.2.1 from p", "192.0.2.0 from p"}},
		{"an IPv6 address may end in anything", objects{pool("p", "2001:db8::/120", avoidsBuggy)},
			these{service("s", v6)}, []string{"2001:db8:: from p"}},
		{"there is no pool", nil, these{service("s")}, []string{"NoPool"}},
		{"there is no pool of that family", objects{pool("p", "192.0.2.1")}, these{service("s", v6)}, []string{"NoEligiblePool"}},
		{"excluded addresses are never given", objects{pool("p", "192.0.2.0/30", func(p *v1beta1.IPAddressPool) {
			p.Spec.ExcludedAddresses = []v1beta1.AddressRange{"192.0.2.0-192.0.2.2"}
		})}, these{service("s"), service("t")}, []string{"192.0.2.3 from p", "Exhausted"}},
	})
}

func TestWhatIsAskedFor(t *testing.T) {
	check(t, []row{
		{"an address that is free", objects{pool("p", "192.0.2.0/29")}, these{service("s", want("192.0.2.5"))}, []string{"192.0.2.5 from p"}},
		{"an address that another holds", objects{pool("p", "192.0.2.0/29")},
			these{service("s", want("192.0.2.5")), service("t", held("p", "192.0.2.5"))}, []string{"ShareConflict", "192.0.2.5 from p"}},
		{"an address that no pool has", objects{pool("p", "192.0.2.0/29")}, these{service("s", want("198.51.100.1"))}, []string{"AddressNotInPool"}},
		{"an address of another pool than the one asked for", objects{pool("p", "192.0.2.0/29"), pool("q", "198.51.100.1")},
			these{service("s", want("198.51.100.1"), wantPool("p"))}, []string{"AddressNotInPool"}},
		{"an address of a pool for others", objects{pool("p", "192.0.2.0/29", onlyFor("other"))}, these{service("s", want("192.0.2.5"))}, []string{"PoolNotAllowed"}},
		{"an address of a pool that is going", objects{pool("p", "192.0.2.0/29", deleted)}, these{service("s", want("192.0.2.5"))}, []string{"PoolNotAllowed"}},
		{"an address of a family that the Service does not have", objects{pool("p", "192.0.2.0/29 2001:db8::1")},
			these{service("s", want("2001:db8::1"))}, []string{"FamilyMismatch"}},
		{"a pool that does not exist", objects{pool("p", "192.0.2.1")}, these{service("s", wantPool("x"))}, []string{"PoolNotFound"}},
		{"a pool for others", objects{pool("p", "192.0.2.1", onlyFor("other"))}, these{service("s", wantPool("p"))}, []string{"PoolNotAllowed"}},
		{"a pool that is full, though another is not", objects{pool("p", "192.0.2.1"), pool("q", "198.51.100.1")},
			these{service("s", held("p", "192.0.2.1")), service("t", wantPool("p"))}, []string{"192.0.2.1 from p", "Exhausted"}},
		{"a pool without that family", objects{pool("p", "192.0.2.1"), pool("q", "2001:db8::1")},
			these{service("s", v6, wantPool("p"))}, []string{"NoEligiblePool"}},
		{"what cannot be understood", objects{pool("p", "192.0.2.1")}, these{service("s", broken)}, []string{"InvalidRequest"}},
		{"what cannot be understood takes nothing away", objects{pool("p", "192.0.2.1")},
			these{service("s", broken, held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p InvalidRequest"}},
		{"another address than the one held: a move, and both are held", objects{pool("p", "192.0.2.0/29")},
			these{service("s", held("p", "192.0.2.1"), want("192.0.2.5"))}, []string{"192.0.2.5 192.0.2.1 from p old 192.0.2.1"}},
		{"another pool than the one held from: a move, and both are held", objects{pool("p", "192.0.2.1"), pool("q", "198.51.100.1")},
			these{service("s", held("p", "192.0.2.1"), wantPool("q"))}, []string{"198.51.100.1 192.0.2.1 from q+p old 192.0.2.1"}},
		{"a move that cannot be made takes nothing away", objects{pool("p", "192.0.2.0/29")},
			these{service("s", held("p", "192.0.2.1"), want("192.0.2.5")), service("t", held("p", "192.0.2.5"))},
			[]string{"192.0.2.1 from p ShareConflict", "192.0.2.5 from p"}},
	})
}

func TestMoves(t *testing.T) {
	p := objects{pool("p", "192.0.2.1-192.0.2.6 2001:db8::1-2001:db8::2")}
	renumber := func(p *v1beta1.IPAddressPool) { p.Spec.OnChange = v1beta1.OnChangeRenumber }
	unreadable := func(p *v1beta1.IPAddressPool) { p.Spec.Addresses = append(p.Spec.Addresses, "x") }
	check(t, []row{
		{"the old address is held until it may go", p, these{service("s", held("p", "192.0.2.5", "192.0.2.1"), want("192.0.2.5"))},
			[]string{"192.0.2.5 192.0.2.1 from p old 192.0.2.1"}},
		{"then it goes", p, these{service("s", held("p", "192.0.2.5", "192.0.2.1"), want("192.0.2.5"), mayGo)}, []string{"192.0.2.5 from p"}},
		{"which is the new one is seen from what is asked for, not from the order", p,
			these{service("s", held("p", "192.0.2.1", "192.0.2.5"), want("192.0.2.5"), mayGo)}, []string{"192.0.2.5 from p"}},
		{"who asks for the old one back has it back", p, these{service("s", held("p", "192.0.2.5", "192.0.2.1"), want("192.0.2.1"))},
			[]string{"192.0.2.1 192.0.2.5 from p old 192.0.2.5"}},
		{"who asks for a third one holds three", p, these{service("s", held("p", "192.0.2.5", "192.0.2.1"), want("192.0.2.6"))},
			[]string{"192.0.2.6 192.0.2.5 192.0.2.1 from p old 192.0.2.5 old 192.0.2.1"}},
		{"who waits for the old one has to wait", p, these{service("s", held("p", "192.0.2.5", "192.0.2.1"), want("192.0.2.5")), service("t", want("192.0.2.1"))},
			[]string{"192.0.2.5 192.0.2.1 from p old 192.0.2.1", "ShareConflict"}},
		{"and gets it when it goes", p, these{service("s", held("p", "192.0.2.5", "192.0.2.1"), want("192.0.2.5"), mayGo), service("t", want("192.0.2.1"))},
			[]string{"192.0.2.5 from p", "192.0.2.1 from p"}},
		{"the other family stays where it is", p, these{service("s", both, held("p", "192.0.2.1", "2001:db8::2"), want("192.0.2.5"))},
			[]string{"192.0.2.5 192.0.2.1 2001:db8::2 from p old 192.0.2.1"}},
		{"a pool that renumbers moves who holds what it covers no longer", objects{pool("p", "192.0.2.5", renumber)},
			these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.5 192.0.2.1 from p old 192.0.2.1"}},
		{"to another pool if need be", objects{pool("p", "2001:db8::1", renumber), pool("q", "198.51.100.1")},
			these{service("s", held("p", "192.0.2.1"))}, []string{"198.51.100.1 192.0.2.1 from q+p old 192.0.2.1"}},
		{"and nobody while no address is free", objects{pool("p", "192.0.2.5", renumber)},
			these{service("s", held("p", "192.0.2.1")), service("t", held("p", "192.0.2.5"))}, []string{"192.0.2.1 from p Exhausted", "192.0.2.5 from p"}},
		{"nor who holds what another pool covers now", objects{pool("p", "192.0.2.5", renumber), pool("q", "192.0.2.1")},
			these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from q"}},
		{"nor while its object cannot be understood", objects{pool("p", "192.0.2.5", renumber, unreadable)},
			these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p OutOfPool"}},
		{"nor while it is on its way out", objects{pool("p", "192.0.2.5", renumber, deleted), pool("q", "198.51.100.1")},
			these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p OutOfPool"}},
		{"a pool that keeps does not move who asked for it by name either", objects{pool("p", "192.0.2.5")},
			these{service("s", wantPool("p"), held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p OutOfPool"}},
		{"not even where another pool covers the address now", objects{pool("p", "192.0.2.5"), pool("q", "192.0.2.1")},
			these{service("s", wantPool("p"), held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p OutOfPool"}},
		{"but one that renumbers does", objects{pool("p", "192.0.2.5", renumber)},
			these{service("s", wantPool("p"), held("p", "192.0.2.1"))}, []string{"192.0.2.5 192.0.2.1 from p old 192.0.2.1"}},
		{"a pool that keeps moves nobody", objects{pool("p", "192.0.2.5")}, these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p OutOfPool"}},
	})
}

func TestReservations(t *testing.T) {
	p := objects{pool("p", "192.0.2.1-192.0.2.3", reserves("192.0.2.1", "ns/a"))}
	manualOne := objects{pool("p", "192.0.2.1", manual, onlyFor("other"), reserves("192.0.2.1", "ns/a")), pool("q", "198.51.100.1")}
	check(t, []row{
		{"the Service that has one gets it", p, these{service("b"), service("a")}, []string{"192.0.2.2 from p", "192.0.2.1 from p"}},
		{"nobody else does", objects{pool("p", "192.0.2.1", reserves("192.0.2.1", "ns/a"))}, these{service("b")}, []string{"Exhausted"}},
		{"not even who asks for it", p, these{service("b", want("192.0.2.1"))}, []string{"AddressReserved"}},
		{"nor who could share it", p, these{service("a", key("k")), service("b", key("k"), port(443))}, []string{"192.0.2.1 from p", "192.0.2.2 from p"}},
		{"unless it is reserved for both", objects{pool("p", "192.0.2.1-192.0.2.3", reserves("192.0.2.1", "ns/a", "ns/b"))},
			these{service("a", key("k")), service("b", key("k"), port(443))}, []string{"192.0.2.1 from p", "192.0.2.1 from p"}},
		{"whatever serviceAllocation and autoAssign say", manualOne, these{service("a")}, []string{"192.0.2.1 from p"}},
		{"but only that address", manualOne, these{service("a", want("192.0.2.1")), service("b")}, []string{"192.0.2.1 from p", "198.51.100.1 from q"}},
		{"who asks for another address gets that", p, these{service("a", want("192.0.2.3"))}, []string{"192.0.2.3 from p"}},
		{"who asks for another pool gets that", manualOne, these{service("a", wantPool("q"))}, []string{"198.51.100.1 from q"}},
		{"who held it before keeps it", p, these{service("b", held("p", "192.0.2.1")), service("a")}, []string{"192.0.2.1 from p", "192.0.2.2 from p"}},
		{"it moves nobody who holds something else", p, these{service("a", held("p", "192.0.2.2"))}, []string{"192.0.2.2 from p"}},
		{"the other family comes from the same pool", objects{pool("a", "192.0.2.8 2001:db8:a::1"), pool("b", "192.0.2.1 2001:db8:b::1", reserves("2001:db8:b::1", "ns/a"))},
			these{service("a", both)}, []string{"192.0.2.1 2001:db8:b::1 from b"}},
		{"one that the pool does not have reserves nothing", objects{pool("p", "192.0.2.1"), pool("q", "198.51.100.1", reserves("192.0.2.1", "ns/a"))},
			these{service("b")}, []string{"192.0.2.1 from p"}},
	})
}

func TestRetention(t *testing.T) {
	p := objects{pool("p", "192.0.2.1-192.0.2.2")}
	kept := Retention{netip.MustParseAddr("192.0.2.1"), cluster.Key{Namespace: "ns", Name: "a"}}
	check(t, []row{
		{"what is kept for a name is given to it", p, these{service("b"), service("a")}, []string{"192.0.2.2 from p", "192.0.2.1 from p"}},
		{"and to nobody else", p, these{service("b"), service("c")}, []string{"192.0.2.2 from p", "Exhausted"}},
		{"not even to who asks for it", p, these{service("b", want("192.0.2.1"))}, []string{"AddressReserved"}},
		{"who comes back and asks for another address gets that", p, these{service("a", want("192.0.2.2"))}, []string{"192.0.2.2 from p"}},
		{"a pool that admits the Service no longer does not give it", objects{pool("p", "192.0.2.1", onlyFor("other"))}, these{service("a")}, []string{"NoEligiblePool"}},
		{"nor one that must be asked", objects{pool("p", "192.0.2.1", manual)}, these{service("a")}, []string{"NoEligiblePool"}},
		{"but when it is asked, it does", objects{pool("p", "192.0.2.0-192.0.2.2", manual)}, these{service("a", wantPool("p"))}, []string{"192.0.2.1 from p"}},
		{"an address that no pool has any more is kept for nobody", objects{pool("q", "198.51.100.1")}, these{service("a")}, []string{"198.51.100.1 from q"}},
	}, kept)
}

func TestInUse(t *testing.T) {
	p := objects{pool("p", "192.0.2.1-192.0.2.3")}
	router := []InUse{{Addr: netip.MustParseAddr("192.0.2.1"), By: "the gateway"}}
	checkWith(t, []row{
		{"what something else has is given to nobody", p, these{service("a"), service("b"), service("c")},
			[]string{"192.0.2.2 from p", "192.0.2.3 from p", "Exhausted"}},
		{"not to who asks for it", p, these{service("a", want("192.0.2.1"))}, []string{"AddressInUse"}},
		{"nor to whom it is reserved for", objects{pool("p", "192.0.2.1-192.0.2.3", reserves("192.0.2.1", "ns/a"))}, these{service("a")},
			[]string{"192.0.2.2 from p"}},
		{"nor to who would share it", p, these{service("a", key("k"), held("p", "192.0.2.1"), agreed), service("b", key("k"), port(443))},
			[]string{"192.0.2.1 from p", "192.0.2.2 from p"}},
		{"who holds it keeps it", p, these{service("a", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p"}},
	}, nil, router)
	checkWith(t, []row{
		{"who cannot use what it holds moves to another", p, these{service("a", held("p", "192.0.2.1"))}, []string{"192.0.2.2 192.0.2.1 from p old 192.0.2.1"}},
		{"but not if it asked for it", p, these{service("a", held("p", "192.0.2.1"), want("192.0.2.1"))}, []string{"192.0.2.1 from p"}},
		{"and not if there is no other", objects{pool("p", "192.0.2.1")}, these{service("a", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p Exhausted"}},
	}, nil, []InUse{{Addr: router[0].Addr, By: "another machine", Unusable: true}})
}

func TestQuotas(t *testing.T) {
	one := pool("p", "192.0.2.1-192.0.2.5 2001:db8::1-2001:db8::5", allows(1))
	check(t, []row{
		{"a namespace gets as many as it may", objects{one}, these{service("a"), service("b"), service("other/a")},
			[]string{"192.0.2.1 from p", "QuotaExceeded", "192.0.2.2 from p"}},
		{"of each family", objects{one}, these{service("a"), service("b", v6), service("c", v6)},
			[]string{"192.0.2.1 from p", "2001:db8::1 from p", "QuotaExceeded"}},
		{"and then from the next pool", objects{one, pool("q", "198.51.100.1")}, these{service("a"), service("b")}, []string{"192.0.2.1 from p", "198.51.100.1 from q"}},
		{"an address that is shared counts once", objects{one}, these{service("a", key("k")), service("b", key("k"), port(443))},
			[]string{"192.0.2.1 from p", "192.0.2.1 from p"}},
		{"it holds for who asks for an address too", objects{one}, these{service("a"), service("b", want("192.0.2.5"))}, []string{"192.0.2.1 from p", "QuotaExceeded"}},
		{"and for what is reserved", objects{pool("p", "192.0.2.1-192.0.2.5", allows(1), reserves("192.0.2.5", "ns/b"))},
			these{service("a"), service("b")}, []string{"192.0.2.1 from p", "QuotaExceeded"}},
		{"what is held is kept, however many they are", objects{one}, these{service("a", held("p", "192.0.2.1")), service("b", held("p", "192.0.2.2"))},
			[]string{"192.0.2.1 from p", "192.0.2.2 from p"}},
		{"who moves takes its own place", objects{one}, these{service("a", held("p", "192.0.2.1"), want("192.0.2.5"))},
			[]string{"192.0.2.5 192.0.2.1 from p old 192.0.2.1"}},
		{"unless another of the namespace stays there", objects{one},
			these{service("a", key("k"), held("p", "192.0.2.1"), want("192.0.2.5")), service("b", key("k"), port(443), held("p", "192.0.2.1"))},
			[]string{"192.0.2.1 from p QuotaExceeded", "192.0.2.1 from p"}},
	})
}

func TestWhatIsHeldIsKept(t *testing.T) {
	check(t, []row{
		{"though a pool of higher priority has come", objects{pool("p", "192.0.2.1"), pool("q", "198.51.100.1", priority(1))},
			these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p"}},
		{"though its pool has gone", objects{pool("q", "198.51.100.1")},
			these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p OutOfPool"}},
		{"though its pool has shrunk", objects{pool("p", "192.0.2.2")},
			these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p OutOfPool"}},
		{"though its pool is for others now", objects{pool("p", "192.0.2.1", onlyFor("other"))},
			these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p OutOfPool"}},
		{"though its pool is on its way out", objects{pool("p", "192.0.2.1", deleted)},
			these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p"}},
		{"though every pool has gone", nil, these{service("s", held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p OutOfPool"}},
		{"unless the Service gave up the family", objects{pool("p", "192.0.2.1 2001:db8::1")},
			these{service("s", v6, held("p", "192.0.2.1"))}, []string{"2001:db8::1 from p"}},
		{"by the elder, where two hold one by mistake", objects{pool("p", "192.0.2.1-192.0.2.2")},
			these{service("a", created(2), held("p", "192.0.2.1")), service("b", created(1), held("p", "192.0.2.1"))},
			[]string{"192.0.2.2 from p", "192.0.2.1 from p"}},
	})
}

func TestDualStack(t *testing.T) {
	one := objects{pool("p", "192.0.2.1 2001:db8::1")}
	two := objects{pool("p4", "192.0.2.1"), pool("p6", "2001:db8::1")}
	check(t, []row{
		{"both from one pool", one, these{service("s", both)}, []string{"192.0.2.1 2001:db8::1 from p"}},
		{"one from each of two", two, these{service("s", both)}, []string{"192.0.2.1 2001:db8::1 from p4+p6"}},
		{"one pool is better than two, though it is later by name", objects{pool("a", "192.0.2.9"), pool("z", "192.0.2.1 2001:db8::1")},
			these{service("s", both)}, []string{"192.0.2.1 2001:db8::1 from z"}},
		{"require: both or nothing", objects{pool("p", "192.0.2.1")}, these{service("s", both)}, []string{"NoEligiblePool"}},
		{"require: nothing is taken while the other family is full", one,
			these{service("a", v6, held("p", "2001:db8::1")), service("s", both), service("t")}, []string{"2001:db8::1 from p", "Exhausted", "192.0.2.1 from p"}},
		{"require: what is held is kept though the other is not to be had", objects{pool("p", "192.0.2.1")},
			these{service("s", both, held("p", "192.0.2.1"))}, []string{"192.0.2.1 from p NoEligiblePool"}},
		{"prefer: one is better than nothing", objects{pool("p", "192.0.2.1")}, these{service("s", dual)}, []string{"192.0.2.1 from p NoEligiblePool"}},
		{"prefer: the second is gained when it can be had", one, these{service("s", dual, held("p", "192.0.2.1"))}, []string{"192.0.2.1 2001:db8::1 from p"}},
		{"one address asked for, the other found", one, these{service("s", both, want("2001:db8::1"))}, []string{"192.0.2.1 2001:db8::1 from p"}},
		{"both asked for", two, these{service("s", both, want("2001:db8::1", "192.0.2.1"))}, []string{"192.0.2.1 2001:db8::1 from p4+p6"}},
		{"IPv4 comes first whatever the Service says", one,
			these{service("s", func(s *cluster.Service) { s.Families = []cluster.Family{cluster.IPv6, cluster.IPv4} })}, []string{"192.0.2.1 2001:db8::1 from p"}},
	})
}

func TestSharing(t *testing.T) {
	p := objects{pool("p", "192.0.2.1-192.0.2.2")}
	across := objects{pool("p", "192.0.2.1-192.0.2.2", sharesAcross)}
	together, apart := []string{"192.0.2.1 from p", "192.0.2.1 from p"}, []string{"192.0.2.1 from p", "192.0.2.2 from p"}
	check(t, []row{
		{"one key, other ports", p, these{service("a", key("k")), service("b", key("k"), port(443))}, together},
		{"one key, one port, other protocols", p, these{service("a", key("k"), port(53)), service("b", key("k"), udp(53))}, together},
		{"one key, one port", p, these{service("a", key("k")), service("b", key("k"))}, apart},
		{"other keys", p, these{service("a", key("k")), service("b", key("l"), port(443))}, apart},
		{"no key", p, these{service("a"), service("b", port(443))}, apart},
		{"other namespaces", p, these{service("x/a", key("k")), service("y/b", key("k"), port(443))}, apart},
		{"other namespaces where the pool allows it", across, these{service("x/a", key("k")), service("y/b", key("k"), port(443))}, together},
		{"Cluster and Local", p, these{service("a", key("k")), service("b", key("k"), port(443), local)}, apart},
		{"Local with the same endpoints", p,
			these{service("a", key("k"), local, endpoints("app=x")), service("b", key("k"), port(443), local, endpoints("app=x"))}, together},
		{"Local with other endpoints", p,
			these{service("a", key("k"), local, endpoints("app=x")), service("b", key("k"), port(443), local, endpoints("app=y"))}, apart},
		{"Local in other namespaces", across,
			these{service("x/a", key("k"), local, endpoints("app=x")), service("y/b", key("k"), port(443), local, endpoints("app=x"))}, apart},
		{"a third must agree with both", p, these{service("a", key("k")), service("b", key("k"), port(443)), service("c", key("k"), port(443))},
			[]string{"192.0.2.1 from p", "192.0.2.1 from p", "192.0.2.2 from p"}},
		{"an address to share comes before a free one", objects{pool("a", "192.0.2.9"), pool("p", "192.0.2.1")},
			these{service("a", key("k"), held("p", "192.0.2.1")), service("b", key("k"), port(443))}, together},
		{"an address asked for, that can be shared", p, these{service("a", key("k")), service("b", key("k"), port(443), want("192.0.2.1"))}, together},
		{"who changes its key moves out", p,
			these{service("a", key("k"), agreed, held("p", "192.0.2.1")), service("b", key("k"), port(443), held("p", "192.0.2.1"), agreed, key("l"))}, apart},
		{"also if it is the elder", p,
			these{service("a", key("k"), held("p", "192.0.2.1"), agreed, key("l")), service("b", created(5), key("k"), port(443), agreed, held("p", "192.0.2.1"))},
			[]string{"192.0.2.2 from p", "192.0.2.1 from p"}},
		{"who changes its externalTrafficPolicy moves out", p,
			these{service("a", key("k"), held("p", "192.0.2.1"), agreed, local), service("b", key("k"), port(443), agreed, held("p", "192.0.2.1"))},
			[]string{"192.0.2.2 from p", "192.0.2.1 from p"}},
		{"or waits, if it asks for that address", p,
			these{service("a", key("k"), want("192.0.2.1"), held("p", "192.0.2.1"), agreed, local), service("b", key("k"), port(443), agreed, held("p", "192.0.2.1"))},
			[]string{"ShareConflict", "192.0.2.1 from p"}},
		{"and comes back when it changes back", p,
			these{service("a", key("k"), want("192.0.2.1")), service("b", key("k"), port(443), agreed, held("p", "192.0.2.1"))}, together},
		{"who takes another's port moves out", p,
			these{service("a", key("k"), held("p", "192.0.2.1"), agreed, port(443)), service("b", key("k"), port(443), agreed, held("p", "192.0.2.1"))},
			[]string{"192.0.2.2 from p", "192.0.2.1 from p"}},
		{"of two that changed the younger moves out", p,
			these{service("a", key("k"), held("p", "192.0.2.1")), service("b", key("l"), port(443), held("p", "192.0.2.1"))}, apart},
		{"who shares across namespaces goes on when the pool lets nobody else", p,
			these{service("x/a", key("k"), held("p", "192.0.2.1"), agreed), service("y/b", key("k"), port(443), held("p", "192.0.2.1"), agreed), service("z/c", key("k"), port(90))},
			[]string{"192.0.2.1 from p", "192.0.2.1 from p", "192.0.2.2 from p"}},
	})
}

func TestUsage(t *testing.T) {
	c, _ := config.Parse(config.Objects{Pools: objects{
		pool("p", "192.0.2.0/30 2001:db8::/64"), pool("half", "2001:db8:1::/65"), pool("q", "198.51.100.1")}})
	got := Assign(c, these{
		service("a", key("k")), service("b", key("k"), port(443)), service("c", dual), service("d", held("q", "203.0.113.1")),
	}, nil, nil).Pools
	want := map[string]PoolUsage{
		"p":    {V4: Usage{4, 2, 2}, V6: Usage{math.MaxInt64, 1, math.MaxInt64 - 1}, Services: 3},
		"half": {V6: Usage{math.MaxInt64, 0, math.MaxInt64}},
		// d holds what q gave before it shrank: it still uses q, and none of its addresses
		"q": {V4: Usage{1, 0, 1}, Services: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
