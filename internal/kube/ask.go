package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// SpeakerPort is where speakers answer questions, on their node's loopback.
const SpeakerPort = 7481

// SpeakerPod returns the Pod of the speaker on a node.
func (c *Client) SpeakerPod(ctx context.Context, namespace, node string) (*corev1.Pod, error) {
	pods, err := c.Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=bellwether,app.kubernetes.io/component=speaker",
		FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, fmt.Errorf("find the speaker on %s: %w", node, err)
	}
	for i := range pods.Items {
		if pods.Items[i].Status.Phase == corev1.PodRunning {
			return &pods.Items[i], nil
		}
	}
	return nil, fmt.Errorf("no speaker runs on node %s as a Pod", node)
}

// AskSpeaker has a speaker answer a question, by way of the API server: it listens on its node's loopback alone.
func (c *Client) AskSpeaker(ctx context.Context, pod *corev1.Pod, path string, answer any) (err error) {
	transport, upgrader, err := spdy.RoundTripperFor(c.Config)
	if err != nil {
		return fmt.Errorf("prepare a connection: %w", err)
	}
	to := c.core.Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, to)
	stop, ready := make(chan struct{}), make(chan struct{})
	forward, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", SpeakerPort)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		return fmt.Errorf("reach %s: %w", pod.Name, err)
	}
	failed := make(chan error, 1)
	go func() { failed <- forward.ForwardPorts() }()
	defer close(stop)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-failed:
		return fmt.Errorf("reach %s: %w", pod.Name, err)
	case <-ready:
	}
	ports, err := forward.GetPorts()
	if err != nil {
		return fmt.Errorf("reach %s: %w", pod.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", ports[0].Local, path), http.NoBody)
	if err != nil {
		return fmt.Errorf("ask %s: %w", pod.Name, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", pod.Name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("ask %s: %w", pod.Name, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("ask %s: it answers %s: %s", pod.Name, resp.Status, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("read the answer of %s: %w", pod.Name, err)
	}
	return nil
}
