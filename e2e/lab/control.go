package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the control plane's processes, all in the place Control.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	KubeProxy         = "kube-proxy" // one in every node
)

const dataSize = "4g"

// storeDir is where etcd writes.
func (l *Lab) storeDir() string { return filepath.Join(l.dir, "data") }

// mountData puts a tmpfs below the state folder: etcd writes a lot, and nothing
// of it is worth a disk.
func (l *Lab) mountData() error {
	dir := l.storeDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("bellwether-lab", dir, "tmpfs", 0, "size="+dataSize+",mode=0700"); err != nil {
		return fmt.Errorf("mount a tmpfs at %s: %w", dir, err)
	}
	return nil
}

// startControlPlane starts etcd and the API server, and waits for the latter.
func (l *Lab) startControlPlane(ctx context.Context) error {
	if l.opts.Audit {
		if err := l.writeAuditPolicy(); err != nil {
			return err
		}
	}
	for _, spec := range []ProcSpec{l.etcd(), l.apiServerSpec()} {
		if _, err := l.Start(Control, spec); err != nil {
			return err
		}
	}
	return l.WaitAPIServer(ctx)
}

// WaitAPIServer waits until the API server says that it is ready.
func (l *Lab) WaitAPIServer(ctx context.Context) error {
	p, err := l.Process(Control, APIServer)
	if err != nil {
		return err
	}
	return waitFor(ctx, 90*time.Second, "the API server to be ready", func(ctx context.Context) error {
		if !p.Alive() {
			return giveUp(fmt.Errorf("kube-apiserver ended; its last lines:\n%s", p.LogTail(15)))
		}
		return l.apiServerReady(ctx)
	})
}

// apiServerReady is nil when the API server says that it is ready.
func (l *Lab) apiServerReady(ctx context.Context) error {
	client, err := l.Client()
	if err != nil {
		return err
	}
	return client.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// StopAPIServer kills the API server. It stays dead until restart is called, which waits until it is ready.
func (l *Lab) StopAPIServer(ctx context.Context) (restart func(context.Context) error, err error) {
	if l.opts.Kind {
		return l.stopKindServer(ctx)
	}
	p, err := l.Process(Control, APIServer)
	if err != nil {
		return nil, err
	}
	restart = func(ctx context.Context) error {
		if err := l.Restart(p); err != nil {
			return err
		}
		return l.WaitAPIServer(ctx)
	}
	return restart, p.Kill()
}

func (l *Lab) etcd() ProcSpec {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return ProcSpec{Name: Etcd, Args: []string{
		l.bins["etcd"], "--name=lab", "--data-dir=" + filepath.Join(l.storeDir(), "etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=lab=" + peer,
		"--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=4294967296",
	}}
}

func (l *Lab) apiServerSpec() ProcSpec {
	bind := "::"
	if l.opts.IPv4Only {
		bind = "0.0.0.0"
	}
	args := []string{
		l.bins["kube-apiserver"], "--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=" + bind, "--secure-port=6443", "--advertise-address=" + lan4(controlHost).String(),
		"--tls-cert-file=" + l.pki("apiserver.crt"), "--tls-private-key-file=" + l.pki("apiserver.key"),
		"--client-ca-file=" + l.pki("ca.crt"),
		"--kubelet-client-certificate=" + l.pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + l.pki("apiserver-kubelet.key"),
		// The default asks DNS for the node's name first, and there is no DNS.
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + l.pki("sa.key"), "--service-account-signing-key-file=" + l.pki("sa.key"),
		"--service-cluster-ip-range=" + strings.Join(families(l.opts, Svc4, Svc6), ","),
		"--authorization-mode=Node,RBAC", "--allow-privileged=true",
	}
	if l.opts.Light { // benchmarks measure us, not the API server's fairness
		args = append(args, "--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
			"--enable-priority-and-fairness=false")
	} else {
		args = append(args, "--enable-admission-plugins=NodeRestriction")
	}
	if l.opts.Audit {
		args = append(args, "--audit-policy-file="+l.auditPolicy(), "--audit-log-path="+l.AuditLog(), "--audit-log-mode=blocking")
	}
	return ProcSpec{Name: APIServer, Args: args}
}

// AuditLog is where the API server of a lab with Audit writes down who asked it for what: a line of audit.k8s.io/v1 JSON for each answer.
func (l *Lab) AuditLog() string { return filepath.Join(l.dir, "audit.log") }

func (l *Lab) auditPolicy() string { return filepath.Join(l.dir, "audit.yaml") }

func (l *Lab) writeAuditPolicy() error {
	const policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
	if err := os.WriteFile(l.auditPolicy(), []byte(policy), 0o600); err != nil {
		return fmt.Errorf("write the audit policy: %w", err)
	}
	return nil
}

func (l *Lab) controllerManager() ProcSpec {
	args := []string{
		l.bins["kube-controller-manager"], "--kubeconfig=" + l.kubeconfig(managerUser),
		"--leader-elect=false", "--bind-address=127.0.0.1",
		"--service-account-private-key-file=" + l.pki("sa.key"), "--root-ca-file=" + l.pki("ca.crt"),
		"--kube-api-qps=5000", "--kube-api-burst=5000", "--endpointslice-updates-batch-period=0s",
	}
	if l.opts.Light {
		args = append(args, "--controllers="+strings.Join([]string{
			"endpointslice-controller", "namespace-controller", "garbage-collector-controller",
			"serviceaccount-controller", "root-ca-certificate-publisher-controller",
		}, ","))
	} else {
		args = append(args, "--allocate-node-cidrs", "--cluster-cidr="+l.podRange(),
			"--service-cluster-ip-range="+strings.Join(families(l.opts, Svc4, Svc6), ","),
			"--cluster-signing-cert-file="+l.pki("ca.crt"), "--cluster-signing-key-file="+l.pki("ca.key"))
	}
	return ProcSpec{Name: ControllerManager, Args: args}
}

func (l *Lab) scheduler() ProcSpec {
	return ProcSpec{Name: Scheduler, Args: []string{
		l.bins["kube-scheduler"], "--kubeconfig=" + l.kubeconfig(schedulerUser),
		"--leader-elect=false", "--bind-address=127.0.0.1",
	}}
}

func (l *Lab) podRange() string { return strings.Join(families(l.opts, Pod4, Pod6), ",") }

// kubeProxy is a node's kube-proxy. Its configuration is a file.
func (l *Lab) kubeProxy(n Node) (ProcSpec, error) {
	path := filepath.Join(l.dir, "conf", "kube-proxy-"+n.Name+".yaml")
	// The default minSyncPeriod of 1 s would hide what is to be measured. The
	// conntrack limits are the machine's, which a namespace may not write.
	conf := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection:
  kubeconfig: %q
  qps: 100
  burst: 200
hostnameOverride: %s
mode: nftables
nftables:
  minSyncPeriod: 50ms
  syncPeriod: 30s
detectLocalMode: ClusterCIDR
clusterCIDR: %q
healthzBindAddress: %q
metricsBindAddress: "127.0.0.1:10249"
conntrack:
  maxPerCore: 0
  min: 0
`, l.kubeconfig(proxyUser), n.Name, l.podRange(), netip.AddrPortFrom(n.Addrs[0], proxyHealthPort))
	if err := writeFile(path, []byte(conf)); err != nil {
		return ProcSpec{}, fmt.Errorf("write kube-proxy's configuration: %w", err)
	}
	return ProcSpec{Name: KubeProxy, AtPowerOn: true, Args: []string{l.bins["kube-proxy"], "--config=" + path}}, nil
}

const proxyHealthPort = 10256
