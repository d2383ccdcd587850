package allocator

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// worlds is how many random histories each law is held against.
const worlds = 10_000

// eachWorld runs a law on worlds that have lived through a few edits.
func eachWorld(t *testing.T, law func(t *testing.T, w *world)) {
	t.Helper()
	for seed := range uint64(worlds) {
		w := newWorld(seed)
		for range w.rng.IntN(6) {
			w.apply(Assign(w.config(), w.services))
			for range 1 + w.rng.IntN(4) {
				w.edit()
			}
		}
		law(t, w)
		if t.Failed() {
			t.Fatalf("broken by the world of seed %d:\npools %+v\nservices %+v", seed, w.objects.Pools, w.services)
		}
	}
}

func TestLaw1NoAddressIsHeldTwiceUnlessSharingAllowsIt(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c := w.config()
		got := Assign(c, w.services)
		for i, a := range w.services {
			for _, b := range w.services[i+1:] {
				for _, addr := range got.Services[a.Key].Addrs {
					if slices.Contains(got.Services[b.Key].Addrs, addr) && !canShare(c, addr, a, b) {
						t.Errorf("%s is held by %s and %s, which may not share it", addr, a.Key, b.Key)
					}
				}
			}
		}
	})
}

// canShare states the sharing rule a second time, in other words than the code under test.
func canShare(c config.Config, addr netip.Addr, a, b cluster.Service) bool {
	if a.SharingKey == "" || b.SharingKey == "" || a.SharingKey != b.SharingKey || a.TrafficPolicy != b.TrafficPolicy {
		return false
	}
	sameNamespace := a.Key.Namespace == b.Key.Namespace
	if a.TrafficPolicy == cluster.TrafficLocal && (!sameNamespace || a.Selector != b.Selector) {
		return false
	}
	pool, covered := c.PoolOf(addr)
	if !sameNamespace && covered && !pool.ShareAcross {
		return false
	}
	ports := map[cluster.Port]bool{}
	for _, p := range a.Ports {
		ports[p] = true
	}
	for _, p := range b.Ports {
		if ports[p] {
			return false
		}
	}
	return true
}

func TestLaw2AValidHoldIsKept(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c := w.config()
		got := Assign(c, w.services)
		for _, s := range w.services {
			if len(s.WantAddrs) > 0 || s.WantPool != "" {
				continue // may move to what it asks for
			}
			for _, addr := range s.Held {
				if !slices.Contains(s.Families, cluster.FamilyOf(addr)) || contested(c, w.services, s, addr) {
					continue
				}
				if !slices.Contains(got.Services[s.Key].Addrs, addr) {
					t.Errorf("%s held %s, which nobody contests, and now has %v", s.Key, addr, got.Services[s.Key].Addrs)
				}
			}
		}
	})
}

func contested(c config.Config, services []cluster.Service, s cluster.Service, addr netip.Addr) bool {
	return slices.ContainsFunc(services, func(o cluster.Service) bool {
		return o.Key != s.Key && slices.Contains(o.Held, addr) && !canShare(c, addr, s, o)
	})
}

func TestLaw3AssigningTwiceChangesNothing(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		first := Assign(w.config(), w.services)
		second := Assign(w.config(), applied(w.services, first))
		for _, s := range w.services {
			if !slices.Equal(first.Services[s.Key].Addrs, second.Services[s.Key].Addrs) {
				t.Errorf("%s had %v and after a second pass %v", s.Key, first.Services[s.Key], second.Services[s.Key])
			}
		}
	})
}

func TestLaw4TheOrderOfTheInputChangesNothing(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		want := Assign(w.config(), w.services)
		w.rng.Shuffle(len(w.services), func(i, j int) { w.services[i], w.services[j] = w.services[j], w.services[i] })
		pools := slices.Clone(w.objects.Pools)
		w.rng.Shuffle(len(pools), func(i, j int) { pools[i], pools[j] = pools[j], pools[i] })
		c, _ := config.Parse(config.Objects{Pools: pools})
		if diff := cmp.Diff(want, Assign(c, w.services), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("another order gives another result (-want +got):\n%s", diff)
		}
	})
}

func TestLaw5EveryAddressGivenLiesInAPoolThatAllowsTheService(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c := w.config()
		got := Assign(c, w.services)
		for _, s := range w.services {
			for _, addr := range got.Services[s.Key].Addrs {
				if slices.Contains(s.Held, addr) {
					continue // kept, not given
				}
				if why := forbidden(c, s, addr); why != "" {
					t.Errorf("%s was given %s: %s", s.Key, addr, why)
				}
			}
		}
	})
}

// forbidden says why a Service may not be given an address, by looking at the address alone.
func forbidden(c config.Config, s cluster.Service, addr netip.Addr) string {
	pool, covered := c.PoolOf(addr)
	asked := slices.Contains(s.WantAddrs, addr)
	switch {
	case !covered:
		return "no pool has it"
	case pool.Inert:
		return "its pool is inert"
	case !pool.Allocation.Admits(s):
		return "its pool does not admit the Service"
	case s.WantPool != "" && s.WantPool != pool.Name:
		return "it is not in the pool that was asked for"
	case !asked && s.WantPool == "" && !pool.AutoAssign:
		return "its pool is not for automatic assignment"
	case !asked && slices.ContainsFunc(s.WantAddrs, func(a netip.Addr) bool { return cluster.FamilyOf(a) == cluster.FamilyOf(addr) }):
		return "another address of that family was asked for"
	case !asked && pool.AvoidBuggyIPs && addr.Is4() && (addr.As4()[3] == 0 || addr.As4()[3] == 255):
		return "its pool avoids .0 and .255"
	case s.RequestError != "":
		return "its annotations cannot be understood"
	}
	return ""
}

func TestLaw6AnotherServiceNeverMovesMine(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		before := Assign(w.config(), w.services)
		w.apply(before)
		left := slices.Clone(w.services)
		if len(left) > 0 && w.chance(50) {
			i := w.rng.IntN(len(left))
			left = slices.Delete(left, i, i+1)
		} else {
			added := w.addService()
			added.Held, added.HeldFrom = nil, nil
			left = append(left, added)
		}
		after := Assign(w.config(), left)
		for _, s := range left {
			if len(s.WantAddrs) > 0 || s.WantPool != "" {
				continue // may move to what it asks for once that is free
			}
			for _, addr := range before.Services[s.Key].Addrs {
				if !slices.Contains(after.Services[s.Key].Addrs, addr) {
					t.Errorf("%s lost %s because another Service came or went", s.Key, addr)
				}
			}
		}
	})
}

func TestLaw7PendingOnlyIfNoEligibleAddressIsFree(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c := w.config()
		got := Assign(c, w.services)
		after := applied(w.services, got)
		for _, s := range after {
			if s.RequestError != "" || slices.ContainsFunc(s.WantAddrs, func(a netip.Addr) bool {
				return !slices.Contains(s.Families, cluster.FamilyOf(a))
			}) {
				continue // cannot be served whatever is free
			}
			var missing, available int
			for _, f := range s.Families {
				if slices.ContainsFunc(s.Held, func(a netip.Addr) bool { return cluster.FamilyOf(a) == f }) {
					continue
				}
				missing++
				if obtainable(c, after, s, f) {
					available++
				}
			}
			if allOrNothing := s.AllFamilies && len(s.Held) == 0; allOrNothing && available < missing {
				continue
			}
			if available > 0 {
				t.Errorf("%s lacks %d addresses (%s) though %d can be had", s.Key, missing, got.Services[s.Key].Reason, available)
			}
		}
	})
}

// obtainable tries every address there is.
func obtainable(c config.Config, services []cluster.Service, s cluster.Service, f cluster.Family) bool {
	for last := range 40 {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(last)})
		if f == cluster.IPv6 {
			addr = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", last))
		}
		if forbidden(c, s, addr) == "" && !contested(c, services, s, addr) {
			return true
		}
	}
	return false
}

func TestLaw8ABadObjectNeverReleasesOrMovesAnAddress(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.apply(Assign(w.config(), w.services))
		before := Assign(w.config(), w.services)
		if len(w.objects.Pools) == 0 {
			return
		}
		whole := w.config()
		w.damagePool()
		damaged := w.config()
		after := Assign(damaged, w.services)
		for _, s := range w.services {
			if len(s.WantAddrs) > 0 || s.WantPool != "" {
				continue // may move to what it asks for
			}
			for _, addr := range before.Services[s.Key].Addrs {
				heir, covered := damaged.PoolOf(addr)
				if old, _ := whole.PoolOf(addr); covered && old.ShareAcross && !heir.ShareAcross {
					continue // a younger pool, with its own sharing rule, has it now
				}
				if !slices.Contains(after.Services[s.Key].Addrs, addr) {
					t.Errorf("%s lost %s because a pool object went bad", s.Key, addr)
				}
			}
		}
	})
}
