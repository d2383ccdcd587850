package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/probe"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// memory reads the resident set of each program from its own metrics.
func (b *bench) memory(ctx context.Context, _ netip.Addr) ([]figure, error) {
	client, err := b.Lab.Client()
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(product.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the pods: %w", err)
	}
	bySort := map[string][]float64{}
	for _, pod := range pods.Items {
		bytes, err := b.resident(ctx, pod.Spec.NodeName, pod.Status.PodIP)
		if err != nil {
			return nil, fmt.Errorf("read the metrics of pod %s: %w", pod.Name, err)
		}
		component := pod.Labels["app.kubernetes.io/component"]
		bySort[component] = append(bySort[component], bytes/(1<<20))
	}
	return []figure{
		{what: "controller, resident memory with 1 Service", values: bySort["controller"], unit: "MiB"},
		{what: "speaker, resident memory with 1 Service", values: bySort["speaker"], unit: "MiB"},
	}, nil
}

func (b *bench) resident(ctx context.Context, node, ip string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(ip, "7480")+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := b.Lab.HTTPClient(node, 5*time.Second).Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, is := strings.CutPrefix(lines.Text(), "process_resident_memory_bytes "); is {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("no process_resident_memory_bytes: %w", lines.Err())
}

// fresh creates Services one by one: how soon has each its address, by the watch, and when does ARP first answer?
func (b *bench) fresh(ctx context.Context, _ netip.Addr) ([]figure, error) {
	client, err := b.Lab.Client()
	if err != nil {
		return nil, err
	}
	services := client.CoreV1().Services("default")
	watch, err := services.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("watch the Services: %w", err)
	}
	defer watch.Stop()
	given, answered := figure{what: "Service created -> address, by the watch", unit: "ms"}, figure{what: "Service created -> first ARP reply", unit: "ms"}
	next := netip.MustParseAddr("198.18.0.201") // first fit: the pool's second address
	for i := range 2 * b.runs {
		name := fmt.Sprintf("fresh-%d", i)
		prober, err := probe.NewProber(b.Lab.NetNS(lab.Client), "eth0", time.Millisecond, next)
		if err != nil {
			return nil, err
		}
		asking, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- prober.Run(asking) }()
		time.Sleep(200 * time.Millisecond)
		created := time.Now()
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
		if _, err := services.Create(ctx, service, metav1.CreateOptions{}); err != nil {
			stop()
			return nil, fmt.Errorf("create Service %s: %w", name, err)
		}
		for event := range watch.ResultChan() {
			if s, is := event.Object.(*corev1.Service); is && s.Name == name && len(s.Status.LoadBalancer.Ingress) > 0 {
				break
			}
		}
		given.values = append(given.values, milliseconds(time.Since(created)))
		for time.Since(created) < 5*time.Second && len(prober.Record()) == 0 {
			time.Sleep(time.Millisecond)
		}
		stop()
		if err := <-done; err != nil {
			return nil, err
		}
		record := prober.Record()
		if len(record) == 0 {
			return nil, fmt.Errorf("nobody answered for %s within 5 s", next)
		}
		answered.values = append(answered.values, milliseconds(record[0].Time.Sub(created)))
		if err := services.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return nil, fmt.Errorf("delete Service %s: %w", name, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	return []figure{given, answered}, nil
}

// failover takes the owner's power away again and again.
func (b *bench) failover(ctx context.Context, a netip.Addr) ([]figure, error) {
	outage := figure{what: "owner loses power -> another node answers ARP", unit: "ms"}
	for range b.runs {
		owner, err := b.otherOwner(ctx, a, "")
		if err != nil {
			return nil, err
		}
		gap, err := b.powerLoss(ctx, a, owner)
		if err != nil {
			return nil, err
		}
		outage.values = append(outage.values, milliseconds(gap))
		if err := b.Lab.PowerOn(ctx, owner); err != nil {
			return nil, err
		}
		if err := b.waitBack(ctx, a, owner); err != nil {
			return nil, err
		}
	}
	return []figure{outage}, nil
}

func (b *bench) powerLoss(ctx context.Context, a netip.Addr, owner string) (time.Duration, error) {
	prober, err := probe.NewProber(b.Lab.NetNS(lab.Client), "eth0", time.Millisecond, a)
	if err != nil {
		return 0, err
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- prober.Run(asking) }()
	time.Sleep(300 * time.Millisecond)
	off := time.Now()
	if err := b.Lab.PowerOff(ctx, owner); err != nil {
		return 0, err
	}
	if _, err := b.otherOwner(ctx, a, owner); err != nil {
		return 0, err
	}
	time.Sleep(500 * time.Millisecond)
	stop()
	if err := <-done; err != nil {
		return 0, err
	}
	return prober.Record().LongestGap(off.Add(-100*time.Millisecond), time.Now().Add(-50*time.Millisecond)).Length(), nil
}

func (b *bench) otherOwner(ctx context.Context, a netip.Addr, but string) (string, error) {
	return b.await(ctx, fmt.Sprintf("an owner of %s other than %q", a, but), func(owner string) bool { return owner != "" && owner != but }, a)
}

func (b *bench) waitBack(ctx context.Context, a netip.Addr, node string) error {
	_, err := b.await(ctx, node+" to own "+a.String()+" again", func(owner string) bool { return owner == node }, a)
	time.Sleep(2 * time.Second)
	return err
}

func (b *bench) await(ctx context.Context, what string, ok func(owner string) bool, a netip.Addr) (string, error) {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		owner, err := b.Owner(ctx, a)
		if err != nil {
			return "", err
		}
		if ok(owner) {
			return owner, nil
		}
	}
	return "", fmt.Errorf("waited 60 s for %s", what)
}
