package obs

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// freeAddr is an address on loopback that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// serving runs a server until the test ends.
func serving(t *testing.T, s *Server) {
	t.Helper()
	s.Registry, s.Log, s.Ready = NewRegistry(), slog.New(slog.DiscardHandler), func() error { return nil }
	s.Dumps = map[string]func() any{"view": func() any { return "all that there is" }}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for _, addr := range []string{s.Addr, s.Secure.Addr} {
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				_ = conn.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
}

func asker() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

func get(t *testing.T, url, token string) (code int, body string, cert *x509.Certificate) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := asker().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.TLS != nil {
		cert = resp.TLS.PeerCertificates[0]
	}
	return resp.StatusCode, string(text), cert
}

func TestWhoIsLetIn(t *testing.T) {
	s := &Server{Addr: freeAddr(t), Secure: &Secure{Addr: freeAddr(t), Allow: func(_ context.Context, token, path string) (string, bool, error) {
		switch token {
		case "reader":
			return "reader", path == "/metrics", nil
		case "admin":
			return "admin", true, nil
		case "unlucky":
			return "", false, errors.New("the API server is away")
		}
		return "", false, nil
	}}}
	serving(t, s)
	open, guarded := "http://"+s.Addr, "https://"+s.Secure.Addr
	for _, c := range []struct {
		url, token string
		code       int
		says       string
	}{
		{guarded + "/metrics", "reader", 200, "go_goroutines"},
		{guarded + "/debug/view", "reader", 403, "nonResourceURLs"},
		{guarded + "/debug/view", "admin", 200, "all that there is"},
		{guarded + "/metrics", "", 401, "bearer token"},
		{guarded + "/metrics", "stolen", 401, "bearer token"},
		{guarded + "/metrics", "unlucky", 503, "API server"},
		{guarded + "/healthz", "admin", 404, ""},
		{open + "/healthz", "", 200, "ok"},
		{open + "/readyz", "", 200, "ok"},
		{open + "/metrics", "admin", 404, ""},
		{open + "/debug/view", "admin", 404, ""},
	} {
		if code, body, _ := get(t, c.url, c.token); code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s as %q: %d %q, want %d and %q", c.url, c.token, code, body, c.code, c.says)
		}
	}
	if code, body, _ := get(t, "http://"+s.Secure.Addr+"/metrics", "admin"); code != http.StatusBadRequest {
		t.Errorf("without TLS it answers %d %q", code, body)
	}
}

// write puts a certificate with its key into a folder, as of a time, and returns its serial number.
func write(t *testing.T, folder string, at time.Time) string {
	t.Helper()
	made, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalECPrivateKey(made.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: made.Certificate[0]}, "tls.key": {Type: "EC PRIVATE KEY", Bytes: key}} {
		file := filepath.Join(folder, name)
		if err := errors.Join(os.WriteFile(file, pem.EncodeToMemory(block), 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(made.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert.SerialNumber.String()
}

func TestACertificateIsReadAgainWhenItChanges(t *testing.T) {
	folder := t.TempDir()
	if _, err := (&Secure{Folder: folder}).config(); err == nil || !strings.Contains(err.Error(), "tls.crt and tls.key in "+folder) {
		t.Errorf("an empty folder: %v", err)
	}
	first := write(t, folder, time.Unix(1000, 0))
	s := &Server{Addr: freeAddr(t), Secure: &Secure{Addr: freeAddr(t), Folder: folder,
		Allow: func(context.Context, string, string) (string, bool, error) { return "somebody", true, nil }}}
	serving(t, s)
	shown := func() string {
		_, _, cert := get(t, "https://"+s.Secure.Addr+"/metrics", "x")
		return cert.SerialNumber.String()
	}
	if got := shown(); got != first {
		t.Errorf("it shows %s, want %s", got, first)
	}
	second := write(t, folder, time.Unix(2000, 0))
	if got := shown(); got != second {
		t.Errorf("after a new one was written it shows %s, want %s", got, second)
	}
	if err := os.WriteFile(filepath.Join(folder, "tls.crt"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != second {
		t.Errorf("while one cannot be read it shows %s, want the one before, %s", got, second)
	}
}
