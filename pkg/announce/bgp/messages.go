package bgp

import (
	"context"

	api "github.com/osrg/gobgp/v3/api"
)

// Messages counts the messages of the session since the peer was configured: "sent" and "received", each by type (RFC 4271 section 4.1,
// RFC 2918). It is empty where there are none.
func (s State) Messages(ctx context.Context) map[string]map[string]uint64 {
	counts := map[string]map[string]uint64{}
	if s.server == nil {
		return counts
	}
	// An error means that the session has ended meanwhile.
	_ = s.server.ListPeer(ctx, &api.ListPeerRequest{}, func(peer *api.Peer) {
		m := peer.GetState().GetMessages()
		for direction, n := range map[string]*api.Message{"sent": m.GetSent(), "received": m.GetReceived()} {
			counts[direction] = map[string]uint64{"open": n.GetOpen(), "update": n.GetUpdate(), "notification": n.GetNotification(),
				"keepalive": n.GetKeepalive(), "route-refresh": n.GetRefresh()}
		}
	})
	return counts
}
