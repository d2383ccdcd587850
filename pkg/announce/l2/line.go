package l2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// line is one link that is up, with its sockets and voices. Owned by the Announcer's goroutine, except that readers load
// the owned set. A link that went down, was re-created or got another MAC gets a new line.
type line struct {
	link   cluster.Link
	owned  atomic.Pointer[owned]
	slots  [2]slot // by Family.Index
	voices map[netip.Addr]*voice
	wants  []netip.Addr // to be answered here, sorted; addresses to yield are not in it

	asking          []*voice // inquiring
	doubting        []*voice // asked for while they are announced
	ceding          []*voice // to be asked for, as their new owner may have had them all along
	first           []*voice // waiting for their first announcement, in order
	later           schedule // live voices
	firsts, repeats bucket   // what first and later may send

	recheck bool // slots or voices may not be what wants needs
	regroup bool // the IPv6 addresses have changed since the groups were set
	dirty   bool // the owned set has not the ears of all voices, or the sockets have not been told of them

	exactAt time.Time // when the sockets are told exactly which voices there are; zero: they have been
	told    int       // how many voices there were when the sockets were told of them last
	beat    time.Time // refreshes keep its time
}

// slot is where a line keeps the socket of one family, or the reason why there is none.
type slot struct {
	port     Port
	opened   time.Time
	err      error // why there is no port
	groupErr error // what is missing of the groups
	failures int
	retryAt  time.Time
}

func newLine(link cluster.Link, t *Timings, now time.Time) *line {
	l := &line{link: link, voices: map[netip.Addr]*voice{}, recheck: true, dirty: true, beat: now,
		firsts: newBucket(t.FirstRate, now), repeats: newBucket(t.RepeatRate, now)}
	l.owned.Store(&owned{mac: link.MAC})
	return l
}

// same reports whether a link of a plan is the one that the line's sockets are bound to.
func (l *line) same(link cluster.Link) bool {
	return link.Up && l.link.Index == link.Index && l.link.MAC == link.MAC
}

func (l *line) slot(f cluster.Family) *slot { return &l.slots[f.Index()] }

// families are the two, in the order of slots. An array, so that nobody can change it.
func families() [2]cluster.Family { return [2]cluster.Family{cluster.IPv4, cluster.IPv6} }

// needs reports whether anything of a family is wanted or still answered.
func (l *line) needs(f cluster.Family) bool {
	of := func(a netip.Addr) bool { return cluster.FamilyOf(a) == f }
	if slices.ContainsFunc(l.wants, of) {
		return true
	}
	for a := range l.voices {
		if of(a) {
			return true
		}
	}
	return false
}

// publish gives the readers the ears of all voices.
func (l *line) publish(who stations) {
	set := &owned{mac: l.link.MAC, who: who, addrs: make(map[netip.Addr]*ear, len(l.voices))}
	for a, v := range l.voices {
		set.addrs[a] = v.ear
	}
	l.owned.Store(set)
}

// narrow tells the sockets which addresses there are voices for. What a socket cannot be told is an error of that family.
func (l *line) narrow(exactly bool) (failed [2]error) {
	var addrs [2][]netip.Addr
	for a := range l.voices {
		i := cluster.FamilyOf(a).Index()
		addrs[i] = append(addrs[i], a)
	}
	for i := range l.slots {
		if port := l.slots[i].port; port != nil {
			failed[i] = port.Only(addrs[i], exactly)
		}
	}
	return failed
}

// join sets the solicited-node groups of all IPv6 voices, answered already or not: who asks in the moment after the
// announcement must be heard.
func (l *line) join() {
	s := l.slot(cluster.IPv6)
	if s.port == nil || !l.regroup {
		return
	}
	var addrs []netip.Addr
	for a := range l.voices {
		if a.Is6() {
			addrs = append(addrs, a)
		}
	}
	s.groupErr, l.regroup = s.port.Groups(solicitedNodes(addrs)), false
}

// trouble returns what keeps the line from doing all that is wanted of it.
func (l *line) trouble() error {
	var errs []error
	for _, f := range families() {
		s := l.slot(f)
		if s.err != nil {
			errs = append(errs, fmt.Errorf("link %s: %s: %w", l.link.Name, f, s.err))
		}
		if s.groupErr != nil {
			errs = append(errs, fmt.Errorf("link %s: multicast groups: %w", l.link.Name, s.groupErr))
		}
	}
	return errors.Join(errs...)
}
