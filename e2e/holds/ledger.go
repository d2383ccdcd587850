package holds

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Account is the story of one Service. One that is deleted and made anew under the same name is another.
type Account struct {
	Key types.NamespacedName
	UID types.UID
	// Now is the newest version that was seen: of a Service that is gone, the last.
	Now  *corev1.Service
	Gone bool
	// Writes counts the versions after the first.
	Writes int
	// Changes are the versions in which its addresses differ from those before, in order.
	Changes []Change
}

// Change is a version of a Service in which its addresses differ from those before.
type Change struct {
	Version       string
	Before, After []netip.Addr
}

// Addrs are the addresses that the Service has, or had when it went.
func (a Account) Addrs() []netip.Addr { return addresses(a.Now) }

// Lost are the addresses that were taken from the Service while it lived.
func (a Account) Lost() []netip.Addr {
	var lost []netip.Addr
	for _, c := range a.Changes {
		for _, b := range c.Before {
			if !slices.Contains(c.After, b) {
				lost = append(lost, b)
			}
		}
	}
	return lost
}

// Ledger adds up the changes of all Services. Any goroutine may read it while another feeds it.
type Ledger struct {
	across func(netip.Addr) bool

	mu       sync.Mutex
	accounts map[types.UID]*Account
	holders  map[netip.Addr][]*Account
	doubles  []string
	seen     int
}

// NewLedger returns an empty ledger. across says whether the pool of an address lets one sharing key be used from several
// namespaces; nil stands for pools that never do.
func NewLedger(across func(netip.Addr) bool) *Ledger {
	if across == nil {
		across = func(netip.Addr) bool { return false }
	}
	return &Ledger{across: across, accounts: map[types.UID]*Account{}, holders: map[netip.Addr][]*Account{}}
}

// See takes in one change. What is not a Service that was added, modified or deleted is an error.
func (l *Ledger) See(e watch.Event) error {
	service, is := e.Object.(*corev1.Service)
	if !is {
		return fmt.Errorf("the stream of Services has a %s of %T: %+v", e.Type, e.Object, e.Object)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen++
	switch e.Type {
	case watch.Added, watch.Modified:
		l.change(service)
	case watch.Deleted:
		if a := l.accounts[service.UID]; a != nil {
			a.Gone = true
			l.leave(a, a.Addrs())
		}
	case watch.Bookmark, watch.Error:
		return fmt.Errorf("the stream of Services has a %s", e.Type)
	}
	return nil
}

// change takes in a version of a Service, and holds the addresses that it gains against all that hold them. A Service whose user
// edits it so that it can share no longer breaks no law: somebody has to give way, which Standing waits for.
func (l *Ledger) change(service *corev1.Service) {
	a := l.accounts[service.UID]
	if a == nil {
		a = &Account{Key: types.NamespacedName{Namespace: service.Namespace, Name: service.Name}, UID: service.UID}
		l.accounts[service.UID] = a
	} else {
		if a.Now.ResourceVersion == service.ResourceVersion {
			return
		}
		a.Writes++
	}
	before, after := addresses(a.Now), addresses(service)
	a.Now = service
	if !slices.Equal(before, after) {
		a.Changes = append(a.Changes, Change{service.ResourceVersion, before, after})
		l.leave(a, before)
		for _, addr := range after {
			l.holders[addr] = append(l.holders[addr], a)
		}
	}
	for _, addr := range after {
		if !slices.Contains(before, addr) {
			l.doubles = append(l.doubles, l.clashes(a, addr)...)
		}
	}
}

// clashes are those who hold an address with a Service, and may not, one sentence each.
func (l *Ledger) clashes(a *Account, addr netip.Addr) []string {
	var clashes []string
	for _, other := range l.holders[addr] {
		if other == a {
			continue
		}
		if why := mayNotShare(a.Now, other.Now, l.across(addr)); why != "" {
			clashes = append(clashes, fmt.Sprintf("version %s: %s and %s both hold %s, but %s",
				a.Now.ResourceVersion, a.Key, other.Key, addr, why))
		}
	}
	return clashes
}

// Standing are those who hold an address together now, and may not, one sentence each.
func (l *Ledger) Standing() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var standing []string
	for addr, holders := range l.holders {
		for _, a := range holders {
			standing = append(standing, l.clashes(a, addr)...)
		}
	}
	return standing
}

func (l *Ledger) leave(a *Account, addrs []netip.Addr) {
	for _, addr := range addrs {
		l.holders[addr] = slices.DeleteFunc(l.holders[addr], func(h *Account) bool { return h == a })
	}
}

// Doubles are the breaches of the law so far, one sentence each.
func (l *Ledger) Doubles() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.doubles)
}

// Moved are the changes that took an address from a living Service, one sentence each.
func (l *Ledger) Moved() []string {
	var moved []string
	for _, a := range l.Accounts() {
		for _, c := range a.Changes {
			if slices.ContainsFunc(c.Before, func(b netip.Addr) bool { return !slices.Contains(c.After, b) }) {
				moved = append(moved, fmt.Sprintf("version %s: %s had %v and has %v", c.Version, a.Key, c.Before, c.After))
			}
		}
	}
	return moved
}

// Seen counts the changes of all Services.
func (l *Ledger) Seen() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// Accounts are copies of all accounts, also of Services that are gone, by name.
func (l *Ledger) Accounts() []Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Account, 0, len(l.accounts))
	for _, a := range l.accounts {
		all = append(all, a.copy())
	}
	slices.SortFunc(all, func(a, b Account) int {
		return cmp.Or(cmp.Compare(a.Key.String(), b.Key.String()), cmp.Compare(a.UID, b.UID))
	})
	return all
}

// Account returns a copy of one account.
func (l *Ledger) Account(uid types.UID) (Account, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[uid]; a != nil {
		return a.copy(), true
	}
	return Account{}, false
}

func (a *Account) copy() Account {
	c := *a
	c.Changes = slices.Clone(a.Changes)
	return c
}

// agrees reports whether the ledger has all these Services in these versions, and no others.
func (l *Ledger) agrees(services []corev1.Service) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	living := 0
	for _, a := range l.accounts {
		if !a.Gone {
			living++
		}
	}
	for i := range services {
		a := l.accounts[services[i].UID]
		if a == nil || a.Gone || a.Now.ResourceVersion != services[i].ResourceVersion {
			return false
		}
	}
	return living == len(services)
}

// addresses reads a Service's addresses. An entry that is none is not held from anybody.
func addresses(s *corev1.Service) []netip.Addr {
	if s == nil {
		return nil
	}
	var addrs []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

// SharingKey is the annotation of Services that let others use their address.
const SharingKey = "bellwether.dev/allow-shared-ip"

// MayShare reports whether two Services may hold one address together. across says whether its pool lets one sharing key be
// used from several namespaces.
func MayShare(a, b *corev1.Service, across bool) bool { return mayNotShare(a, b, across) == "" }

// mayNotShare says what keeps two Services from holding one address together; "" where nothing does.
func mayNotShare(a, b *corev1.Service, across bool) string {
	key, local := a.Annotations[SharingKey], a.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	switch {
	case key == "" || key != b.Annotations[SharingKey]:
		return fmt.Sprintf("their sharing keys are %q and %q", key, b.Annotations[SharingKey])
	case a.Namespace != b.Namespace && (!across || local):
		return "they are of two namespaces"
	case a.Spec.ExternalTrafficPolicy != b.Spec.ExternalTrafficPolicy:
		return "one is Local and one is Cluster"
	case local && !maps.Equal(a.Spec.Selector, b.Spec.Selector):
		return "they are Local and select different pods"
	}
	var both []string
	for _, p := range a.Spec.Ports {
		if slices.ContainsFunc(b.Spec.Ports, func(q corev1.ServicePort) bool { return p.Port == q.Port && p.Protocol == q.Protocol }) {
			both = append(both, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	if len(both) > 0 {
		return "both have port " + strings.Join(both, " and ")
	}
	return ""
}
