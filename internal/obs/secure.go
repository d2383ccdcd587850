package obs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// What those are told who are not let in.
const (
	unknown   = "who asks is not known: send a bearer token of the cluster"
	forbidden = "who asks may not: bind a ClusterRole with nonResourceURLs and the verb get to them"
)

// Secure answers over TLS, for those only whom somebody vouches for.
type Secure struct {
	Addr string
	// Folder has tls.crt and tls.key, as a mounted Secret of type kubernetes.io/tls has; they are read again when they change. "" stands
	// for a certificate that is made when the program starts, and that nobody can verify.
	Folder string
	// Allow says whose a bearer token is, "" for nobody's, and whether they may get a path.
	Allow func(ctx context.Context, token, path string) (user string, allowed bool, err error)
}

// NewSecure answers on an address; without one, nobody answers, and it is nil.
func NewSecure(addr, folder string, allow func(ctx context.Context, token, path string) (user string, allowed bool, err error)) *Secure {
	if addr == "" {
		return nil
	}
	return &Secure{Addr: addr, Folder: folder, Allow: allow}
}

// guard lets only those through whom Allow lets.
func (s *Secure) guard(h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		user, allowed, err := s.Allow(r.Context(), strings.TrimSpace(token), r.URL.Path)
		switch {
		case err != nil:
			log.Warn("nobody is let in, as the API server does not say who may", "path", r.URL.Path, "error", err)
			http.Error(w, "the API server does not say who may ask", http.StatusServiceUnavailable)
		case user == "":
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, unknown, http.StatusUnauthorized)
		case !allowed:
			http.Error(w, forbidden, http.StatusForbidden)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// config is for a TLS listener.
func (s *Secure) config() (*tls.Config, error) {
	pair := &pair{folder: s.Folder}
	if s.Folder == "" {
		made, err := selfSigned()
		if err != nil {
			return nil, fmt.Errorf("making a certificate: %w", err)
		}
		pair.now = made
	}
	if _, err := pair.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: pair.get}, nil
}

// pair is a certificate with its key, as the files have them now.
type pair struct {
	folder string // "" where there are no files
	mu     sync.Mutex
	read   time.Time // when the certificate's file that was read last was written
	now    *tls.Certificate
}

// get returns the certificate. One that cannot be read leaves the one before in use.
func (p *pair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.folder == "" {
		return p.now, nil
	}
	cert, key := filepath.Join(p.folder, "tls.crt"), filepath.Join(p.folder, "tls.key")
	file, err := os.Stat(cert)
	if err == nil && !file.ModTime().Equal(p.read) {
		var fresh tls.Certificate
		if fresh, err = tls.LoadX509KeyPair(cert, key); err == nil {
			p.now, p.read = &fresh, file.ModTime()
		}
	}
	if p.now == nil {
		return nil, fmt.Errorf("reading tls.crt and tls.key in %s: %w", p.folder, err)
	}
	return p.now, nil
}

// selfSigned makes a certificate for this host that is good for ten years.
func selfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
