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

// await waits until something has been seen often enough: how long that takes
// is the machine's affair.
func await(t *testing.T, what string, enough func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !enough(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
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
	stop := running(t, p.Run, o.Run)
	// answers counts what the one who saw least saw of an address since then.
	answers := func(since time.Time) int {
		least := 1 << 30
		for _, addr := range node.Addrs {
			for _, r := range []Record{p.Record(), o.Record()} {
				least = min(least, len(r.Of(addr).Kinds(ARPReply, NASolicited).Between(since, time.Now())))
			}
		}
		return least
	}
	begin := time.Now()
	await(t, "answers", func() bool { return answers(begin) >= 20 })
	if err := l.PowerOff(t.Context(), node.Name); err != nil {
		t.Fatal(err)
	}
	off := time.Now()
	asked := p.Asks()
	await(t, "questions without answers", func() bool { return p.Asks() >= asked+100 })
	on := time.Now()
	if err := l.PowerOn(t.Context(), node.Name); err != nil {
		t.Fatal(err)
	}
	again := time.Now()
	await(t, "answers after power-on", func() bool { return answers(again) >= 20 })
	stop()
	end := time.Now()
	for _, addr := range node.Addrs {
		for what, record := range map[string]Record{"prober": p.Record(), "observer": o.Record()} {
			r := record.Of(addr).Kinds(ARPReply, NASolicited)
			if macs := r.MACs(); !slices.Equal(macs, []string{"02:00:c6:12:00:0b"}) {
				t.Errorf("%s, %s: answered by %v", what, addr, macs)
			}
			// An answer may lie unread for a moment.
			g := r.LongestGap(begin, end)
			if g.From.After(off.Add(100*time.Millisecond)) || g.To.Before(on) {
				t.Errorf("%s, %s: the power was off from %s to %s, the gap is from %s to %s", what, addr, off, on, g.From, g.To)
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
	for _, addr := range addrs {
		await(t, "double answers", func() bool { return len(p.Record().Of(addr).Doubles()) >= 5 })
	}
	stop()
	for _, addr := range addrs {
		if d := p.Record().Of(addr).Doubles(); len(d[0].MACs) != 2 {
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
	await(t, "announcements", func() bool { return len(o.Record().Kinds(ARPAnnounce)) >= 2 })
	stop()
	r := o.Record().Kinds(ARPAnnounce)
	if r[0].MAC != "02:00:c6:12:00:0c" {
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
	// ends reports whether the last requests, n of them, ended so.
	ends := func(n int, ok bool) bool {
		list := h.Outcomes()
		return len(list) >= n && !slices.ContainsFunc(list[len(list)-n:], func(o Outcome) bool { return o.OK() != ok })
	}
	await(t, "answers", func() bool { return ends(5, true) })
	if err := l.SetLink("node-1", false); err != nil {
		t.Fatal(err)
	}
	down := time.Now()
	await(t, "failures", func() bool { return ends(5, false) })
	up := time.Now()
	if err := l.SetLink("node-1", true); err != nil {
		t.Fatal(err)
	}
	await(t, "answers again", func() bool { return ends(5, true) })
	stop()
	if g := Outage(h.Outcomes()); g.From.After(down) || g.To.Before(up.Add(-200*time.Millisecond)) {
		t.Errorf("the link was down from %s to %s, the outage is from %s to %s", down, up, g.From, g.To)
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
