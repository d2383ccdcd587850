package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/announce/l2"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

// answerTime is how long stations have to answer.
const answerTime = 500 * time.Millisecond

// whoHas asks the segments that an address is in for it, as any station does that wants to reach it.
func (s *speaker) whoHas(q url.Values) (any, error) {
	addr, err := netip.ParseAddr(q.Get("address"))
	if err != nil {
		return nil, fmt.Errorf("address=%s is not an IP address", q.Get("address"))
	}
	links := s.ownLinks.Load()
	if links == nil {
		return nil, fmt.Errorf("the network interfaces have not been read yet")
	}
	all := []explain.Asked{}
	for _, link := range *links {
		if !link.Up || !link.Contains(addr) {
			continue
		}
		asked := explain.Asked{Node: s.node, Address: addr.String(), Interface: link.Name}
		stations, err := l2.WhoHas(link, addr, answerTime)
		if err != nil {
			return nil, err
		}
		for _, mac := range stations {
			asked.Stations = append(asked.Stations, mac.String())
		}
		all = append(all, asked)
	}
	return all, nil
}
