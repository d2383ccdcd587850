package l2

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bellwether-lb/bellwether/pkg/announce"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// walkLinks and walkAddrs are what random plans are made of. Two IPv6 addresses share a solicited-node group.
func walkLinks() []string { return []string{"eth0", "eth1", "eth2"} }

func walkAddrs() []netip.Addr {
	return []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2"), addr("192.0.2.3"), addr("198.51.100.1"),
		addr("2001:db8::1:1"), addr("2001:db8::2:1"), addr("2001:db8:1::2:1"), addr("2001:db8::3:1")}
}

// randomPlan makes a plan with links that may be missing, down, re-created or recoloured, and addresses that may be
// wanted, yielded or absent.
func randomPlan(rng *rand.Rand) announce.L2Plan {
	p := announce.L2Plan{Addrs: map[netip.Addr]announce.L2{}}
	for i, name := range walkLinks() {
		if rng.IntN(8) == 0 {
			continue
		}
		p.Links = append(p.Links, cluster.Link{Name: name, Index: 10*i + 1 + rng.IntN(10)/9, Up: rng.IntN(6) > 0,
			MAC: cluster.MAC{2, 0, 0, 0, byte(i), byte(rng.IntN(10) / 9)}})
	}
	for _, a := range walkAddrs() {
		var links []string
		for _, name := range walkLinks() {
			if rng.IntN(3) > 0 {
				links = append(links, name)
			}
		}
		switch rng.IntN(4) {
		case 0, 1:
			p.Addrs[a] = announce.L2{Links: links, Ask: rng.IntN(3) == 0}
		case 2:
			p.Addrs[a] = announce.L2{Yield: true}
		}
	}
	return p
}

// truth is what the world can see: who answers for what on every segment, and which sockets and groups there are.
func truth(t *testing.T, n *nic) []string {
	t.Helper()
	out := n.world()
	for _, name := range walkLinks() {
		for _, a := range walkAddrs() {
			for _, m := range n.segments[name].ask(t, a, rest) {
				out = append(out, fmt.Sprintf("%s on %s at %s", a, name, m))
			}
		}
	}
	return out
}

// told is what Have says of who answers for what, in the words of truth.
func told(s *speaker, macs map[string]cluster.MAC) []string {
	var out []string
	have := s.Have()
	for _, name := range walkLinks() {
		for _, a := range walkAddrs() {
			if slices.Contains(have.Addrs[a].Links, name) {
				out = append(out, fmt.Sprintf("%s on %s at %s", a, name, macs[name]))
			}
		}
	}
	return out
}

func walkSegments() map[string]*lan {
	m := map[string]*lan{}
	for _, name := range walkLinks() {
		m[name] = newLAN()
	}
	return m
}

func macsOf(p announce.L2Plan) map[string]cluster.MAC {
	m := map[string]cluster.MAC{}
	for _, l := range p.Links {
		m[l.Name] = l.MAC
	}
	return m
}

// TestLaw13 walks through random wants: after each, and once the yields are over, the world is what a fresh Announcer
// makes of the same want.
func TestLaw13(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 13))
			walker := startSpeaker(t, newNIC(walkSegments()), Timings{})
			for step := range 25 {
				p := randomPlan(rng)
				walker.set(t, p)
				for range rng.IntN(3) { // some more, without a rest
					time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
					p = randomPlan(rng)
					walker.set(t, p)
				}
				if got, want := told(walker, macsOf(p)), answersOnly(truth(t, walker.nic)); !slices.Equal(got, want) {
					t.Fatalf("seed %d, step %d: have says\n%q, true is\n%q", seed, step, got, want)
				}
				time.Sleep(3100 * time.Millisecond)
				fresh := startSpeaker(t, newNIC(walkSegments()), Timings{})
				fresh.set(t, p)
				time.Sleep(100 * time.Millisecond) // some is asked for first
				if got, want := truth(t, walker.nic), truth(t, fresh.nic); !slices.Equal(got, want) {
					t.Fatalf("seed %d, step %d: after the walk\n%q, afresh\n%q\nplan %+v", seed, step, got, want, p)
				}
				got, want := walker.Have(), fresh.Have()
				if len(got.Addrs) != len(want.Addrs) {
					t.Fatalf("seed %d, step %d: have\n%+v, afresh\n%+v", seed, step, got, want)
				}
				for a, w := range want.Addrs {
					g := got.Addrs[a]
					if !slices.Equal(g.Links, w.Links) || !slices.Equal(g.Missing, w.Missing) || g.Yielding != w.Yielding {
						t.Fatalf("seed %d, step %d: have of %s\n%+v, afresh\n%+v", seed, step, a, g, w)
					}
				}
				fresh.stop()
			}
		})
	}
}

func answersOnly(truth []string) []string {
	return slices.DeleteFunc(slices.Clone(truth), func(s string) bool { return s[:3] == "eth" })
}

// TestLaw14 injects faults while it walks: whenever things are at rest, have says what is true, and once the faults are
// over, all that is wanted is there.
func TestLaw14(t *testing.T) {
	reads := []error{unix.ENETDOWN, unix.ENODEV, unix.EBADF, unix.ENOBUFS, unix.EINTR, errors.New("no idea")}
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 14))
			n := newNIC(walkSegments())
			s := startSpeaker(t, n, Timings{})
			var p announce.L2Plan
			for step := range 40 {
				name := walkLinks()[rng.IntN(3)]
				switch rng.IntN(7) {
				case 0:
					n.breakPorts(name, reads[rng.IntN(len(reads))])
				case 1:
					n.set(n.noOpen, name, pick(rng, errors.New("cannot open")))
				case 2:
					n.set(n.noSend, name, pick(rng, unix.ENXIO))
				case 3:
					n.set(n.noGroups, name, pick(rng, errors.New("cannot join")))
				case 4:
					n.segments[name].send(nil, claimOf(walkAddrs()[rng.IntN(8)], otherMAC))
				default:
					p = randomPlan(rng)
					_, _ = s.Set(t.Context(), p) // the error is the faults'
				}
				time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
				time.Sleep(2 * tick)
				synctest.Wait()
				// Nothing can be sent on a link whose sending fails, so nothing is answered; have may not know it yet.
				if anyError(n.noSend) {
					continue
				}
				if got, want := told(s, macsOf(p)), answersOnly(truth(t, n)); !slices.Equal(got, want) {
					t.Fatalf("seed %d, step %d: have says\n%q, true is\n%q", seed, step, got, want)
				}
			}
			for _, name := range walkLinks() {
				n.set(n.noOpen, name, nil)
				n.set(n.noSend, name, nil)
				n.set(n.noGroups, name, nil)
			}
			time.Sleep(13 * time.Second)
			s.set(t, p)
			fresh := startSpeaker(t, newNIC(walkSegments()), Timings{})
			fresh.set(t, p)
			time.Sleep(100 * time.Millisecond)
			if got, want := truth(t, n), truth(t, fresh.nic); !slices.Equal(got, want) {
				t.Fatalf("seed %d: after the faults\n%q, afresh\n%q", seed, got, want)
			}
		})
	}
}

func pick(rng *rand.Rand, err error) error {
	if rng.IntN(2) == 0 {
		return nil
	}
	return err
}

func anyError(m map[string]error) bool {
	for _, err := range m {
		if err != nil {
			return true
		}
	}
	return false
}
