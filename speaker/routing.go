package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sync/errgroup"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/announce/bfd"
	"github.com/bellwether-lb/bellwether/pkg/announce/bgp"
	"github.com/bellwether-lb/bellwether/pkg/announce/discovery"
	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// routing prepares what speaks with routers.
func (s *speaker) routing(log *slog.Logger) error {
	engine, err := bfd.New(log, s.dropped, s.routers.Ring)
	if err != nil {
		return fmt.Errorf("preparing BFD: %w", err)
	}
	s.bfd = engine
	s.discovery = discovery.New(log, s.routers.Ring)
	s.bgp = bgp.New(bgp.Config{Log: log, BFD: engine, Routers: s.discovery, Password: s.password, Poke: s.routers, Changed: s.changed})
	return nil
}

// password returns what the Secret of a BGPPeer has.
func (s *speaker) password(secret string) (string, error) {
	s.secret.Ring()
	if !s.passwords.Synced() {
		return "", fmt.Errorf("the Secret %s has not been read yet", secret)
	}
	password, known, where := "", false, "Bellwether's namespace"
	for _, r := range s.passwords.Records() {
		if r.Name == secret {
			password, known = r.Value, true
		}
	}
	if theirs := s.objects.MetalLB; theirs != nil && password == "" {
		where += " or MetalLB's"
		if other, has := theirs.Password(secret); has {
			password, known = other, true
		} else if !theirs.PasswordsSynced() {
			return "", fmt.Errorf("the Secret %s has not been read yet", secret)
		}
	}
	if n := len(password); known && (n == 0 || n > longestPassword) {
		return "", fmt.Errorf("the password in the Secret %s has %d bytes: give it 1 to %d", secret, n, longestPassword)
	}
	if known {
		return password, nil
	}
	return "", fmt.Errorf("there is no Secret %s of type kubernetes.io/basic-auth in %s: create it, or correct passwordSecret", secret, where)
}

// longestPassword is what TCP_MD5SIG takes, tcp(7).
const longestPassword = 80

// watchPasswords begins when a peer has one.
func (s *speaker) watchPasswords(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.secret:
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.passwords.Run(ctx) })
	if theirs := s.objects.MetalLB; theirs != nil {
		group.Go(func() error { return theirs.RunPasswords(ctx) })
		group.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-theirs.Rotated:
					s.routers.Ring()
				}
			}
		})
	}
	return group.Wait()
}

// routesDrained reports whether every session that is to end has been closed.
func (s *speaker) routesDrained() bool {
	plan := s.planned.Load()
	return plan == nil || s.bgp.Quiet(plan.BGP)
}

// bgpStatus says what the Speaker object shall say of BGP.
func (s *speaker) bgpStatus() v1beta1.SpeakerBGP {
	var status v1beta1.SpeakerBGP
	have := s.bgp.Have()
	for _, name := range slices.Sorted(maps.Keys(have)) {
		session := have[name]
		told := v1beta1.SpeakerBGPSession{Peer: name, State: session.State, Since: metav1.NewTime(session.Since.Truncate(0)),
			Advertised: int32(session.Advertised), LastError: session.Problem}
		if session.State == bgp.Established {
			status.Established++
		}
		if session.BFD != nil {
			told.BFD = session.BFD.State.String()
			if session.BFD.State == bfd.Up {
				status.BFDUp++
			}
			if session.BFD.Problem != "" && told.LastError == "" {
				told.LastError = "BFD: " + session.BFD.Problem
			}
		}
		status.Sessions = append(status.Sessions, told)
	}
	status.Local = s.routedLocal(have)
	return status
}

// routedLocal are the addresses of Services with TrafficLocal that some router has been told.
func (s *speaker) routedLocal(have map[string]bgp.State) (addrs []string) {
	plan, view := s.planned.Load(), s.seen.Load()
	if plan == nil || view == nil {
		return nil
	}
	for i := range view.Services {
		service := &view.Services[i]
		if service.TrafficPolicy != cluster.TrafficLocal {
			continue
		}
		for _, v := range plan.Why[service.Key] {
			if v.BGP != nil && slices.ContainsFunc(v.BGP.Peers, func(p string) bool { return have[p].State == bgp.Established }) {
				addrs = append(addrs, v.Addr.String())
			}
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

// tellSessions records sessions with routers that have come up, or are no more, as events of their BGPPeers.
func (s *speaker) tellSessions(before, now map[string]bgp.State) {
	for name, is := range now {
		was := before[name]
		up, wasUp := is.State == bgp.Established, was.State == bgp.Established
		switch {
		case up && !wasUp:
			s.sessionEvent(name, corev1.EventTypeNormal, "SessionEstablished", fmt.Sprintf("%s has a session with the router, of AS %d", s.node, is.PeerASN))
		case up && is.Flaps > was.Flaps:
			s.sessionEvent(name, corev1.EventTypeWarning, "SessionLost", fmt.Sprintf("%s lost its session with the router, and has one again", s.node))
		case wasUp && !up && is.Closed:
			s.sessionEvent(name, corev1.EventTypeNormal, "SessionClosed", fmt.Sprintf("%s has closed its session with the router in order", s.node))
		case wasUp && !up:
			s.sessionEvent(name, corev1.EventTypeWarning, "SessionLost", fmt.Sprintf("%s lost its session with the router: %s", s.node, cmp.Or(is.Problem, "it is opened anew")))
		}
	}
}

func (s *speaker) sessionEvent(peer, kind, reason, text string) {
	for _, r := range s.objects.BGPPeers.Records() {
		if r.Value.Name == peer {
			s.events.Peer(peer, r.Value.UID, kind, reason, text)
		}
	}
}
