package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// OnlyLoadBalancers narrows the Services that are listed and watched to `type: LoadBalancer`.
func OnlyLoadBalancers(l Lister[*corev1.ServiceList]) Lister[*corev1.ServiceList] {
	return narrowed[*corev1.ServiceList]{l, "spec.type=LoadBalancer"}
}

// OnlyBasicAuth narrows the Secrets that are listed and watched to those of type kubernetes.io/basic-auth.
func OnlyBasicAuth(l Lister[*corev1.SecretList]) Lister[*corev1.SecretList] {
	return narrowed[*corev1.SecretList]{l, "type=" + string(corev1.SecretTypeBasicAuth)}
}

// Password is what a Secret of type kubernetes.io/basic-auth has under password.
func Password(s *corev1.Secret) string { return string(s.Data[corev1.BasicAuthPasswordKey]) }

type narrowed[L runtime.Object] struct {
	all    Lister[L]
	fields string
}

func (n narrowed[L]) List(ctx context.Context, opts metav1.ListOptions) (L, error) {
	opts.FieldSelector = n.fields
	return n.all.List(ctx, opts)
}

func (n narrowed[L]) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.FieldSelector = n.fields
	return n.all.Watch(ctx, opts)
}
