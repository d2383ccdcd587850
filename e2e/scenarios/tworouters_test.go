package scenarios

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/routers"
)

// twoRouters are FRR and BIRD, each of an AS of its own, and each sharing traffic out among the nodes that announce a route. The client
// shares its own among the two.
func (s *scene) twoRouters(pool string) {
	s.Helper()
	var bgpd, bird strings.Builder
	fmt.Fprint(&bgpd, "router bgp 65001\n bgp router-id 198.18.0.1\n no bgp ebgp-requires-policy\n")
	fmt.Fprintf(&bird, "router id 198.18.0.4;\nprotocol device { }\nprotocol direct { ipv4; }\nprotocol kernel { merge paths on; ipv4 { import none; export where source = RTS_BGP; }; }\n")
	for i, a := range nodeAddrs(s.Lab, false) {
		fmt.Fprintf(&bgpd, " neighbor %[1]s remote-as 64512\n neighbor %[1]s timers connect 1\n", a)
		fmt.Fprintf(&bird, "protocol bgp node%d { local as 65002; neighbor %s as 64512; passive on; ipv4 { import all; export none; }; }\n", i+1, a)
	}
	fmt.Fprint(&bgpd, " address-family ipv4 unicast\n  maximum-paths 8\n exit-address-family\n")
	frr, err := routers.StartFRR(s.ctx, s.Lab, lab.Router, bgpd.String(), "")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { stopped(s, frr) })
	second, err := routers.StartBIRD(s.ctx, s.Lab, lab.Second, bird.String())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { stopped(s, second) })
	for _, where := range []string{lab.Router, lab.Second} {
		s.sh(where, "sysctl -q net.ipv4.fib_multipath_hash_policy=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0")
	}
	first, other := s.Lab.Addrs(lab.Router)[0], s.Lab.Addrs(lab.Second)[0]
	s.sh(lab.Client, "sysctl -q net.ipv4.fib_multipath_hash_policy=1", fmt.Sprintf("ip route add %s nexthop via %s nexthop via %s", pool, first, other))
	s.Cleanup(func() {
		_ = s.Lab.CommandContext(context.WithoutCancel(s.ctx), lab.Client, "ip", "route", "del", pool).Run()
	})
	s.have(fmt.Sprintf(`{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: first}, spec: {myASN: 64512, peerASN: 65001, peerAddress: %s}}
---
{apiVersion: bellwether.dev/v1beta1, kind: BGPPeer, metadata: {name: second}, spec: {myASN: 64512, peerASN: 65002, peerAddress: %s}}
---
{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: routed}, spec: {advertise: [BGP], addresses: ["%s"]}}
`, first, other, pool))
}

// stopped ends a router.
func stopped(s *scene, router interface{ Stop() error }) {
	if err := router.Stop(); err != nil {
		s.Error(err)
	}
}

// hops is over how many nodes a router forwards to an address.
func (s *scene) hops(router string, a netip.Addr) int {
	s.Helper()
	out, err := s.Lab.CommandContext(s.ctx, router, "ip", "route", "show", a.String()+"/32").Output()
	if err != nil {
		s.Fatal(err)
	}
	return strings.Count(string(out), "via ")
}

// forwarded is how many packets a place has forwarded.
func (s *scene) forwarded(where string) int {
	s.Helper()
	out, err := s.Lab.CommandContext(s.ctx, where, "awk", `/^Ip:/ && $7 ~ /^[0-9]+$/ { print $7 }`, "/proc/net/snmp").Output()
	if err != nil {
		s.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// failure is a request that was not answered.
type failure struct {
	from, to time.Time
	err      error
}

// requests asks for an address again and again, each time over a new connection, until stop is called.
func (s *scene) requests(a netip.Addr) (stop func() (answered int64, failed []failure)) {
	client := s.Lab.HTTPClient(lab.Client, 2*time.Second)
	if transport, is := client.Transport.(*http.Transport); is {
		transport.DisableKeepAlives = true
	}
	var good atomic.Int64
	var mu sync.Mutex
	var bad []failure
	var clients sync.WaitGroup
	quit := make(chan struct{})
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-quit:
					return
				case <-time.After(5 * time.Millisecond):
				}
				from := time.Now()
				if err := fetch(client, a); err != nil {
					mu.Lock()
					bad = append(bad, failure{from, time.Now(), err})
					mu.Unlock()
					continue
				}
				good.Add(1)
			}
		})
	}
	return func() (int64, []failure) {
		close(quit)
		clients.Wait()
		return good.Load(), bad
	}
}

func fetch(client *http.Client, a netip.Addr) error {
	resp, err := client.Get("http://" + netip.AddrPortFrom(a, 80).String() + "/")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// rehashed reports whether a router shared out anew what was open while a request was under way.
func (f failure) rehashed(fibs []*routers.FIB) bool {
	return slices.ContainsFunc(fibs, func(r *routers.FIB) bool { return r.Rehashed(f.from, f.to) })
}

// TestTwoRoutersShareTheTraffic of real Pods, and a node that is drained and comes back costs no request but those that are open in the very
// instant in which a router shares out anew.
func TestTwoRoutersShareTheTraffic(t *testing.T) {
	s := onFullLab(t)
	s.twoRouters("198.18.128.0/24")
	s.web()
	s.have(manifest("web", ""))
	a := s.addresses("web", 1)[0]
	places := []string{lab.Router, lab.Second}
	over := func(n int) {
		t.Helper()
		for _, where := range places {
			s.eventually(patience, fmt.Sprintf("%s forwards over %d nodes", where, n), func() bool { return s.hops(where, a) == n })
		}
	}
	nodes := len(s.Lab.Nodes())
	over(nodes)
	s.reachable(a)
	before := map[string]int{}
	for _, where := range places {
		before[where] = s.forwarded(where)
	}
	var fibs []*routers.FIB
	for _, where := range places {
		fib, err := routers.WatchFIB(s.ctx, s.Lab.NetNS(where))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fib.Stop)
		fibs = append(fibs, fib)
	}
	stop := s.requests(a)
	time.Sleep(3 * time.Second)
	first := s.Lab.Nodes()[0].Name
	s.must("annotate", "node", first, "bellwether.dev/drain=true")
	t.Cleanup(func() {
		_, _ = s.Kubectl(context.WithoutCancel(s.ctx), "annotate", "node", first, "bellwether.dev/drain-")
	})
	over(nodes - 1)
	time.Sleep(time.Second)
	s.must("annotate", "node", first, "bellwether.dev/drain-")
	over(nodes)
	time.Sleep(time.Second)
	answered, failed := stop()
	t.Logf("%d requests answered, %d failed", answered, len(failed))
	if answered < 300 {
		t.Errorf("only %d requests were answered", answered)
	}
	for _, f := range failed {
		if !f.rehashed(fibs) {
			t.Errorf("a request failed after %v, and no router's routes had changed: %v", f.to.Sub(f.from), f.err)
		}
	}
	total, share := 0, map[string]int{}
	for _, where := range places {
		share[where] = s.forwarded(where) - before[where]
		total += share[where]
	}
	for where, n := range share {
		if n < total/5 {
			t.Errorf("%s forwarded %d of %d packets", where, n, total)
		}
	}
}
