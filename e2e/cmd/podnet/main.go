// Podnet is the pod network of the node image that this project makes for kind: it writes a node's CNI configuration and keeps routes to the
// pods of all other nodes. It stands where kind's own images have kindnet.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func main() {
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal(err)
	}
	config.Timeout = 5 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	for ; ; time.Sleep(time.Second) {
		if err := connect(context.Background(), client, os.Getenv("NODE")); err != nil {
			log.Print(err)
		}
	}
}

// connect makes this node's pods reach those of all others, by what the nodes say of themselves at the moment.
func connect(ctx context.Context, client kubernetes.Interface, self string) error {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		if n.Name == self {
			err = writeConfig(n.Spec.PodCIDRs)
		} else {
			err = addRoutes(n)
		}
		if err != nil {
			return fmt.Errorf("connect node %s: %w", n.Name, err)
		}
	}
	return nil
}

// writeConfig writes the CNI configuration once the node has its ranges.
func writeConfig(ranges []string) error {
	type object = map[string]any
	var subnets, routes []any
	for _, text := range ranges {
		r, err := netip.ParsePrefix(text)
		if err != nil {
			return err
		}
		all := "0.0.0.0/0"
		if r.Addr().Is6() {
			all = "::/0"
		}
		subnets = append(subnets, []any{object{"subnet": text}})
		routes = append(routes, object{"dst": all})
	}
	const path = "/etc/cni/net.d/10-podnet.conflist"
	if _, err := os.Stat(path); err == nil || len(ranges) == 0 {
		return nil
	}
	data, err := json.MarshalIndent(object{"cniVersion": "1.0.0", "name": "podnet", "plugins": []any{
		object{"type": "ptp", "ipam": object{"type": "host-local", "dataDir": "/run/podnet", "ranges": subnets, "routes": routes}},
		object{"type": "portmap", "capabilities": object{"portMappings": true}},
	}}, "", "  ")
	if err != nil {
		return err
	}
	partial := filepath.Join(filepath.Dir(path), ".partial")
	if err := os.WriteFile(partial, data, 0o644); err != nil {
		return err
	}
	return os.Rename(partial, path)
}

// addRoutes leads to a node's pods over its addresses, family by family.
func addRoutes(n corev1.Node) error {
	for _, text := range n.Spec.PodCIDRs {
		_, pods, err := net.ParseCIDR(text)
		if err != nil {
			return err
		}
		for _, a := range n.Status.Addresses {
			over := net.ParseIP(a.Address)
			if a.Type != corev1.NodeInternalIP || (over.To4() == nil) != (pods.IP.To4() == nil) {
				continue
			}
			if err := netlink.RouteReplace(&netlink.Route{Dst: pods, Gw: over}); err != nil {
				return fmt.Errorf("route %s over %s: %w", pods, over, err)
			}
		}
	}
	return nil
}
