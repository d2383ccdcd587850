package product

import (
	"strings"
	"testing"
)

func TestOnlyPlainQueriesAreAnsweredWithoutKubectl(t *testing.T) {
	for line, want := range map[string]query{
		"get service web -o jsonpath={.spec}":               {"default", "service", "web", "{.spec}"},
		"-n kube-system get pods -o jsonpath={.items}":      {"kube-system", "pods", "", "{.items}"},
		"get service -n shop -o jsonpath={.spec} front":     {"shop", "service", "front", "{.spec}"},
		"get service web -o name":                           {},
		"get service web -o jsonpath=spec":                  {},
		"get service web":                                   {},
		"get service/web -o jsonpath={.spec}":               {},
		"get service,pods -o jsonpath={.items}":             {},
		"get service a b -o jsonpath={.items}":              {},
		"get pods -A -o jsonpath={.items}":                  {},
		"get pods -l a=b -o jsonpath={.items}":              {},
		"get service web --ignore-not-found -o jsonpath={}": {},
		"delete service web -o jsonpath={.spec}":            {},
		"get -o jsonpath={.spec}":                           {},
		"get service web -o":                                {},
	} {
		got, is := queryOf(strings.Fields(line))
		if got != want || is != (want != query{}) {
			t.Errorf("%s: %+v, %t", line, got, is)
		}
	}
}
