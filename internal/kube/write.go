package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bellwether-lb/bellwether/pkg/cluster"
)

// ServiceStatus is what the controller wants to stand in a Service.
type ServiceStatus struct {
	Addrs      []netip.Addr
	Pools      []string           // the pool of each address; none removes the annotation
	SharedAs   string             // the annotation; "" removes it
	Conditions []metav1.Condition // ours
	Remove     []string           // types of conditions to take away
}

// WriteService writes the status and the annotation of a Service in one request, on the condition that nobody changed the
// Service meanwhile, and returns the Service as it then stands.
func (c *Client) WriteService(ctx context.Context, key cluster.Key, uid types.UID, resourceVersion string, s ServiceStatus) (*corev1.Service, error) {
	patch, err := s.patch(uid, resourceVersion)
	if err != nil {
		return nil, fmt.Errorf("preparing the status of Service %s: %w", key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	written, err := c.Services(key.Namespace).Patch(ctx, key.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("writing the status of Service %s: %w", key, err)
	}
	return written, nil
}

func (s ServiceStatus) patch(uid types.UID, resourceVersion string) ([]byte, error) {
	annotations := map[string]any{AnnotationAllocatedFrom: nil, AnnotationSharedAs: nil} // null removes an annotation
	if from := AllocatedFrom(s.Pools); from != "" {
		annotations[AnnotationAllocatedFrom] = from
	}
	if s.SharedAs != "" {
		annotations[AnnotationSharedAs] = s.SharedAs
	}
	ingress := make([]corev1.LoadBalancerIngress, 0, len(s.Addrs))
	vip := corev1.LoadBalancerIPModeVIP
	for _, a := range s.Addrs {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: &vip})
	}
	conditions := make([]any, 0, len(s.Conditions)+len(s.Remove))
	for _, c := range s.Conditions {
		conditions = append(conditions, c)
	}
	for _, t := range s.Remove {
		conditions = append(conditions, map[string]any{"$patch": "delete", "type": t})
	}
	status := map[string]any{"loadBalancer": map[string]any{"ingress": ingress}}
	if len(conditions) > 0 {
		status["conditions"] = conditions
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid":             uid,
			"resourceVersion": resourceVersion,
			"annotations":     annotations,
		},
		"status": status,
	})
}

// StatusPatch is a JSON patch (RFC 6902) that replaces the whole status of one of our own objects: what the new one leaves
// out is gone, which a merge patch would keep. It is refused with a conflict if the object has changed since that resource
// version; "" stands for any.
func StatusPatch(status any, resourceVersion string) ([]byte, error) {
	patch := []map[string]any{{"op": "add", "path": "/status", "value": status}}
	if resourceVersion != "" {
		patch = append(patch, map[string]any{"op": "replace", "path": "/metadata/resourceVersion", "value": resourceVersion})
	}
	return json.Marshal(patch)
}

// SetFinalizers replaces the finalizers of a pool, on the condition that nobody changed the pool meanwhile.
func (c *Client) SetFinalizers(ctx context.Context, pool, resourceVersion string, finalizers []string) error {
	if finalizers == nil {
		finalizers = []string{}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"finalizers": finalizers, "resourceVersion": resourceVersion}})
	if err != nil {
		return fmt.Errorf("preparing the finalizers of IPAddressPool %s: %w", pool, err)
	}
	if _, err := c.Pools.Patch(ctx, pool, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("writing the finalizers of IPAddressPool %s: %w", pool, err)
	}
	return nil
}
