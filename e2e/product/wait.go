package product

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Addresses waits until a Service has that many addresses, and returns them, IPv4 first.
func (p *Product) Addresses(ctx context.Context, namespace, name string, n int) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var out string
	for {
		var err error
		out, err = p.Kubectl(ctx, "-n", namespace, "get", "service", name, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
		if addrs, ok := parseAddrs(out); err == nil && ok && len(addrs) == n {
			return addrs, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("service %s/%s has %q after 30 s, want %d addresses", namespace, name, out, n)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func parseAddrs(text string) ([]netip.Addr, bool) {
	var addrs []netip.Addr
	for field := range strings.FieldsSeq(text) {
		a, err := netip.ParseAddr(field)
		if err != nil {
			return nil, false
		}
		addrs = append(addrs, a)
	}
	return addrs, true
}

// Owner returns the node whose speaker says that it answers for an address; "" where none does.
func (p *Product) Owner(ctx context.Context, a netip.Addr) (string, error) {
	out, err := p.Kubectl(ctx, "get", "speakers", "-o", `jsonpath={range .items[*]}{.metadata.name}{" "}{.status.layer2.owned[*].address}{"\n"}{end}`)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		for _, owned := range fields[min(1, len(fields)):] {
			if owned == a.String() {
				return fields[0], nil
			}
		}
	}
	return "", nil
}

// MAC returns the hardware address of a node's link, as the node itself says.
func (p *Product) MAC(ctx context.Context, node string) (string, error) {
	out, err := p.Lab.CommandContext(ctx, node, "ip", "-json", "link", "show", "eth0").Output()
	if err != nil {
		return "", fmt.Errorf("look at the link of %s: %w", node, err)
	}
	var links []struct {
		Address string `json:"address"`
	}
	if err := json.Unmarshal(out, &links); err != nil || len(links) != 1 {
		return "", fmt.Errorf("look at the link of %s: %q is not one link: %w", node, out, err)
	}
	return links[0].Address, nil
}
