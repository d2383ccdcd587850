package allocator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Message renders an Outcome as the sentence that users read. It depends on nothing that changes while the Outcome stays the
// same, so a Service that stays pending costs no writes.
func (o Outcome) Message() string {
	var addrs []netip.Addr
	var from []string
	for i, a := range o.Addrs {
		if !slices.Contains(o.Old, a) {
			addrs, from = append(addrs, a), append(from, o.Pools[i])
		}
	}
	switch {
	case o.Reason == Allocated:
		return fmt.Sprintf("%s from %s", list(addrs), pools(from))
	case len(addrs) > 0:
		return fmt.Sprintf("keeps %s: %s", list(addrs), o.why())
	}
	return o.why()
}

func (o Outcome) why() string {
	d := o.Detail
	switch o.Reason {
	case Allocated:
		return ""
	case OutOfPool:
		if d.Pool == "" {
			return fmt.Sprintf("no pool has %s any more; add it to a pool, or recreate the Service to have another address", d.Addr)
		}
		return fmt.Sprintf("pool %s would not give %s to this Service any more; widen the pool, or recreate the Service to have another address", d.Pool, d.Addr)
	case NoPool:
		return "there is no IPAddressPool; create one"
	case NoEligiblePool:
		if d.Pool != "" {
			return fmt.Sprintf("pool %s has no %s addresses; ask for another pool, or add some to it", d.Pool, d.Family)
		}
		return fmt.Sprintf("no pool gives %s addresses to this Service; look at autoAssign and serviceAllocation of the pools", d.Family)
	case Exhausted:
		return fmt.Sprintf("no %s address is free in %s; add addresses, or delete Services that use them", d.Family, pools(d.Pools))
	case PoolNotFound:
		return fmt.Sprintf("there is no IPAddressPool %s; create it, or correct the annotation", d.Pool)
	case PoolNotAllowed:
		if d.Addr.IsValid() {
			return fmt.Sprintf("%s is in pool %s, which gives nothing to this Service; look at its serviceAllocation and its conditions", d.Addr, d.Pool)
		}
		return fmt.Sprintf("pool %s gives nothing to this Service; look at its serviceAllocation and its conditions", d.Pool)
	case AddressNotInPool:
		if d.Pool != "" {
			return fmt.Sprintf("pool %s does not have %s; ask for an address that it has, or for another pool", d.Pool, d.Addr)
		}
		return fmt.Sprintf("no pool has %s; ask for another address, or add it to a pool", d.Addr)
	case FamilyMismatch:
		return fmt.Sprintf("%s is %s, but this Service has no %s; add the family to spec.ipFamilies, or ask for another address", d.Addr, d.Family, d.Family)
	case ShareConflict:
		return fmt.Sprintf("%s is held by Service %s, and the two cannot share it: they differ in, or clash on, their %s", d.Addr, d.Other, d.Attribute)
	case AddressReserved:
		return fmt.Sprintf("%s is kept for Service %s by the reservations or the retention of pool %s; ask for another address, or take it out there", d.Addr, d.Other, d.Pool)
	case AddressInUse:
		return fmt.Sprintf("%s is in use by %s; ask for another address, or free it there", d.Addr, d.Text)
	case QuotaExceeded:
		return fmt.Sprintf("namespace %s has all the %s addresses that maxPerNamespace allows it from %s; delete Services that use them, or raise it", d.Namespace, d.Family, pools(d.Pools))
	case InvalidRequest:
		return d.Text
	}
	return string(o.Reason)
}

func list(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, " and ")
}

func pools(names []string) string {
	if len(names) == 0 {
		return "no pool"
	}
	if len(names) == 1 || (len(names) == 2 && names[0] == names[1]) {
		return "pool " + names[0]
	}
	return "pools " + strings.Join(names, ", ")
}
