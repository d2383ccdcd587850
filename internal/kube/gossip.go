package kube

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GossipSecret is the Secret that the gossip key is made from, and GossipKey the key in it.
const (
	GossipSecret = "bellwether-gossip"
	GossipKey    = "secret"
)

// EnsureGossipSecret makes the Secret with a random value where there is none.
func (c *Client) EnsureGossipSecret(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	_, err := c.Secrets(namespace).Get(ctx, GossipSecret, metav1.GetOptions{})
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("looking for Secret %s/%s: %w", namespace, GossipSecret, err)
	}
	value := make([]byte, 32)
	if _, err := rand.Read(value); err != nil {
		return fmt.Errorf("making a gossip secret: %w", err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: GossipSecret}, Data: map[string][]byte{GossipKey: value}}
	if _, err := c.Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating Secret %s/%s: %w", namespace, GossipSecret, err)
	}
	return nil
}

// WaitGossipSecret returns the secret, waiting for it as long as it takes: until ctx ends.
func (c *Client) WaitGossipSecret(ctx context.Context, namespace, name string, log *slog.Logger) ([]byte, error) {
	for waited := time.Duration(0); ; waited += 500 * time.Millisecond {
		value, err := c.gossipSecret(ctx, namespace, name)
		if err == nil {
			return value, nil
		}
		if waited%(5*time.Second) == 0 {
			log.Info("waiting for the gossip secret", "secret", namespace+"/"+name, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for Secret %s/%s: %w", namespace, name, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (c *Client) gossipSecret(ctx context.Context, namespace, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	secret, err := c.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if len(secret.Data[GossipKey]) < 16 {
		return nil, errors.New("its key " + GossipKey + " is missing or shorter than 16 bytes: delete the Secret, and the controller makes a new one within six minutes; then restart all speakers")
	}
	return secret.Data[GossipKey], nil
}
