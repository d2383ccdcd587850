package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// authority signs the certificates of one lab. It lives for one Up.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// identity is a certificate with its key, PEM-encoded.
type identity struct{ cert, key []byte }

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(pkix.Name{CommonName: "bellwether-lab"})
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: encode("CERTIFICATE", der)}, nil
}

func template(subject pkix.Name) *x509.Certificate {
	// 62 random bits are serial number enough for a few dozen certificates.
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
}

// issue signs a certificate for a user (with groups) or a server (with names
// and addresses); Kubernetes takes the user from CN and the groups from O.
func (a *authority) issue(user string, groups, names []string, addrs []netip.Addr) (identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, err
	}
	t := template(pkix.Name{CommonName: user, Organization: groups})
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	t.DNSNames = names
	for _, ip := range addrs {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return identity{}, fmt.Errorf("sign the certificate of %s: %w", user, err)
	}
	return identity{encode("CERTIFICATE", der), encodeKey(key)}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil // cannot happen: the curve is a named one
	}
	return encode("EC PRIVATE KEY", der)
}

// Users of the API server, beside one per node.
const (
	adminUser     = "admin"
	managerUser   = "system:kube-controller-manager"
	schedulerUser = "system:kube-scheduler"
	proxyUser     = "system:kube-proxy"
	masters       = "system:masters" // this group may do everything
)

// nodeUser is the name by which the API server knows a node's kubelet.
func nodeUser(node string) string { return "system:node:" + node }

// writeSecrets makes the lab's certificates, keys and kubeconfigs.
func (l *Lab) writeSecrets() error {
	ca, err := newAuthority()
	if err != nil {
		return fmt.Errorf("make a certificate authority: %w", err)
	}
	saKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the ServiceAccount key: %w", err)
	}
	addrs := append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParsePrefix(Svc4).Addr().Next()},
		families(l.opts, lan4(controlHost), lan6(controlHost))...)
	server, err := ca.issue("kube-apiserver", nil,
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, addrs)
	if err != nil {
		return err
	}
	toKubelet, err := ca.issue("kube-apiserver-kubelet-client", []string{masters}, nil, nil)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"ca.crt": ca.pem, "ca.key": encodeKey(ca.key), "sa.key": encodeKey(saKey),
		"apiserver.crt": server.cert, "apiserver.key": server.key,
		"apiserver-kubelet.crt": toKubelet.cert, "apiserver-kubelet.key": toKubelet.key,
	}
	for name, data := range files {
		if err := writeFile(l.pki(name), data); err != nil {
			return err
		}
	}
	return l.writeKubeconfigs(ca)
}

// writeKubeconfigs writes one kubeconfig for each user.
func (l *Lab) writeKubeconfigs(ca *authority) error {
	users := map[string][]string{
		adminUser: {masters}, managerUser: {masters}, schedulerUser: nil, proxyUser: nil,
	}
	for _, n := range l.Nodes() {
		users[nodeUser(n.Name)] = []string{"system:nodes"}
	}
	for user, groups := range users {
		id, err := ca.issue(user, groups, nil, nil)
		if err != nil {
			return err
		}
		auth := &clientcmdapi.AuthInfo{ClientCertificateData: id.cert, ClientKeyData: id.key}
		if err := l.writeKubeconfig(l.kubeconfig(user), ca.pem, auth); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) writeKubeconfig(path string, ca []byte, auth *clientcmdapi.AuthInfo) error {
	const name = "lab"
	c := clientcmdapi.NewConfig()
	c.Clusters[name] = &clientcmdapi.Cluster{Server: l.apiServer(), CertificateAuthorityData: ca}
	c.AuthInfos[name] = auth
	c.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	c.CurrentContext = name
	data, err := clientcmd.Write(*c)
	if err != nil {
		return fmt.Errorf("encode kubeconfig %s: %w", path, err)
	}
	return writeFile(path, data)
}

func (l *Lab) pki(name string) string { return filepath.Join(l.dir, "pki", name) }

// kubeconfig is where the kubeconfig of a user lies.
func (l *Lab) kubeconfig(user string) string {
	// A colon would split the path where it is used in $KUBECONFIG.
	return filepath.Join(l.dir, "kubeconfig", strings.ReplaceAll(user, ":", "-"))
}

// writeFile replaces a file in one step: whoever reads it meanwhile, as a program that shares a kubeconfig, sees all or nothing.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".*.tmp") // of mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
