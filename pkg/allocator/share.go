package allocator

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// mayShare reports whether two Services may hold one address together; when not, it names the attribute that differs.
// They need the same non-empty key, no port in common, and to treat outside traffic alike: both Cluster, or both Local
// with the same endpoints. across says whether the pool lets a key be used from several namespaces.
func mayShare(a, b *cluster.Service, across bool) (Attribute, bool) {
	switch {
	case a.SharingKey == "" || a.SharingKey != b.SharingKey:
		return AttrKey, false
	case !across && a.Key.Namespace != b.Key.Namespace:
		return AttrNamespace, false
	case portsMeet(a.Ports, b.Ports):
		return AttrPort, false
	case a.TrafficPolicy != b.TrafficPolicy:
		return AttrPolicy, false
	case a.TrafficPolicy == cluster.TrafficLocal && a.Key.Namespace != b.Key.Namespace:
		return AttrNamespace, false
	case a.TrafficPolicy == cluster.TrafficLocal && a.Selector != b.Selector:
		return AttrSelector, false
	}
	return "", true
}

func portsMeet(a, b []cluster.Port) bool {
	for _, p := range a {
		if slices.Contains(b, p) {
			return true
		}
	}
	return false
}

// Terms sums up all that sharing an address depends on in a Service; it is "" for one that shares nothing.
func Terms(s *cluster.Service) string {
	if s.SharingKey == "" {
		return ""
	}
	ports := slices.Clone(s.Ports)
	slices.SortFunc(ports, func(a, b cluster.Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol))
	})
	selector := ""
	if s.TrafficPolicy == cluster.TrafficLocal {
		selector = s.Selector
	}
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%q %v %q %v", s.SharingKey, s.TrafficPolicy, selector, ports)
	return fmt.Sprintf("%016x", sum.Sum64())
}
