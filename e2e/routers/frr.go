package routers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// FRR is a router that runs zebra, bgpd and bfdd in a place of the lab.
type FRR struct {
	lab   *lab.Lab
	where string
	dir   string
	procs []*lab.Process
}

// StartFRR starts FRR with the configuration of bgpd and bfdd.
func StartFRR(ctx context.Context, l *lab.Lab, where, bgpd, bfdd string) (*FRR, error) {
	dir, err := scratch("frr", "frr")
	if err != nil {
		return nil, err
	}
	r := &FRR{lab: l, where: where, dir: dir}
	for _, daemon := range []struct{ name, config string }{{"zebra", "hostname router\n"}, {"bfdd", bfdd}, {"bgpd", bgpd}} {
		file := filepath.Join(dir, daemon.name+".conf")
		if err := os.WriteFile(file, []byte(daemon.config), 0o644); err != nil {
			return nil, fmt.Errorf("configure %s: %w", daemon.name, err)
		}
		args := []string{"/usr/lib/frr/" + daemon.name, "-f", file, "-i", filepath.Join(dir, daemon.name+".pid"), "-z", filepath.Join(dir, "zserv.api"),
			"--vty_socket", dir, "-u", "frr", "-g", "frr", "--log", "stdout"}
		if daemon.name == "bfdd" {
			args = append(args, "--bfdctl", filepath.Join(dir, "bfdd.sock"))
		}
		p, err := l.Start(where, lab.ProcSpec{Name: "frr-" + daemon.name, Args: args})
		if err != nil {
			return nil, err
		}
		r.procs = append(r.procs, p)
		if err := waitFile(ctx, filepath.Join(dir, daemon.name+".vty")); err != nil {
			return nil, fmt.Errorf("start %s: %w\n%s", daemon.name, err, p.LogTail(20))
		}
	}
	return r, nil
}

// Stop ends it.
func (r *FRR) Stop() error {
	for _, p := range r.procs {
		if err := p.Kill(); err != nil {
			return err
		}
	}
	return os.RemoveAll(r.dir)
}

// Do has vtysh do a command, and returns what it prints.
func (r *FRR) Do(ctx context.Context, commands ...string) (string, error) {
	args := []string{"vtysh", "--vty_socket", r.dir}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := r.lab.CommandContext(ctx, r.where, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("vtysh %s: %w\n%s", strings.Join(commands, "; "), err, out)
	}
	return string(out), nil
}

func (r *FRR) show(ctx context.Context, command string, into any) error {
	out, err := r.Do(ctx, command)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("read what vtysh says to %s: %w\n%s", command, err, out)
	}
	return nil
}

// RIB returns what bgpd knows.
func (r *FRR) RIB(ctx context.Context) (RIB, error) {
	rib := RIB{}
	for _, family := range []string{"ipv4", "ipv6"} {
		var table struct {
			Routes map[string][]struct {
				PeerID    string `json:"peerId"`
				Path      string
				Metric    *int64
				LocalPref *int64 `json:"locPrf"`
				Stale     bool
				Nexthops  []struct {
					IP    string
					Scope string
				}
			}
		}
		if err := r.show(ctx, "show bgp "+family+" unicast json", &table); err != nil {
			return nil, err
		}
		for text, paths := range table.Routes {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("read a route of FRR: %w", err)
			}
			for _, path := range paths {
				route := Route{ASPath: path.Path, MED: orNone(path.Metric), LocalPref: orNone(path.LocalPref), Stale: path.Stale}
				route.Peer, _ = netip.ParseAddr(path.PeerID)
				for _, hop := range path.Nexthops {
					if hop.Scope != "link-local" || !route.NextHop.IsValid() {
						route.NextHop, _ = netip.ParseAddr(hop.IP)
					}
				}
				rib[prefix] = append(rib[prefix], route)
			}
		}
	}
	rib.sort()
	return rib, nil
}

// Communities returns what a route to a prefix carries from each peer.
func (r *FRR) Communities(ctx context.Context, prefix netip.Prefix) (map[netip.Addr][]string, error) {
	family := "ipv4"
	if prefix.Addr().Is6() {
		family = "ipv6"
	}
	type list struct{ String string }
	var detail struct {
		Paths []struct {
			Peer struct {
				PeerID string `json:"peerId"`
			}
			Community      list
			LargeCommunity list
		}
	}
	if err := r.show(ctx, fmt.Sprintf("show bgp %s unicast %s json", family, prefix), &detail); err != nil {
		return nil, err
	}
	all := map[netip.Addr][]string{}
	for _, p := range detail.Paths {
		peer, _ := netip.ParseAddr(p.Peer.PeerID)
		all[peer] = append(strings.Fields(p.Community.String), strings.Fields(p.LargeCommunity.String)...)
		slices.Sort(all[peer])
	}
	return all, nil
}

// Session returns how the session with a node stands.
func (r *FRR) Session(ctx context.Context, node netip.Addr) (Session, error) {
	var neighbors map[string]struct {
		State    string                  `json:"bgpState"`
		Drops    int                     `json:"connectionsDropped"`
		Reset    string                  `json:"lastResetDueTo"`
		Shutdown string                  `json:"lastShutdownDescription"`
		BFD      struct{ Status string } `json:"peerBfdInfo"`
	}
	if err := r.show(ctx, "show bgp neighbors json", &neighbors); err != nil {
		return Session{}, err
	}
	n, is := neighbors[node.String()]
	if !is {
		return Session{}, fmt.Errorf("FRR has no neighbor %s", node)
	}
	return Session{Established: n.State == "Established", Drops: n.Drops, LastReset: n.Reset, Shutdown: n.Shutdown, BFD: strings.ToLower(n.BFD.Status)}, nil
}

func orNone(n *int64) int64 {
	if n == nil {
		return -1
	}
	return *n
}

// scratch is a directory with a short name that a user may write to.
func scratch(name, owner string) (string, error) {
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		return "", err
	}
	u, err := user.Lookup(owner)
	if err != nil {
		return "", fmt.Errorf("%w: install the Debian packages frr and bird2", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return dir, os.Chown(dir, uid, gid)
}

// waitFile waits for a file, a socket for example, that a program makes when it is there.
func waitFile(ctx context.Context, path string) error {
	for range 200 {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s is not there after 10 s", path)
}
