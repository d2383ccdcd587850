package announce

import "net/netip"

// The election is rendezvous hashing (highest random weight, Thaler and Ravishankar 1998): every node has a score for every
// address, and of the nodes that may own it the highest owns it. Taking away any other node leaves the highest where it
// is, and no address has a part in another's scores; so laws 9 and 10 hold by construction.

// nameHash is 64-bit FNV-1a.
func nameHash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

func addrHash(a netip.Addr) uint64 {
	b := a.As16()
	h := uint64(14695981039346656037)
	for _, x := range b {
		h = (h ^ uint64(x)) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64: every bit of the input changes half of the output's.
func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
