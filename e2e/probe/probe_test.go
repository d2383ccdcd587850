package probe

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/labtest"
)

// running runs probes until the function that it returns is called.
func running(t *testing.T, runs ...func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, run := range runs {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func TestProbesOnTheLab(t *testing.T) {
	l := labtest.Up(t, lab.Options{Name: "tprobe", Nodes: 2, Light: true})
	t.Run("asked, answered, and silent without power", func(t *testing.T) { testGap(t, l) })
	t.Run("two machines with one address", func(t *testing.T) { testDoubles(t, l) })
	t.Run("announcements", func(t *testing.T) { testAnnouncements(t, l) })
	t.Run("HTTP", func(t *testing.T) { testHTTP(t, l) })
}

func testGap(t *testing.T, l *lab.Lab) {
	node := l.Nodes()[0]
	const interval = 10 * time.Millisecond
	p, err := NewProber(l.NetNS(lab.Client), "eth0", interval, node.Addrs...)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewObserver(l.NetNS(lab.Switch), "br0", node.Addrs...)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	stop := running(t, p.Run, o.Run)
	time.Sleep(300 * time.Millisecond)
	off := time.Now()
	if err := l.PowerOff(t.Context(), node.Name); err != nil {
		t.Fatal(err)
	}
	time.Sleep(400 * time.Millisecond)
	if err := l.PowerOn(t.Context(), node.Name); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	end := time.Now()
	for _, addr := range node.Addrs {
		for what, record := range map[string]Record{"prober": p.Record(), "observer": o.Record()} {
			r := record.Of(addr).Kinds(ARPReply, NASolicited)
			if macs := r.MACs(); !slices.Equal(macs, []string{"02:00:c6:12:00:0b"}) {
				t.Errorf("%s, %s: answered by %v", what, addr, macs)
			}
			if g := r.LongestGap(begin, off).Length(); g > 100*time.Millisecond {
				t.Errorf("%s, %s: a gap of %s with power on", what, addr, g)
			}
			if g := r.LongestGap(begin, end).Length(); g < 400*time.Millisecond || g > 700*time.Millisecond {
				t.Errorf("%s, %s: the power was off for about 0.4 s, the gap is %s", what, addr, g)
			}
		}
	}
	if d := p.Record().Doubles(); len(d) > 0 {
		t.Errorf("doubles: %v", d)
	}
}

func testDoubles(t *testing.T, l *lab.Lab) {
	addrs := []netip.Addr{netip.MustParseAddr("198.18.0.210"), netip.MustParseAddr("fd00:198:18::210")}
	for _, where := range []string{"node-1", "node-2"} {
		run(t, l, where, "ip", "addr", "add", addrs[0].String()+"/32", "dev", "eth0")
		run(t, l, where, "ip", "addr", "add", addrs[1].String()+"/128", "dev", "eth0", "nodad")
	}
	p, err := NewProber(l.NetNS(lab.Client), "eth0", 20*time.Millisecond, addrs...)
	if err != nil {
		t.Fatal(err)
	}
	stop := running(t, p.Run)
	time.Sleep(300 * time.Millisecond)
	stop()
	for _, addr := range addrs {
		if d := p.Record().Of(addr).Doubles(); len(d) < 5 || len(d[0].MACs) != 2 {
			t.Errorf("%s: two machines have it, doubles are %v", addr, d)
		}
	}
}

func testAnnouncements(t *testing.T, l *lab.Lab) {
	vip := netip.MustParseAddr("198.18.0.211")
	run(t, l, "node-2", "ip", "addr", "add", vip.String()+"/32", "dev", "eth0")
	o, err := NewObserver(l.NetNS(lab.Client), "eth0", vip)
	if err != nil {
		t.Fatal(err)
	}
	run(t, l, lab.Client, "ip", "neigh", "replace", vip.String(), "lladdr", "02:00:00:00:00:01", "nud", "stale", "dev", "eth0")
	stop := running(t, o.Run)
	run(t, l, "node-2", "arping", "-U", "-c", "2", "-w", "2", "-I", "eth0", vip.String())
	time.Sleep(100 * time.Millisecond)
	stop()
	r := o.Record().Kinds(ARPAnnounce)
	if len(r) < 2 || r[0].MAC != "02:00:c6:12:00:0c" {
		t.Errorf("announcements seen: %+v", r)
	}
	n, ok, err := NeighbourOf(l.NetNS(lab.Client), "eth0", vip)
	if err != nil || !ok || n.MAC != "02:00:c6:12:00:0c" {
		t.Errorf("the client's cache holds %+v, %v, %v", n, ok, err)
	}
}

func testHTTP(t *testing.T, l *lab.Lab) {
	b, err := l.AddBackend(t.Context(), lab.BackendSpec{Name: "web", Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l, lab.Client, "ip", "route", "add", b.Addrs[0].String(), "via", "198.18.0.11")
	url := "http://" + netip.AddrPortFrom(b.Addrs[0], 8080).String()
	h := NewHTTP(l.HTTPClient(lab.Client, 200*time.Millisecond), url, 20*time.Millisecond)
	stop := running(t, h.Run)
	time.Sleep(200 * time.Millisecond)
	for _, up := range []bool{false, true} {
		if err := l.SetLink("node-1", up); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	stop()
	g := Outage(h.Outcomes()).Length()
	if g < 400*time.Millisecond || g > 900*time.Millisecond {
		t.Errorf("the link was down for 0.5 s, the outage is %s", g)
	}
	if last := h.Outcomes()[len(h.Outcomes())-1]; last.Answer != "name: web" {
		t.Errorf("the last answer is %+v", last)
	}
}

func run(t *testing.T, l *lab.Lab, where string, args ...string) {
	t.Helper()
	if out, err := l.Command(where, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v in %s: %v: %s", args, where, err, out)
	}
}
