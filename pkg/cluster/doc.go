// Package cluster is Bellwether's vocabulary: the small, comparable values that every other room speaks in.
//
// Everything here is a plain value built from netip types. There is no I/O, no clock, no logger and no Kubernetes type:
// the conversion from wire objects happens once, at the border (internal/kube), and nothing past it is a string that
// still has to be parsed.
package cluster
