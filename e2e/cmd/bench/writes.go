package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
)

// writes are how many requests that write the API server has answered, by resource, or resource/subresource. Only what
// Bellwether writes is counted: a Service itself is made and deleted by the measurement, leases are renewed as time passes.
type writes map[string]float64

func (w writes) since(before writes) writes {
	out := writes{}
	for resource, n := range w {
		out[resource] = n - before[resource]
	}
	return out
}

func (w writes) of(prefixes ...string) (n float64) {
	for resource, v := range w {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(resource, p) }) {
			n += v
		}
	}
	return n
}

func (w writes) total() float64 { return w.of("") }

// readWrites asks the API server's own metrics.
func readWrites(ctx context.Context, client kubernetes.Interface) (writes, error) {
	text, err := client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the API server's metrics: %w", err)
	}
	label := regexp.MustCompile(`(\w+)="([^"]*)"`)
	out := writes{}
	for line := range bytes.Lines(text) {
		sample, is := bytes.CutPrefix(line, []byte("apiserver_request_total{"))
		if !is {
			continue
		}
		series, value, _ := strings.Cut(string(sample), "} ")
		labels := map[string]string{}
		for _, pair := range label.FindAllStringSubmatch(series, -1) {
			labels[pair[1]] = pair[2]
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return nil, fmt.Errorf("read the API server's metrics: %w", err)
		}
		if resource, ours := written(labels); ours {
			out[resource] += n
		}
	}
	return out, nil
}

// written names what a request wrote, if it is one of Bellwether's.
func written(labels map[string]string) (resource string, ours bool) {
	resource = labels["resource"]
	if sub := labels["subresource"]; sub != "" {
		resource += "/" + sub
	}
	switch labels["verb"] {
	case "PUT", "PATCH", "APPLY":
	case "POST", "DELETE":
		if resource == "services" {
			return "", false
		}
	default:
		return "", false
	}
	switch labels["resource"] {
	case "services", "events", "ipaddresspools", "l2advertisements", "speakers":
		return resource, true
	}
	return "", false
}

// settled waits until nothing of Bellwether's has been written for two seconds.
func (a *allocation) settled(ctx context.Context) (writes, error) {
	const calm = 2 * time.Second
	before, err := readWrites(ctx, a.client)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		time.Sleep(calm)
		now, err := readWrites(ctx, a.client)
		if err != nil {
			return nil, err
		}
		if now.since(before).total() == 0 {
			return now, nil
		}
		before = now
	}
	return nil, fmt.Errorf("waited %v for Bellwether to write nothing", patience)
}
