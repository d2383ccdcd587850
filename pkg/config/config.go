package config

import (
	"encoding/json"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// Objects are the wire objects that a Config is made from.
type Objects struct {
	Pools            []v1beta1.IPAddressPool   `json:"pools,omitempty"`
	L2Advertisements []v1beta1.L2Advertisement `json:"l2Advertisements,omitempty"`

	BGPPeers          []v1beta1.BGPPeer          `json:"bgpPeers,omitempty"`
	BGPAdvertisements []v1beta1.BGPAdvertisement `json:"bgpAdvertisements,omitempty"`
	BFDProfiles       []v1beta1.BFDProfile       `json:"bfdProfiles,omitempty"`
	Communities       []v1beta1.Community        `json:"communities,omitempty"`
}

// Config is everything that the operator said, parsed. It is never changed after Parse; its JSON form is the Objects it
// was parsed from, so that a dumped one can be read back.
type Config struct {
	Pools []Pool             // by name
	L2    []L2Advertisement  // by name; the ones implied by Pool.Advertise are not among them
	Peers []BGPPeer          // the elder first
	BGP   []BGPAdvertisement // the elder first; the ones implied by Pool.Advertise are not among them

	source Objects
	spans  []Span
}

// Pool is a parsed IPAddressPool.
type Pool struct {
	Name   string
	Labels labels.Set
	// Covers is what the pool may give: its addresses less its exclusions, and less what an elder pool has already.
	Covers *netipx.IPSet
	// Inert pools give nothing new; what was given from them is kept. A pool that is being deleted, or whose spec
	// cannot be understood in full, is inert.
	Inert         bool
	AutoAssign    bool
	AvoidBuggyIPs bool
	AdvertiseL2   bool
	AdvertiseBGP  bool
	ShareAcross   bool // one sharing key may be used from several namespaces
	Allocation    Allocation
	// MaxPerNamespace bounds the addresses of each family that the Services of one namespace hold; 0 is no bound.
	MaxPerNamespace int
	Reservations    []Reservation // of addresses that the pool covers
	// RetainFor is how long an address is kept for the name of a Service that was deleted.
	RetainFor time.Duration
	// Detection says what to do about stations that have an address of the pool and should not.
	Detection cluster.Detection
	// Renumber moves Services off addresses that the pool gave and no longer covers.
	Renumber bool
}

// Reservation keeps an address for the Service of that name.
type Reservation struct {
	Addr    netip.Addr
	Service cluster.Key
}

// Allocation says who may have addresses of a pool.
type Allocation struct {
	// Restricted is true when the object names namespaces, namespace selectors or service selectors.
	Restricted         bool
	Priority           int64 // lower first; NoPriority where unset
	Namespaces         []string
	NamespaceSelectors []labels.Selector
	ServiceSelectors   []labels.Selector
}

// NoPriority sorts after every priority that can be set.
const NoPriority = int64(1) << 40

// L2Advertisement is a parsed L2Advertisement.
type L2Advertisement struct {
	Name string
	Selection
	Preferences []Preference
	Interfaces  []string // exact names or globs; empty: no restriction
}

// Preference prefers the nodes that it selects.
type Preference struct {
	Weight int // 1 to 100
	Nodes  labels.Selector
}

// PoolOf returns the pool that covers an address. Pools never overlap: the elder one covers.
func (c Config) PoolOf(a netip.Addr) (Pool, bool) {
	i := c.PoolIndex(a)
	if i < 0 {
		return Pool{}, false
	}
	return c.Pools[i], true
}

// Span is a run of addresses, both ends included, that one pool covers.
type Span struct {
	From, To netip.Addr
	Pool     int // position in Pools
}

// Spans returns which pool covers what: disjoint and ascending. It must not be changed.
func (c Config) Spans() []Span { return c.spans }

// PoolIndex returns the position in Pools of the pool that covers an address, or -1.
func (c Config) PoolIndex(a netip.Addr) int {
	if i := c.SpanIndex(a); i >= 0 {
		return c.spans[i].Pool
	}
	return -1
}

// SpanIndex returns the position in Spans of the one that holds an address, or -1.
func (c Config) SpanIndex(a netip.Addr) int {
	i := sort.Search(len(c.spans), func(i int) bool { return c.spans[i].To.Compare(a) >= 0 })
	if i < len(c.spans) && c.spans[i].From.Compare(a) <= 0 {
		return i
	}
	return -1
}

// Pool returns the pool of that name.
func (c Config) Pool(name string) (Pool, bool) {
	i := c.PoolNamed(name)
	if i < 0 {
		return Pool{}, false
	}
	return c.Pools[i], true
}

// PoolNamed returns the position in Pools of the pool of that name, or -1.
func (c Config) PoolNamed(name string) int {
	i, found := slices.BinarySearchFunc(c.Pools, name, func(p Pool, name string) int { return strings.Compare(p.Name, name) })
	if !found {
		return -1
	}
	return i
}

// Admits reports whether a Service may have addresses of this pool: the namespace half and the service half must both
// match, where they are set.
func (a *Allocation) Admits(s *cluster.Service) bool {
	if len(a.Namespaces)+len(a.NamespaceSelectors) > 0 &&
		!slices.Contains(a.Namespaces, s.Key.Namespace) &&
		!matchesAny(a.NamespaceSelectors, s.NamespaceLabels) {
		return false
	}
	return len(a.ServiceSelectors) == 0 || matchesAny(a.ServiceSelectors, s.Labels)
}

// Preference returns the sum of the weights by which a node with these labels is preferred.
func (a L2Advertisement) Preference(nodeLabels map[string]string) int {
	sum := 0
	for _, p := range a.Preferences {
		if p.Nodes.Matches(labels.Set(nodeLabels)) {
			sum += p.Weight
		}
	}
	return sum
}

func matchesAny(selectors []labels.Selector, set map[string]string) bool {
	for _, s := range selectors {
		if s.Matches(labels.Set(set)) {
			return true
		}
	}
	return false
}

// MarshalJSON writes the objects that the Config was parsed from.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.source) }

// UnmarshalJSON parses the objects anew. Problems are not an error: a dumped Config may well have had some.
func (c *Config) UnmarshalJSON(data []byte) error {
	var objects Objects
	if err := json.Unmarshal(data, &objects); err != nil {
		return err
	}
	*c, _ = Parse(objects)
	return nil
}

// Announces reports whether anything announces a pool, for some Service at least.
func (c Config) Announces(p Pool) bool {
	return p.AdvertiseL2 || p.AdvertiseBGP ||
		slices.ContainsFunc(c.L2, func(a L2Advertisement) bool { return a.SelectsPool(p) }) ||
		slices.ContainsFunc(c.BGP, func(a BGPAdvertisement) bool { return a.SelectsPool(p) })
}

// Advertised reports whether any advertisement announces a Service's addresses from a pool.
func (c Config) Advertised(p Pool, serviceLabels map[string]string) bool {
	selects := func(s Selection) bool { return s.SelectsPool(p) && s.SelectsService(serviceLabels) }
	return p.AdvertiseL2 || p.AdvertiseBGP ||
		slices.ContainsFunc(c.L2, func(a L2Advertisement) bool { return selects(a.Selection) }) ||
		slices.ContainsFunc(c.BGP, func(a BGPAdvertisement) bool { return selects(a.Selection) })
}
