package main

import (
	"net/netip"
	"slices"

	"github.com/bellwether-lb/bellwether/internal/kube"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// routes says of every BGPAdvertisement whether a speaker that it selects has a session that carries it, by family: IPv4, then IPv6.
// The one past the last is what IPAddressPool.spec.advertise stands for.
type routes [][2]bool

// routed works out which advertisements reach a router.
func routed(c config.Config, nodes []*kube.Record[cluster.Node], speakers []*kube.Record[kube.Said]) routes {
	labels := map[string]map[string]string{}
	for _, n := range nodes {
		labels[n.Value.Name] = n.Value.Labels
	}
	reached := make(routes, len(c.BGP)+1)
	for i, adv := range append(slices.Clone(c.BGP), config.Everything()) {
		for _, speaker := range speakers {
			own, known := labels[speaker.Value.Node]
			if !known || !adv.SelectsNode(own) {
				continue
			}
			for p := range c.Peers {
				peer := &c.Peers[p]
				if !adv.SelectsPeer(peer.Name) || !peer.SelectsNode(own) || !slices.Contains(speaker.Value.Peers, peer.Name) {
					continue
				}
				reached[i][0] = reached[i][0] || peer.Carries(false)
				reached[i][1] = reached[i][1] || peer.Carries(true)
			}
		}
	}
	return reached
}

// reaches reports whether an address of a Service is announced to a router by some advertisement.
func (r routes) reaches(c config.Config, pool config.Pool, serviceLabels map[string]string, a netip.Addr) bool {
	family := cluster.FamilyOf(a).Index()
	for i, reached := range r {
		if !reached[family] {
			continue
		}
		if i == len(c.BGP) {
			return pool.AdvertiseBGP
		}
		if i < len(c.BGP) && c.BGP[i].SelectsPool(pool) && c.BGP[i].SelectsService(serviceLabels) {
			return true
		}
	}
	return false
}
