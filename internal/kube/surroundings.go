package kube

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/bellwether-lb/bellwether/pkg/explain"
)

// rivals are labels of the Pods of other controllers of Services of type LoadBalancer.
func rivals() map[string]string {
	return map[string]string{
		"app.kubernetes.io/name=metallb":        "MetalLB",
		"app=metallb":                           "MetalLB",
		"app.kubernetes.io/name=kube-vip-ds":    "kube-vip",
		"app.kubernetes.io/name=kube-vip-cloud": "kube-vip",
		"component=kube-vip":                    "kube-vip",
		"svccontroller.k3s.cattle.io/svcname":   "the load balancer of k3s (servicelb)",
		"app.kubernetes.io/name=purelb":         "PureLB",
		"app=openelb-manager":                   "OpenELB",
	}
}

// Surroundings looks for what stands beside Bellwether. What may not be read is passed over.
func (c *Client) Surroundings(ctx context.Context) explain.Surroundings {
	var s explain.Surroundings
	if object, err := c.ConfigMaps("kube-system").Get(ctx, "kube-proxy", metav1.GetOptions{}); err == nil {
		var proxy struct {
			Mode string `json:"mode"`
			IPVS struct {
				StrictARP bool `json:"strictARP"`
			} `json:"ipvs"`
		}
		if yaml.Unmarshal([]byte(object.Data["config.conf"]), &proxy) == nil {
			s.KubeProxyMode, s.StrictARP = proxy.Mode, proxy.IPVS.StrictARP
			if s.KubeProxyMode == "" {
				s.KubeProxyMode = "iptables"
			}
		}
	}
	for label, name := range rivals() {
		pods, err := c.Pods("").List(ctx, metav1.ListOptions{LabelSelector: label, Limit: 1, ResourceVersion: "0"})
		if err == nil && len(pods.Items) > 0 {
			s.Others = append(s.Others, fmt.Sprintf("%s (Pod %s/%s)", name, pods.Items[0].Namespace, pods.Items[0].Name))
		}
	}
	slices.Sort(s.Others)
	s.Others = slices.Compact(s.Others)
	return s
}
