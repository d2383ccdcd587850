package scenarios

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// TestMetricsAreForThoseWhomTheAPIServerLets: over TLS with the operator's own certificate; nobody else gets them, and nobody gets them in the clear.
func TestMetricsAreForThoseWhomTheAPIServerLets(t *testing.T) {
	s := onFullLab(t)
	roots, cert, key := certificate(t, "bellwether.example")
	s.have(fmt.Sprintf(`{apiVersion: v1, kind: Secret, metadata: {name: metrics-tls, namespace: %[1]s}, type: kubernetes.io/tls, data: {tls.crt: %[2]s, tls.key: %[3]s}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: scraper, namespace: default}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: scraper}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bellwether-metrics-reader},
subjects: [{kind: ServiceAccount, name: scraper, namespace: default}]}
`, product.Namespace, base64.StdEncoding.EncodeToString(cert), base64.StdEncoding.EncodeToString(key)))
	t.Cleanup(func() { s.act(s.InstallChart(context.WithoutCancel(s.ctx), "--reset-values")) })
	s.act(s.InstallChart(s.ctx, "--set", "secureMetrics.enabled=true,secureMetrics.secretName=metrics-tls"))

	client := s.Lab.HTTPClient(lab.Client, 5*time.Second)
	transport, is := client.Transport.(*http.Transport)
	if !is {
		t.Fatalf("the lab's clients have a %T", client.Transport)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "bellwether.example"}
	token := s.must("create", "token", "scraper", "-n", "default")
	node := s.Lab.Nodes()[0].Addrs[0]
	for _, c := range []struct {
		url, token string
		code       int
		says       string
	}{
		{"https://%s:7483/metrics", token, http.StatusOK, "bellwether_"},
		{"https://%s:7483/debug/view", token, http.StatusForbidden, ""},
		{"https://%s:7483/metrics", "", http.StatusUnauthorized, ""},
		{"https://%s:7483/metrics", token + "x", http.StatusUnauthorized, ""},
		{"http://%s:7480/metrics", token, http.StatusNotFound, ""},
		{"http://%s:7480/healthz", "", http.StatusOK, "ok"},
	} {
		r, err := http.NewRequestWithContext(s.ctx, http.MethodGet, fmt.Sprintf(c.url, node), http.NoBody)
		s.act(err)
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		resp, err := client.Do(r)
		s.act(err)
		body, err := io.ReadAll(resp.Body)
		s.act(err)
		s.act(resp.Body.Close())
		if resp.StatusCode != c.code || !strings.Contains(string(body), c.says) {
			t.Errorf("%s with a token of %d bytes: %d, want %d and %q: %.200s", c.url, len(c.token), resp.StatusCode, c.code, c.says, body)
		}
	}
	if out, code, err := s.CLI(s.ctx, "", "status"); err != nil || code != 0 { // it asks the speakers by way of loopback
		t.Errorf("bellwether status ended with %d, %v: %s", code, err, out)
	}
}

// certificate makes one that vouches for itself, and what it is verified by.
func certificate(t *testing.T, host string) (roots *x509.CertPool, cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if !roots.AppendCertsFromPEM(cert) {
		t.Fatal("the certificate cannot be read back")
	}
	return roots, cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})
}
