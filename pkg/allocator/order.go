package allocator

import (
	"cmp"
	"slices"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// byAge returns the positions of the Services by creation, those of one second by name.
func byAge(services []cluster.Service) []int {
	type aged struct {
		created int64
		at      int
	}
	ages := make([]aged, len(services))
	for i := range services {
		ages[i] = aged{services[i].Created, i}
	}
	slices.SortFunc(ages, func(a, b aged) int {
		if a.created != b.created {
			return cmp.Compare(a.created, b.created)
		}
		return services[a.at].Key.Compare(services[b.at].Key)
	})
	order := make([]int, len(services))
	for i, a := range ages {
		order[i] = a.at
	}
	return order
}
