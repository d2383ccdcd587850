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

// numbers is how many questions for one address are told apart. It is less
// than a kernel's neighbour table holds, as each is an address of an asker.
const numbers = 256

// grace is how long the last questions are given to be answered.
const grace = 250 * time.Millisecond

// Prober asks for addresses on a link, over and over, and records the answers:
// ARP who-has for IPv4 addresses, neighbour solicitations for IPv6 ones. Each
// question is asked from another address, which its answer names: so an answer
// that comes late is not taken for one to a later question.
type Prober struct {
	tap      *tap
	interval time.Duration
	targets  []netip.Addr
	own      map[netip.Addr]netip.Addr // the link's address to ask for each target from

	mu        sync.Mutex
	questions map[netip.Addr][]question // at their numbers, the newest of each number
	seen      Record
	announced Record
	asks      int
	lost      []Question // of those that are not in questions any more
}

// Question is one that was asked.
type Question struct {
	Addr  netip.Addr
	Asked time.Time
}

// question is what is known of one.
type question struct {
	asked    time.Time // zero: there was none yet
	answered bool
}

func (q question) open() bool { return !q.asked.IsZero() && !q.answered }

// NewProber opens a link of a namespace for asking each target once per
// interval. The link needs an address of each target's family.
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
		own: map[netip.Addr]netip.Addr{}, questions: map[netip.Addr][]question{},
	}
	for _, target := range targets {
		p.questions[target] = make([]question, numbers)
		if p.own[target], err = t.source(target); err != nil {
			t.close()
			return nil, fmt.Errorf("prepare to ask for %s: %w", target, err)
		}
	}
	return p, nil
}

// Run asks and records until ctx ends, waits a moment for the last answers, and
// closes the sockets. The questions are spread evenly over the interval.
func (p *Prober) Run(ctx context.Context) error {
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	watched := make(chan error, 1)
	go func() { watched <- p.tap.watch(listening, p.note) }()
	tick := time.NewTicker(max(p.interval/time.Duration(len(p.targets)), time.Microsecond))
	defer tick.Stop()
	for i := 0; ; i++ {
		if err := p.ask(p.targets[i%len(p.targets)], i/len(p.targets)%numbers); err != nil && ctx.Err() == nil {
			stop()
			return errors.Join(err, <-watched)
		}
		select {
		case <-ctx.Done():
			p.linger(time.Now())
			stop()
			return <-watched
		case err := <-watched:
			return err
		case <-tick.C:
		}
	}
}

// linger waits until the questions that were asked just before the end are
// answered, or have had their time.
func (p *Prober) linger(end time.Time) {
	for time.Since(end) < grace && len(p.openSince(end.Add(-grace))) > 0 {
		time.Sleep(time.Millisecond)
	}
}

func (p *Prober) openSince(since time.Time) (open []Question) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for addr, list := range p.questions {
		for _, q := range list {
			if q.open() && !q.asked.Before(since) {
				open = append(open, Question{addr, q.asked})
			}
		}
	}
	return open
}

// Record is what was answered so far.
func (p *Prober) Record() Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// Announcements are what was announced so far of what is asked for.
func (p *Prober) Announcements() Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.announced)
}

// Asks is how many questions were sent so far.
func (p *Prober) Asks() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asks
}

// Unanswered lists the questions that nobody has answered so far, in the order
// they were asked. Once Run has returned, those are the ones that were lost.
func (p *Prober) Unanswered() []Question {
	open := p.openSince(time.Time{})
	p.mu.Lock()
	defer p.mu.Unlock()
	all := append(slices.Clone(p.lost), open...)
	slices.SortFunc(all, func(a, b Question) int { return a.Asked.Compare(b.Asked) })
	return all
}

func (p *Prober) ask(target netip.Addr, number int) error {
	conn := p.tap.arp
	if target.Is6() {
		conn = p.tap.ipv6
	}
	frame, err := p.tap.question(asker(p.own[target], number), target)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", target, err)
	}
	// Noted first: on this machine the answer may be back before the send is.
	p.mu.Lock()
	q := &p.questions[target][number]
	if q.open() {
		p.lost = append(p.lost, Question{target, q.asked})
	}
	*q = question{asked: time.Now()}
	p.asks++
	p.mu.Unlock()
	if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		return fmt.Errorf("ask for %s: %w", target, err)
	}
	return nil
}

// note records an answer, or an announcement.
func (p *Prober) note(s Sighting) {
	number, ours := numberOf(s.to)
	p.mu.Lock()
	defer p.mu.Unlock()
	list, known := p.questions[s.Addr]
	if known && (s.Kind == ARPAnnounce || s.Kind == NAUnsolicited) {
		p.announced = append(p.announced, s)
		return
	}
	if !ours || !known || list[number].asked.IsZero() {
		return
	}
	list[number].answered = true
	s.Asked = list[number].asked
	p.seen = append(p.seen, s)
}

// asker is the address that the question of a number is asked from: one on the
// lab's segment that no machine has.
func asker(own netip.Addr, number int) netip.Addr {
	if own.Is4() {
		b := own.As4()
		b[2], b[3] = askers4, byte(number)
		return netip.AddrFrom4(b)
	}
	b := own.As16()
	copy(b[8:], askers6)
	b[15] = byte(number)
	return netip.AddrFrom16(b)
}

// askers4 is the third byte of the askers' IPv4 addresses, 198.18.254.0/24, and
// askers6 what the interface identifiers of the others begin with.
const (
	askers4 = 254
	askers6 = "asking\x00"
)

// numberOf is the number of the question that an answer is sent to.
func numberOf(to netip.Addr) (number int, ours bool) {
	switch {
	case to.Is4():
		b := to.As4()
		return int(b[3]), b[2] == askers4
	case to.Is6():
		b := to.As16()
		return int(b[15]), string(b[8:15]) == askers6
	default:
		return 0, false
	}
}

// question builds the frame that asks for a target.
func (t *tap) question(from, target netip.Addr) ([]byte, error) {
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
