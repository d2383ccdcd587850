package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sjson "sigs.k8s.io/json"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/config"
	"github.com/bellwether-lb/bellwether/pkg/explain"
)

func planCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan -f FILE",
		Short: "Say what applying objects would move, before they are applied",
		Long: "Decides as the controller and the speakers would, with the cluster's Services and nodes as they are and the objects in FILE in the place of those of\n" +
			"the same names, and prints what would be otherwise. Nothing is written. Ends with 1 where an object would be refused.",
		Example: "  bellwether plan -f pools.yaml\n  bellwether plan --delete ipaddresspool/old",
		Args:    cobra.NoArgs,
	}
	s := newSession(cmd).prints(cmd)
	var file string
	var deleted []string
	cmd.Flags().StringVarP(&file, "filename", "f", "", "file with objects of bellwether.dev, as YAML or JSON; - is standard input")
	cmd.Flags().StringSliceVar(&deleted, "delete", nil, "KIND/NAME of an object that is to go; may be given several times")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if file == "" && len(deleted) == 0 {
			return errors.New("nothing would change: give a file with -f, or what is to go with --delete")
		}
		w, _, err := s.world(cmd)
		if err != nil {
			return err
		}
		objects, err := edited(w.Objects, file, deleted)
		if err != nil {
			return err
		}
		plan := w.Plan(objects)
		if err := s.print(plan, func(w io.Writer) { planTable(w, plan) }); err != nil {
			return err
		}
		if len(plan.Refused) > 0 {
			return errSaid
		}
		return nil
	}
	return cmd
}

func planTable(w io.Writer, p explain.Plan) {
	for _, problem := range p.Problems {
		fmt.Fprintln(w, problem)
	}
	if len(p.Services)+len(p.Sessions) == 0 {
		fmt.Fprintln(w, "No address would move, no announcement would change, and no session would be opened anew.")
		return
	}
	if len(p.Services) > 0 {
		row(w, "NAMESPACE", "SERVICE", "NOW", "THEN", "WHY")
	}
	for _, c := range p.Services {
		why := ""
		if c.After.Allocation != c.Before.Allocation {
			why = c.After.Message
		}
		row(w, c.Service.Namespace, c.Service.Name, c.Before.String(), c.After.String(), why)
	}
	if len(p.Sessions) > 0 {
		fmt.Fprintln(w)
		row(w, "NODE", "PEER", "SESSION")
	}
	for _, c := range p.Sessions {
		row(w, c.Node, c.Peer, c.What)
	}
}

// edited puts what is in a file in the place of the objects of the same names, and takes away what is to go.
func edited(objects config.Objects, file string, deleted []string) (config.Objects, error) {
	if file != "" {
		raw, err := readFile(file)
		if err != nil {
			return objects, err
		}
		for _, o := range raw {
			if err := apply(&objects, o); err != nil {
				return objects, err
			}
		}
	}
	for _, name := range deleted {
		if err := remove(&objects, name); err != nil {
			return objects, err
		}
	}
	return objects, nil
}

// apply puts an object in the place of the one of its name.
func apply(objects *config.Objects, raw []byte) error {
	var is metav1.TypeMeta
	if err := json.Unmarshal(raw, &is); err != nil {
		return fmt.Errorf("read an object: %w", err)
	}
	if is.APIVersion != v1beta1.GroupVersion().String() {
		return fmt.Errorf("%s %s is none of Bellwether's objects: they are of apiVersion %s", is.APIVersion, is.Kind, v1beta1.GroupVersion())
	}
	switch is.Kind {
	case config.KindIPAddressPool:
		return place(&objects.Pools, raw)
	case config.KindL2Advertisement:
		return place(&objects.L2Advertisements, raw)
	case config.KindBGPPeer:
		return place(&objects.BGPPeers, raw)
	case config.KindBGPAdvertisement:
		return place(&objects.BGPAdvertisements, raw)
	case config.KindBFDProfile:
		return place(&objects.BFDProfiles, raw)
	case config.KindCommunity:
		return place(&objects.Communities, raw)
	}
	return fmt.Errorf("there is no kind %q to plan with", is.Kind)
}

// object is a pointer to one of our kinds.
type object[T any] interface {
	*T
	metav1.Object
}

// place reads an object strictly, and puts it in the place of the one of its name; a new one is younger than all others.
func place[T any, P object[T]](all *[]T, raw []byte) error {
	var one T
	strict, err := sjson.UnmarshalStrict(raw, &one)
	if err = errors.Join(append(strict, err)...); err != nil {
		return fmt.Errorf("read an object: %w", err)
	}
	is := P(&one)
	if is.GetName() == "" {
		return errors.New("an object has no metadata.name")
	}
	is.SetCreationTimestamp(metav1.NewTime(time.Now()))
	at := named[T, P](*all, is.GetName())
	*all = slices.Clone(*all)
	if at < 0 {
		*all = append(*all, one)
		return nil
	}
	old := P(&(*all)[at])
	is.SetCreationTimestamp(old.GetCreationTimestamp())
	is.SetUID(old.GetUID())
	is.SetDeletionTimestamp(old.GetDeletionTimestamp()) // what is on its way out stays so
	is.SetFinalizers(old.GetFinalizers())
	(*all)[at] = one
	return nil
}

func named[T any, P object[T]](all []T, name string) int {
	return slices.IndexFunc(all, func(one T) bool { return P(&one).GetName() == name })
}

// remove takes away what KIND/NAME names.
func remove(objects *config.Objects, what string) error {
	kind, name, _ := strings.Cut(what, "/")
	var gone bool
	switch strings.ToLower(kind) {
	case "ipaddresspool", "pool":
		gone = take(&objects.Pools, name)
	case "l2advertisement":
		gone = take(&objects.L2Advertisements, name)
	case "bgppeer":
		gone = take(&objects.BGPPeers, name)
	case "bgpadvertisement":
		gone = take(&objects.BGPAdvertisements, name)
	case "bfdprofile":
		gone = take(&objects.BFDProfiles, name)
	case "community":
		gone = take(&objects.Communities, name)
	default:
		return fmt.Errorf("--delete %q: write KIND/NAME, of a kind such as ipaddresspool", what)
	}
	if !gone {
		return fmt.Errorf("--delete %s: there is no such object", what)
	}
	return nil
}

func take[T any, P object[T]](all *[]T, name string) bool {
	at := named[T, P](*all, name)
	if at < 0 {
		return false
	}
	*all = slices.Delete(slices.Clone(*all), at, at+1)
	return true
}
