package explain_test

import (
	"fmt"
	"testing"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// TestTakeover: what another controller gave stays where the objects have it.
func TestTakeover(t *testing.T) {
	for name, c := range map[string]struct {
		addresses []v1beta1.AddressRange
		want      string
	}{
		"the same pool":      {[]v1beta1.AddressRange{"192.0.2.0/24"}, "[] 1"},
		"a pool without it":  {[]v1beta1.AddressRange{"198.51.100.7"}, "[{shop/web [192.0.2.10] [] no pool has all of its addresses: it is left to whoever gave them}] 0"},
		"what is no address": {[]v1beta1.AddressRange{"192.0.2.300"}, "[{shop/web [192.0.2.10] [] no pool has all of its addresses: it is left to whoever gave them}] 0"},
	} {
		w := healthy()
		s := &w.Services[0]
		s.Held, s.HeldFrom, s.Marked, s.Conditions = nil, nil, false, nil // by another controller
		objects := edited(w.Objects, func(o *config.Objects) {
			o.Pools[0].Spec.Addresses = c.addresses
		})
		w.Objects = config.Objects{}
		parse(w)
		moved, kept := w.Takeover(objects)
		if got := fmt.Sprint(moved, kept); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
