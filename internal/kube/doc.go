// Package kube is the border to Kubernetes: informers that publish our vocabulary, the overlay that hides the informers'
// lag behind our own writes, the writers of status, and the events.
//
// Informers keep no Kubernetes object: each is converted once, when it arrives, and only the conversion is stored.
package kube
