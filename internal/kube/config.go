package kube

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/internal/reconcile"
	"github.com/bellwether-lb/bellwether/pkg/config"
	"github.com/bellwether-lb/bellwether/pkg/config/metallb"
)

// ConfigSource follows all objects that a config.Config is parsed from.
type ConfigSource struct {
	Pools             *Source[v1beta1.IPAddressPool]
	L2Advertisements  *Source[v1beta1.L2Advertisement]
	BGPPeers          *Source[v1beta1.BGPPeer]
	BGPAdvertisements *Source[v1beta1.BGPAdvertisement]
	BFDProfiles       *Source[v1beta1.BFDProfile]
	Communities       *Source[v1beta1.Community]
	// MetalLB follows those of MetalLB besides; nil where they are not asked for. Of two of one kind and name ours counts.
	MetalLB *MetalLBSource
	notes   atomic.Pointer[[]metallb.Note]
}

// NewConfigSource prepares to follow them; it sends nothing yet. metalLB is the namespace of MetalLB's objects, "" for none.
func NewConfigSource(c *Client, metalLB string, poke reconcile.Poke, log *slog.Logger) (*ConfigSource, error) {
	var s ConfigSource
	var errs [7]error
	if metalLB != "" {
		s.MetalLB, errs[6] = NewMetalLBSource(c, metalLB, poke, log)
	}
	s.Pools, errs[0] = NewSource(c.Pools, &v1beta1.IPAddressPool{}, Bare[v1beta1.IPAddressPool], poke)
	s.L2Advertisements, errs[1] = NewSource(c.L2, &v1beta1.L2Advertisement{}, Bare[v1beta1.L2Advertisement], poke)
	s.BGPPeers, errs[2] = NewSource(c.Peers, &v1beta1.BGPPeer{}, Bare[v1beta1.BGPPeer], poke)
	s.BGPAdvertisements, errs[3] = NewSource(c.BGP, &v1beta1.BGPAdvertisement{}, Bare[v1beta1.BGPAdvertisement], poke)
	s.BFDProfiles, errs[4] = NewSource(c.Profiles, &v1beta1.BFDProfile{}, Bare[v1beta1.BFDProfile], poke)
	s.Communities, errs[5] = NewSource(c.Communities, &v1beta1.Community{}, Bare[v1beta1.Community], poke)
	return &s, errors.Join(errs[:]...)
}

// IgnoreStatus lets no change of a status alone ring the poke. It is called before Run.
func (s *ConfigSource) IgnoreStatus() {
	s.Pools.Unless(sameSpec)
	s.L2Advertisements.Unless(sameSpec)
	s.BGPPeers.Unless(sameSpec)
	s.BGPAdvertisements.Unless(sameSpec)
	s.BFDProfiles.Unless(sameSpec)
	s.Communities.Unless(sameSpec)
}

// sameSpec reports whether all is the same in two versions of an object that is read beside its status.
func sameSpec[T any, P interface {
	*T
	metav1.Object
}](was, now T) bool {
	a, b := P(&was), P(&now)
	return a.GetGeneration() == b.GetGeneration() && maps.Equal(a.GetLabels(), b.GetLabels()) && (a.GetDeletionTimestamp() == nil) == (b.GetDeletionTimestamp() == nil)
}

// Run follows them until ctx ends.
func (s *ConfigSource) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	all := []func(context.Context) error{s.Pools.Run, s.L2Advertisements.Run, s.BGPPeers.Run, s.BGPAdvertisements.Run, s.BFDProfiles.Run, s.Communities.Run}
	if s.MetalLB != nil {
		all = append(all, s.MetalLB.Run)
	}
	for _, run := range all {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}

// Synced reports whether the first lists of all are complete.
func (s *ConfigSource) Synced() bool {
	return s.Pools.Synced() && s.L2Advertisements.Synced() && s.BGPPeers.Synced() && s.BGPAdvertisements.Synced() &&
		s.BFDProfiles.Synced() && s.Communities.Synced() && (s.MetalLB == nil || s.MetalLB.Synced())
}

// Versions is another text whenever an object is another.
func (s *ConfigSource) Versions() string {
	theirs := ""
	if s.MetalLB != nil {
		theirs = s.MetalLB.Versions()
	}
	return strings.Join([]string{theirs, VersionsOf(s.Pools.Records()), VersionsOf(s.L2Advertisements.Records()), VersionsOf(s.BGPPeers.Records()),
		VersionsOf(s.BGPAdvertisements.Records()), VersionsOf(s.BFDProfiles.Records()), VersionsOf(s.Communities.Records())}, "/")
}

// Objects returns the objects as they are now.
func (s *ConfigSource) Objects() config.Objects {
	objects := config.Objects{
		Pools:             values(s.Pools),
		L2Advertisements:  values(s.L2Advertisements),
		BGPPeers:          values(s.BGPPeers),
		BGPAdvertisements: values(s.BGPAdvertisements),
		BFDProfiles:       values(s.BFDProfiles),
		Communities:       values(s.Communities),
	}
	if s.MetalLB != nil {
		theirs := s.MetalLB.Convert()
		s.notes.Store(&theirs.Notes)
		objects = United(objects, theirs.Objects)
	}
	return objects
}

// Notes are what a person has to know of MetalLB's objects, as Objects has read them last.
func (s *ConfigSource) Notes() []metallb.Note {
	if notes := s.notes.Load(); notes != nil {
		return *notes
	}
	return nil
}

// United adds to some objects those of others that have names of their own.
func United(ours, theirs config.Objects) config.Objects {
	add(&ours.Pools, theirs.Pools)
	add(&ours.L2Advertisements, theirs.L2Advertisements)
	add(&ours.BGPPeers, theirs.BGPPeers)
	add(&ours.BGPAdvertisements, theirs.BGPAdvertisements)
	add(&ours.BFDProfiles, theirs.BFDProfiles)
	add(&ours.Communities, theirs.Communities)
	return ours
}

func add[T any, P interface {
	*T
	metav1.Object
}](to *[]T, more []T) {
	names := map[string]bool{}
	for i := range *to {
		names[P(&(*to)[i]).GetName()] = true
	}
	for i := range more {
		if !names[P(&more[i]).GetName()] {
			*to = append(*to, more[i])
		}
	}
}

func values[T any](s *Source[T]) []T {
	var all []T
	for _, r := range s.Records() {
		all = append(all, r.Value)
	}
	return all
}
