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
			w.apply(w.assign())
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
		got := w.assign()
		for i, a := range w.services {
			for _, b := range w.services[i+1:] {
				for _, addr := range got[a.Key].Addrs {
					both := slices.Contains(a.Held, addr) && slices.Contains(b.Held, addr)
					if slices.Contains(got[b.Key].Addrs, addr) && !canShare(c, addr, a, b, both) {
						t.Errorf("%s is held by %s and %s, which may not share it", addr, a.Key, b.Key)
					}
				}
			}
		}
	})
}

// canShare states the sharing rule a second time, in other words than the code under test. Those who both hold the address
// already go on sharing it when the pool does not let others share it across namespaces any more.
func canShare(c config.Config, addr netip.Addr, a, b cluster.Service, both bool) bool {
	if a.SharingKey == "" || b.SharingKey == "" || a.SharingKey != b.SharingKey || a.TrafficPolicy != b.TrafficPolicy {
		return false
	}
	sameNamespace := a.Key.Namespace == b.Key.Namespace
	if a.TrafficPolicy == cluster.TrafficLocal && (!sameNamespace || a.Selector != b.Selector) {
		return false
	}
	pool, covered := c.PoolOf(addr)
	if !sameNamespace && !both && (!covered || !pool.ShareAcross) {
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
		got := w.assign()
		for _, s := range w.services {
			for _, addr := range s.Held {
				if !slices.Contains(s.Families, cluster.FamilyOf(addr)) || evictable(w, s, addr) {
					continue
				}
				if others := slices.DeleteFunc(slices.Clone(s.Held), func(a netip.Addr) bool {
					return a == addr || cluster.FamilyOf(a) != cluster.FamilyOf(addr)
				}); s.OldMayGo && len(others) > 0 {
					continue // it is one of an old and a new one, and the old may go
				}
				if !slices.Contains(got[s.Key].Addrs, addr) {
					t.Errorf("%s held %s, which nobody contests, and now has %v", s.Key, addr, got[s.Key].Addrs)
				}
			}
		}
	})
}

// evictable reports whether somebody else holds the address too, the two cannot share it, and it was not the other who changed.
func evictable(w *world, s cluster.Service, addr netip.Addr) bool {
	changed := func(s cluster.Service) bool { return Terms(&s) != s.SharedAs }
	return slices.ContainsFunc(w.services, func(o cluster.Service) bool {
		return o.Key != s.Key && slices.Contains(o.Held, addr) && !canShare(w.config(), addr, s, o, true) && (changed(s) || !changed(o))
	})
}

func TestWhoMovesHoldsTheOldAddressUntilItMayGo(t *testing.T) {
	moves, ends := 0, 0
	eachWorld(t, func(t *testing.T, w *world) {
		for _, s := range w.services {
			if s.OldMayGo {
				ends++
			}
		}
		got := w.assign()
		for _, s := range w.services {
			perFamily := map[cluster.Family]int{}
			for _, a := range got[s.Key].Addrs {
				perFamily[cluster.FamilyOf(a)]++
			}
			for f, n := range perFamily {
				old := slices.IndexFunc(got[s.Key].Old, func(a netip.Addr) bool { return cluster.FamilyOf(a) == f })
				if (n > 1) != (old >= 0) {
					t.Errorf("%s holds %d %s addresses, and %v are said to be old", s.Key, n, f, got[s.Key].Old)
				}
				if n > 1 {
					moves++
				}
			}
		}
	})
	if moves < worlds/20 || ends < worlds/20 {
		t.Errorf("%d moves and %d ends of moves in %d worlds: that tests nothing", moves, ends, worlds)
	}
}

func TestNoGiftExceedsAQuota(t *testing.T) {
	gifts := 0
	eachWorld(t, func(t *testing.T, w *world) {
		c := w.config()
		got := w.assign()
		after := applied(w.services, got)
		for _, s := range w.services {
			for _, addr := range got[s.Key].Addrs {
				pool, covered := c.PoolOf(addr)
				if slices.Contains(s.Held, addr) || !covered || pool.MaxPerNamespace == 0 {
					continue
				}
				gifts++
				used := quotaUsed(c, after, pool.Name, s.Key.Namespace, cluster.FamilyOf(addr))
				for _, old := range got[s.Key].Old {
					if p, _ := c.PoolOf(old); p.Name == pool.Name && cluster.FamilyOf(old) == cluster.FamilyOf(addr) {
						used-- // on its way out
					}
				}
				if used > pool.MaxPerNamespace && !joined(w.services, s, addr) {
					t.Errorf("%s was given %s, and its namespace now has %d of pool %s, which allows %d", s.Key, addr, used, pool.Name, pool.MaxPerNamespace)
				}
			}
		}
	})
	if gifts < worlds/20 {
		t.Errorf("%d gifts under a quota in %d worlds: that tests nothing", gifts, worlds)
	}
}

// joined reports whether a Service's namespace had the address already, so that its quota was not touched.
func joined(services []cluster.Service, s cluster.Service, addr netip.Addr) bool {
	return slices.ContainsFunc(services, func(o cluster.Service) bool {
		return o.Key.Namespace == s.Key.Namespace && slices.Contains(o.Held, addr)
	})
}

// quotaUsed counts the addresses of a pool's family that a namespace holds.
func quotaUsed(c config.Config, services []cluster.Service, pool, namespace string, f cluster.Family) int {
	addrs := map[netip.Addr]bool{}
	for _, s := range services {
		for _, a := range s.Held {
			if p, covered := c.PoolOf(a); covered && p.Name == pool && s.Key.Namespace == namespace && cluster.FamilyOf(a) == f {
				addrs[a] = true
			}
		}
	}
	return len(addrs)
}

func TestLaw3AssigningTwiceChangesNothing(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		first := w.assign()
		w.apply(first)
		second := w.assign()
		for _, s := range w.services {
			if !slices.Equal(first[s.Key].Addrs, second[s.Key].Addrs) || first[s.Key].Message() != second[s.Key].Message() {
				t.Errorf("%s had %v and after a second pass %v", s.Key, first[s.Key], second[s.Key])
			}
		}
	})
}

func TestLaw4TheOrderOfTheInputChangesNothing(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		want := w.assign()
		w.rng.Shuffle(len(w.services), func(i, j int) { w.services[i], w.services[j] = w.services[j], w.services[i] })
		pools := slices.Clone(w.objects.Pools)
		w.rng.Shuffle(len(pools), func(i, j int) { pools[i], pools[j] = pools[j], pools[i] })
		w.setPools(pools)
		w.rng.Shuffle(len(w.retained), func(i, j int) { w.retained[i], w.retained[j] = w.retained[j], w.retained[i] })
		slices.Reverse(w.inUse)
		if diff := cmp.Diff(want, w.assign(), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("another order gives another result (-want +got):\n%s", diff)
		}
	})
}

func TestLaw5EveryAddressGivenLiesInAPoolThatAllowsTheService(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		got := w.assign()
		for _, s := range w.services {
			for _, addr := range got[s.Key].Addrs {
				if slices.Contains(s.Held, addr) {
					continue // kept, not given
				}
				if why := forbidden(w, s, addr); why != "" {
					t.Errorf("%s was given %s: %s", s.Key, addr, why)
				}
			}
		}
	})
}

// forbidden says why a Service may not be given an address, by looking at the address alone.
func forbidden(w *world, s cluster.Service, addr netip.Addr) string {
	c := w.config()
	pool, covered := c.PoolOf(addr)
	asked := slices.Contains(s.WantAddrs, addr)
	var reserved, keptForOthers, keptForMe bool
	for _, r := range pool.Reservations {
		if r.Addr == addr {
			reserved = reserved || r.Service == s.Key
			keptForOthers = keptForOthers || r.Service != s.Key
		}
	}
	for _, r := range w.retained {
		if r.Addr == addr {
			keptForMe = keptForMe || r.Service == s.Key
			keptForOthers = keptForOthers || r.Service != s.Key
		}
	}
	switch {
	case !covered:
		return "no pool has it"
	case pool.Inert:
		return "its pool is inert"
	case w.isInUse(addr):
		return "something else has it"
	case keptForOthers && !reserved && !keptForMe:
		return "it is kept for another"
	case !pool.Allocation.Admits(&s) && !reserved:
		return "its pool does not admit the Service"
	case s.WantPool != "" && s.WantPool != pool.Name:
		return "it is not in the pool that was asked for"
	case !asked && !reserved && s.WantPool == "" && !pool.AutoAssign:
		return "its pool is not for automatic assignment"
	case !asked && slices.ContainsFunc(s.WantAddrs, func(a netip.Addr) bool { return cluster.FamilyOf(a) == cluster.FamilyOf(addr) }):
		return "another address of that family was asked for"
	case !asked && !reserved && !keptForMe && pool.AvoidBuggyIPs && addr.Is4() && (addr.As4()[3] == 0 || addr.As4()[3] == 255):
		return "its pool avoids .0 and .255"
	case s.RequestError != "":
		return "its annotations cannot be understood"
	}
	return ""
}

func TestLaw6AnotherServiceNeverMovesMine(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		before := w.assign()
		w.apply(before)
		if len(w.services) > 0 && w.chance(50) {
			i := w.rng.IntN(len(w.services))
			w.services = slices.Delete(w.services, i, i+1)
		} else {
			w.addService()
			added := &w.services[len(w.services)-1]
			added.Held, added.HeldFrom = nil, nil
		}
		after := w.assign()
		for _, s := range w.services {
			for _, addr := range before[s.Key].Addrs {
				if !slices.Contains(after[s.Key].Addrs, addr) {
					t.Errorf("%s lost %s because another Service came or went", s.Key, addr)
				}
			}
		}
	})
}

func TestLaw7PendingOnlyIfNoEligibleAddressIsFree(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c := w.config()
		got := w.assign()
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
				if obtainable(w, c, after, s, f) {
					available++
				}
			}
			if allOrNothing := s.AllFamilies && len(s.Held) == 0; allOrNothing && available < missing {
				continue
			}
			if available > 0 {
				t.Errorf("%s lacks %d addresses (%s) though %d can be had", s.Key, missing, got[s.Key].Reason, available)
			}
		}
	})
}

// obtainable tries every address there is.
func obtainable(w *world, c config.Config, services []cluster.Service, s cluster.Service, f cluster.Family) bool {
	for last := range 40 {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(last)})
		if f == cluster.IPv6 {
			addr = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", last))
		}
		if forbidden(w, s, addr) != "" || contested(c, services, s, addr) {
			continue
		}
		pool, _ := c.PoolOf(addr)
		if pool.MaxPerNamespace == 0 || joined(services, s, addr) || quotaUsed(c, services, pool.Name, s.Key.Namespace, f) < pool.MaxPerNamespace {
			return true
		}
	}
	return false
}

func contested(c config.Config, services []cluster.Service, s cluster.Service, addr netip.Addr) bool {
	return slices.ContainsFunc(services, func(o cluster.Service) bool {
		return o.Key != s.Key && slices.Contains(o.Held, addr) && !canShare(c, addr, s, o, false)
	})
}

func TestLaw8ABadObjectNeverReleasesOrMovesAnAddress(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.apply(w.assign())
		before := w.assign()
		w.apply(before)
		if len(w.objects.Pools) == 0 {
			return
		}
		w.damagePool()
		c := w.config()
		after := w.assign()
		for _, s := range w.services {
			for _, addr := range before[s.Key].Addrs {
				if !slices.Contains(after[s.Key].Addrs, addr) {
					t.Errorf("%s lost %s because a pool object went bad", s.Key, addr)
				}
				given := s.HeldFrom[slices.Index(s.Held, addr)]
				pool, exists := c.Pool(given)
				moved := slices.Contains(after[s.Key].Old, addr) && !slices.Contains(before[s.Key].Old, addr) && !w.isInUse(addr)
				if moved && s.WantPool == "" && len(s.WantAddrs) == 0 && (!exists || pool.Inert || !pool.Renumber || pool.Covers.Contains(addr)) {
					t.Errorf("%s is moved off %s though its pool %s did not ask for that", s.Key, addr, given)
				}
			}
		}
	})
}
