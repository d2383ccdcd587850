package allocator

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

func waiting(n int) []cluster.Service {
	services := make([]cluster.Service, n)
	for i := range services {
		services[i] = cluster.Service{
			Key:      cluster.Key{Namespace: fmt.Sprintf("ns-%d", i%100), Name: fmt.Sprintf("service-%d", i)},
			Created:  int64(i / 10),
			Families: []cluster.Family{cluster.IPv4},
			Ports:    []cluster.Port{{Protocol: "TCP", Number: 80}},
		}
	}
	return services
}

func onePool(addresses ...v1beta1.AddressRange) config.Config {
	pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}
	pool.Spec.Addresses = addresses
	c, _ := config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{pool}})
	return c
}

// BenchmarkAssignHeld is the pass that runs all the time: 10,000 Services that hold what they asked for.
func BenchmarkAssignHeld(b *testing.B) {
	c := onePool("10.0.0.0/16")
	services := waiting(10_000)
	services = applied(services, byKey(Assign(c, services, nil, nil)))
	b.ReportAllocs()
	for b.Loop() {
		Assign(c, services, nil, nil)
	}
}

// BenchmarkAssignFill gives a whole empty /16 away in one pass.
func BenchmarkAssignFill(b *testing.B) {
	c := onePool("10.0.0.0/16")
	services := waiting(65_536)
	b.ReportAllocs()
	for b.Loop() {
		Assign(c, services, nil, nil)
	}
	b.ReportMetric(float64(65_536*b.N)/b.Elapsed().Seconds(), "allocations/s")
}

// BenchmarkAssignLastFree finds the one free address of a /16. The passes that fill it are timed in turn with those that find it,
// and the ratio says how much longer the last address takes than the first.
func BenchmarkAssignLastFree(b *testing.B) {
	c := onePool("10.0.0.0/16")
	empty := waiting(65_536)
	full := applied(empty, byKey(Assign(c, empty, nil, nil)))
	full[70].Held, full[70].HeldFrom = nil, nil
	var filling, finding time.Duration
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		Assign(c, empty, nil, nil)
		filled := time.Now()
		Assign(c, full, nil, nil)
		filling, finding = filling+filled.Sub(began), finding+time.Since(filled)
	}
	b.ReportMetric(float64(finding.Nanoseconds())/float64(b.N), "ns/find")
	b.ReportMetric(finding.Seconds()/filling.Seconds(), "find/fill")
}
