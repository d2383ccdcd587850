package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
)

// Prober asks for addresses on a link, over and over, and records the answers:
// ARP who-has for IPv4 addresses, neighbour solicitations for IPv6 ones.
type Prober struct {
	tap      *tap
	interval time.Duration
	targets  []netip.Addr
	frames   map[netip.Addr][]byte // the question for each target

	mu    sync.Mutex
	asked map[netip.Addr]time.Time
	seen  Record
	asks  int
}

// NewProber opens a link of a namespace for asking each target once per
// interval. The link needs an address of each target's family to ask from.
func NewProber(netns, link string, interval time.Duration, targets ...netip.Addr) (*Prober, error) {
	if len(targets) == 0 || interval <= 0 {
		return nil, errors.New("a prober needs an interval and something to ask for")
	}
	t, err := openTap(netns, link, false)
	if err != nil {
		return nil, err
	}
	p := &Prober{
		tap: t, interval: interval, targets: targets,
		frames: map[netip.Addr][]byte{}, asked: map[netip.Addr]time.Time{},
	}
	for _, target := range targets {
		if p.frames[target], err = t.question(target); err != nil {
			t.close()
			return nil, fmt.Errorf("prepare to ask for %s: %w", target, err)
		}
	}
	return p, nil
}

// Run asks and records until ctx ends, and closes the sockets. The questions
// are spread evenly over the interval.
func (p *Prober) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan error, 1)
	go func() { watched <- p.tap.watch(ctx, p.note) }()
	tick := time.NewTicker(max(p.interval/time.Duration(len(p.targets)), time.Microsecond))
	defer tick.Stop()
	for i := 0; ; i++ {
		if err := p.ask(p.targets[i%len(p.targets)]); err != nil && ctx.Err() == nil {
			cancel()
			return errors.Join(err, <-watched)
		}
		select {
		case <-ctx.Done():
			return <-watched
		case err := <-watched:
			return err
		case <-tick.C:
		}
	}
}

// Record is what was answered so far.
func (p *Prober) Record() Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// Asks is how many questions were sent so far.
func (p *Prober) Asks() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asks
}

func (p *Prober) ask(target netip.Addr) error {
	conn := p.tap.arp
	if target.Is6() {
		conn = p.tap.ipv6
	}
	// Noted first: on this machine the answer may be back before the send is.
	p.mu.Lock()
	p.asked[target] = time.Now()
	p.asks++
	p.mu.Unlock()
	frame := p.frames[target]
	if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		return fmt.Errorf("ask for %s: %w", target, err)
	}
	return nil
}

// note records an answer. Announcements are no answers.
func (p *Prober) note(s Sighting) {
	if s.Kind != ARPReply && s.Kind != NASolicited {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var known bool
	if s.Asked, known = p.asked[s.Addr]; known {
		p.seen = append(p.seen, s)
	}
}

// question builds the frame that asks for a target.
func (t *tap) question(target netip.Addr) ([]byte, error) {
	from, err := t.source(target)
	if err != nil {
		return nil, err
	}
	if target.Is4() {
		return t.whoHas(from, target)
	}
	return t.solicitation(from, target)
}

// source picks the link's address to ask from: of the target's family, and not
// link-local when there is another.
func (t *tap) source(target netip.Addr) (netip.Addr, error) {
	var best netip.Addr
	for _, a := range t.addrs {
		if a.Is4() == target.Is4() && (!best.IsValid() || best.IsLinkLocalUnicast()) {
			best = a
		}
	}
	if !best.IsValid() {
		return best, fmt.Errorf("%s has no address of its family", t.ifi.Name)
	}
	return best, nil
}

func (t *tap) whoHas(from, target netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(arp.OperationRequest, t.ifi.HardwareAddr, from, make(net.HardwareAddr, 6), target)
	if err != nil {
		return nil, err
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return (&ethernet.Frame{
		Destination: ethernet.Broadcast, Source: t.ifi.HardwareAddr, EtherType: ethernet.EtherTypeARP, Payload: payload,
	}).MarshalBinary()
}

// solicitation builds a multicast neighbour solicitation (RFC 4861 section 4.3).
func (t *tap) solicitation(from, target netip.Addr) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(target)
	if err != nil {
		return nil, err
	}
	body, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: t.ifi.HardwareAddr}},
	}, from, group)
	if err != nil {
		return nil, err
	}
	ip := make([]byte, ipv6HeaderLen, ipv6HeaderLen+len(body))
	ip[0] = 6 << 4
	binary.BigEndian.PutUint16(ip[4:], uint16(len(body)))
	ip[nextHeaderAt], ip[hopLimitAt] = protocolICMPv6, 255
	copy(ip[8:], from.AsSlice())
	copy(ip[24:], group.AsSlice())
	g := group.As16()
	return (&ethernet.Frame{
		Destination: net.HardwareAddr{0x33, 0x33, g[12], g[13], g[14], g[15]}, // RFC 2464 section 7
		Source:      t.ifi.HardwareAddr, EtherType: ethernet.EtherTypeIPv6, Payload: append(ip, body...),
	}).MarshalBinary()
}
