package routers

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// BIRD is a router that runs bird in a place of the lab.
type BIRD struct {
	lab   *lab.Lab
	where string
	dir   string
	proc  *lab.Process
}

// StartBIRD starts BIRD with a configuration.
func StartBIRD(ctx context.Context, l *lab.Lab, where, config string) (*BIRD, error) {
	dir, err := scratch("bird", "bird")
	if err != nil {
		return nil, err
	}
	r := &BIRD{lab: l, where: where, dir: dir}
	file := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, fmt.Errorf("configure BIRD: %w", err)
	}
	r.proc, err = l.Start(where, lab.ProcSpec{Name: filepath.Base(dir), Args: []string{"bird", "-f", "-c", file, "-s", r.control(), "-P", filepath.Join(dir, "pid")}})
	if err != nil {
		return nil, err
	}
	if err := waitFile(ctx, r.control()); err != nil {
		return nil, fmt.Errorf("start BIRD: %w\n%s", err, r.proc.LogTail(20))
	}
	return r, nil
}

func (r *BIRD) control() string { return filepath.Join(r.dir, "ctl") }

// Stop ends it.
func (r *BIRD) Stop() error {
	if err := r.proc.Kill(); err != nil {
		return err
	}
	return os.RemoveAll(r.dir)
}

// Do has birdc do a command, and returns what it prints.
func (r *BIRD) Do(ctx context.Context, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := r.lab.CommandContext(ctx, r.where, append([]string{"birdc", "-s", r.control()}, command...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("birdc %s: %w\n%s", strings.Join(command, " "), err, out)
	}
	return string(out), nil
}

// RIB returns what BIRD has from its BGP peers.
func (r *BIRD) RIB(ctx context.Context) (RIB, error) {
	out, err := r.Do(ctx, "show", "route", "all")
	if err != nil {
		return nil, err
	}
	rib := RIB{}
	var prefix netip.Prefix
	var at *Route
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if p, err := netip.ParsePrefix(f[0]); err == nil {
			prefix = p
			f = f[1:]
		}
		switch {
		case len(f) > 3 && (f[0] == "unicast" || f[0] == "unreachable"): // unicast [node1 12:00:00.000 from 198.18.0.11] * (100) [AS64512i]
			rib[prefix] = append(rib[prefix], Route{MED: -1, LocalPref: -1, Stale: strings.Contains(line, "(100s") || strings.Contains(line, "s] ")})
			at = &rib[prefix][len(rib[prefix])-1]
			if i := slices.Index(f, "from"); i > 0 {
				at.Peer, _ = netip.ParseAddr(strings.TrimSuffix(f[i+1], "]"))
			}
		case at != nil:
			at.read(strings.TrimSpace(line))
		}
	}
	for _, routes := range rib {
		for i := range routes {
			if !routes[i].Peer.IsValid() {
				routes[i].Peer = routes[i].NextHop
			}
			slices.Sort(routes[i].Communities)
		}
	}
	rib.sort()
	return rib, nil
}

// read takes in one attribute as birdc writes it.
func (r *Route) read(line string) {
	name, value, _ := strings.Cut(line, ": ")
	switch name {
	case "BGP.as_path":
		r.ASPath = value
	case "BGP.next_hop":
		r.NextHop, _ = netip.ParseAddr(strings.Fields(value)[0])
	case "BGP.med":
		r.MED, _ = strconv.ParseInt(value, 10, 64)
	case "BGP.local_pref":
		r.LocalPref, _ = strconv.ParseInt(value, 10, 64)
	case "BGP.community", "BGP.large_community":
		for c := range strings.SplitSeq(strings.NewReplacer(", ", ",", "(", "", ")", " ").Replace(value), " ") {
			if c = strings.TrimSpace(c); c != "" {
				r.Communities = append(r.Communities, strings.ReplaceAll(c, ",", ":"))
			}
		}
	}
}
