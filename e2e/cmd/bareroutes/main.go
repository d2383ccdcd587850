// Command bareroutes is the least that can announce routes with gobgp: what Bellwether is measured beside. It has one session, and reads
// lines from its standard input: "open" opens the session, "add PREFIX" and "delete PREFIX" do as they say.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bareroutes:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bareroutes", flag.ContinueOnError)
	own := f.String("own", "", "address to speak from")
	router := f.String("router", "", "address of the router")
	asn := f.Uint("asn", 64513, "own AS number")
	peerASN := f.Uint("peer-asn", 65001, "the router's AS number")
	if err := f.Parse(args); err != nil {
		return err
	}
	b := server.NewBgpServer()
	go b.Serve()
	if err := b.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: uint32(*asn), RouterId: *own, ListenPort: -1}}); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var verb, what string
		_, _ = fmt.Sscan(lines.Text(), &verb, &what)
		if err := do(ctx, b, verb, what, *own, *router, uint32(*peerASN)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func do(ctx context.Context, b *server.BgpServer, verb, what, own, router string, peerASN uint32) error {
	switch verb {
	case "open":
		return b.AddPeer(ctx, &api.AddPeerRequest{Peer: &api.Peer{Conf: &api.PeerConf{NeighborAddress: router, PeerAsn: peerASN},
			Transport: &api.Transport{LocalAddress: own}, Timers: &api.Timers{Config: &api.TimersConfig{ConnectRetry: 1}}}})
	case "add", "delete":
		prefix, err := netip.ParsePrefix(what)
		if err != nil {
			return err
		}
		if verb == "add" {
			return add(ctx, b, prefix)
		}
		path, err := route(prefix)
		if err != nil {
			return err
		}
		return b.DeletePath(ctx, &api.DeletePathRequest{Path: path})
	}
	return fmt.Errorf("%q is not understood", verb)
}

func add(ctx context.Context, b *server.BgpServer, prefix netip.Prefix) error {
	path, err := route(prefix)
	if err != nil {
		return err
	}
	_, err = b.AddPath(ctx, &api.AddPathRequest{Path: path})
	return err
}

func route(prefix netip.Prefix) (*api.Path, error) {
	var packed []*anypb.Any
	for _, m := range []proto.Message{&api.IPAddressPrefix{Prefix: prefix.Addr().String(), PrefixLen: uint32(prefix.Bits())},
		&api.OriginAttribute{}, &api.NextHopAttribute{NextHop: "0.0.0.0"}} {
		one, err := anypb.New(m)
		if err != nil {
			return nil, err
		}
		packed = append(packed, one)
	}
	return &api.Path{Family: &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}, Nlri: packed[0], Pattrs: packed[1:]}, nil
}
