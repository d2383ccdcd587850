package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

func TestEditedObjects(t *testing.T) {
	old := metav1.Now()
	present := config.Objects{Pools: []v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "1", CreationTimestamp: old, DeletionTimestamp: &old}}}}
	for _, c := range []struct {
		name, file string
		deleted    []string
		fails      string // part of the error
		pools      string // afterwards
	}{
		{name: "a new one, and one in the place of another", pools: "a b", file: `
{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [192.0.2.0/24]}}
---
{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: b}, spec: {addresses: [198.51.100.0/24]}}`},
		{name: "one that goes", deleted: []string{"pool/a"}},
		{name: "one that is not there", deleted: []string{"ipaddresspool/z"}, fails: "there is no such object"},
		{name: "a kind that is not there", deleted: []string{"service/z"}, fails: "write KIND/NAME"},
		{name: "another's object", file: "{apiVersion: v1, kind: Service, metadata: {name: a}}", fails: "none of Bellwether's objects"},
		{name: "an unknown kind", file: "{apiVersion: bellwether.dev/v1beta1, kind: Pool, metadata: {name: a}}", fails: `no kind "Pool"`},
		{name: "an unknown field", file: "{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {adresses: []}}", fails: "adresses"},
		{name: "no name", file: "{apiVersion: bellwether.dev/v1beta1, kind: IPAddressPool, spec: {addresses: []}}", fails: "no metadata.name"},
	} {
		file := ""
		if c.file != "" {
			file = filepath.Join(t.TempDir(), "objects.yaml")
			if err := os.WriteFile(file, []byte(c.file), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := edited(present, file, c.deleted)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var names []string
		for _, p := range got.Pools {
			names = append(names, p.Name)
			if p.Name == "a" && (p.UID != "1" || p.DeletionTimestamp == nil || !p.CreationTimestamp.Equal(&old)) {
				t.Errorf("%s: what the API server keeps of a is lost: %+v", c.name, p.ObjectMeta)
			}
			if p.Name == "b" && p.CreationTimestamp.Before(&old) {
				t.Errorf("%s: the new one is not the youngest", c.name)
			}
		}
		if strings.Join(names, " ") != c.pools {
			t.Errorf("%s: %v", c.name, names)
		}
	}
	if len(present.Pools) != 1 {
		t.Error("the objects of the cluster were changed")
	}
}
