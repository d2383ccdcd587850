package scenarios

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/probe"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// trial is a segment on which addresses are asked for all the time.
type trial struct {
	*ledgered
	addrs  []netip.Addr // two of each family and more, announced
	owners map[netip.Addr]string
	stop   func() probe.Record
	prober *probe.Prober
	from   time.Time
}

// tried has so many addresses announced on the segment, and asks for each at that pace.
func tried(t *testing.T, n int, every time.Duration) *trial {
	t.Helper()
	s := &trial{ledgered: onSegment(t), owners: map[netip.Addr]string{}}
	s.calm()
	s.addrs = values(s.several(n))
	for _, a := range s.addrs {
		s.owners[a], _ = s.owner(a, "")
	}
	time.Sleep(2 * time.Second) // the first announcements are over
	s.stop, s.prober = s.probing(every, s.addrs...)
	s.from = time.Now()
	time.Sleep(300 * time.Millisecond)
	return s
}

// calm waits until every speaker is ready and hears all others.
func (s *ledgered) calm() {
	s.Helper()
	for _, n := range s.Lab.Nodes() {
		s.eventually(patience, n.Name+" is ready and hears everybody", func() bool {
			return s.agree(n.Name) == "True AllHeard" && s.must("get", "speaker", n.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`) == "True"
		})
	}
}

// victim is a node that owns addresses.
func (s *trial) victim() (node string, owned []netip.Addr) {
	for _, a := range s.addrs {
		if s.owners[a] == s.owners[s.addrs[0]] {
			owned = append(owned, a)
		}
	}
	return s.owners[s.addrs[0]], owned
}

func (s *ledgered) speaker(node string) *lab.Process {
	s.Helper()
	p, err := s.Lab.Process(node, "speaker")
	s.act(err)
	return p
}

// taken waits until another station than a node's answers the client for its addresses. What the node's own Speaker says may be old.
func (s *trial) taken(mac string, owned []netip.Addr) {
	s.Helper()
	for _, a := range owned {
		s.eventually(patience, "another answers for "+a.String(), func() bool {
			of := s.prober.Record().Of(a)
			return len(of) > 0 && of[len(of)-1].MAC != mac
		})
	}
}

// hardware is the address of a node's link.
func (s *trial) hardware(node string) string {
	s.Helper()
	mac, err := s.MAC(s.ctx, node)
	s.act(err)
	return mac
}

// later has something done at the end of the test, or before if it is called.
func (s *trial) later(do func()) (now func()) {
	now = sync.OnceFunc(do)
	s.Cleanup(now)
	return now
}

// back waits until all addresses are with the nodes that they were with at first.
func (s *trial) back() {
	s.Helper()
	s.calm()
	for a, node := range s.owners {
		s.eventually(patience, node+" owns "+a.String()+" again", func() bool {
			owner, err := s.Owner(s.ctx, a)
			return err == nil && owner == node
		})
	}
	time.Sleep(3500 * time.Millisecond) // longer than an old owner answers that hears no new one
}

// verdict checks that nobody was without an answer for longer than limit, and that no question was answered by two.
func (s *trial) verdict(limit time.Duration) {
	s.Helper()
	record := s.stop()
	var worst time.Duration
	for _, a := range s.addrs {
		g := gap(record, a, s.from)
		worst = max(worst, g)
		if g > limit {
			s.Errorf("nobody answered for %s for %v, want at most %v", a, g.Round(time.Millisecond), limit)
		}
	}
	s.answeredOnce(record, s.prober)
	s.Logf("%d answers; the longest time without one was %v", len(record), worst.Round(time.Millisecond))
}

// outage is how long the loss of an owner may be felt. It takes a quarter of a second on a machine that has nothing else to do.
const outage = 2 * time.Second

// TestWhatBreaksIsTakenOverAndComesBack breaks the owner in many ways, mends it, and watches from the client.
func TestWhatBreaksIsTakenOverAndComesBack(t *testing.T) {
	mac := net.HardwareAddr{0x02, 0x01, 198, 18, 0, 99}
	for _, c := range []struct {
		name         string
		strike, mend func(s *trial, node string)
	}{
		{name: "the carrier is lost",
			strike: func(s *trial, node string) { s.act(s.Lab.SetLink(node, false)) },
			mend:   func(s *trial, node string) { s.act(s.Lab.SetLink(node, true)) }},
		{name: "the interface is taken down",
			strike: func(s *trial, node string) { s.act(s.Lab.SetInterface(node, false)) },
			mend: func(s *trial, node string) {
				s.act(s.Lab.SetInterface(node, true))
				s.act(s.Lab.Readdress(node))
			}},
		{name: "the interface is made anew under its name",
			strike: func(s *trial, node string) { s.act(s.Lab.Unplug(node)) },
			mend: func(s *trial, node string) {
				s.act(s.Lab.Plug(node, mac))
			}},
		{name: "the node's addresses are taken away",
			strike: func(s *trial, node string) {
				for _, a := range s.Lab.Addrs(node) {
					bits := 16
					if a.Is6() {
						bits = 64
					}
					out, err := s.Lab.CommandContext(s.ctx, node, "ip", "address", "del", netip.PrefixFrom(a, bits).String(), "dev", "eth0").CombinedOutput()
					if err != nil {
						s.Fatalf("%v: %s", err, out)
					}
				}
			},
			mend: func(s *trial, node string) { s.act(s.Lab.Readdress(node)) }},
		{name: "its speaker is killed",
			strike: func(s *trial, node string) { s.act(s.speaker(node).Kill()) },
			mend:   func(s *trial, node string) { s.act(s.Lab.Restart(s.speaker(node))) }},
		{name: "its speaker is stopped for five seconds",
			strike: func(s *trial, node string) { s.act(s.speaker(node).Pause()) },
			mend: func(s *trial, node string) {
				time.Sleep(5 * time.Second)
				s.act(s.speaker(node).Resume())
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := tried(t, 6, 5*time.Millisecond)
			node, owned := s.victim()
			mac := s.hardware(node)
			c.strike(s, node)
			mend := s.later(func() { c.mend(s, node) })
			s.taken(mac, owned)
			time.Sleep(time.Second)
			mend()
			s.back()
			s.verdict(outage)
		})
	}
}

// TestAFailoverWithoutTheAPIServer: who is alive is found out without it.
func TestAFailoverWithoutTheAPIServer(t *testing.T) {
	s := tried(t, 6, 5*time.Millisecond)
	server, err := s.Lab.Process(lab.Control, lab.APIServer)
	s.act(err)
	node, _ := s.victim()
	s.unwatch() // an API server that has started again lets no watch go on from before
	s.act(server.Kill())
	time.Sleep(20 * time.Second)
	s.act(s.Lab.PowerOff(s.ctx, node))
	time.Sleep(40 * time.Second)
	s.act(s.Lab.Restart(server))
	s.act(s.Lab.WaitAPIServer(s.ctx))
	s.watch()
	s.act(s.Lab.PowerOn(s.ctx, node))
	s.back()
	s.verdict(outage)
}

// TestTheClockIsSet, by two seconds and back, in both directions: to speakers that measures how late they are by.
func TestTheClockIsSet(t *testing.T) {
	s := tried(t, 6, 5*time.Millisecond)
	for _, by := range []time.Duration{clockJump, -clockJump} {
		s.act(setClock(by))
		mend := s.later(func() {
			if err := setClock(-by); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		mend()
		time.Sleep(2 * time.Second)
	}
	for _, n := range s.Lab.Nodes() {
		if got := s.agree(n.Name); got != "True AllHeard" {
			t.Errorf("%s says %s", n.Name, got)
		}
	}
	s.back()
	// The clock of the probes was set as well, so what they say of time is off: who answered counts.
	record := s.stop()
	for a, node := range s.owners {
		mac, err := s.MAC(s.ctx, node)
		s.act(err)
		if macs := record.Of(a).MACs(); !slices.Equal(macs, []string{mac}) {
			t.Errorf("%s was answered for by %v, want only its owner %s", a, macs, mac)
		}
	}
	// A question that is under way in the very moment is taken for a late one.
	if lost := len(s.prober.Unanswered()); lost > 8*len(s.addrs) {
		t.Errorf("%d of %d questions were not answered", lost, s.prober.Asks())
	}
}

// TestAWrongGossipKeyIsToldAndDoesNoHarm: a speaker reads another Secret than the others. They do not believe each other, but the wire.
func TestAWrongGossipKeyIsToldAndDoesNoHarm(t *testing.T) {
	s := tried(t, 6, 10*time.Millisecond)
	node, _ := s.victim()
	secret := s.must("-n", product.Namespace, "get", "secret", "bellwether-gossip", "-o", "jsonpath={.data.secret}")
	write := func(data string) {
		s.must("-n", product.Namespace, "patch", "secret", "bellwether-gossip", "--type=merge", "-p", fmt.Sprintf(`{"data":{"secret":%q}}`, data))
	}
	restart := func() {
		s.act(s.speaker(node).Stop(20 * time.Second))
		s.act(s.Lab.Restart(s.speaker(node)))
	}
	write("d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXkgd3Jvbmch")
	mended := false
	mend := func() {
		if !mended {
			mended = true
			write(secret)
			restart()
		}
	}
	t.Cleanup(mend)
	restart()
	for _, n := range s.Lab.Nodes() {
		s.eventually(patience, n.Name+" says that there is another key", func() bool { return s.agree(n.Name) == "False OtherGossipKey" })
	}
	if log := s.speaker(node).LogTail(200); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "another gossip key") {
		t.Errorf("the log does not say so:\n%s", log)
	}
	time.Sleep(5 * time.Second)
	mend()
	s.back()
	s.verdict(outage)
}
