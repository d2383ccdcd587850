// Package lab runs a real Kubernetes on one machine, without containers around
// it and without touching the machine's own network: one network namespace is
// the switch, one each holds the control plane, a node, a client and a router.
//
// In the light mode there are no kubelets: the lab creates the Node objects
// itself, and backends are plain processes. In the full mode every node runs
// containerd, kubelet and kube-proxy.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/bellwether-lb/bellwether/e2e/components"
)

// DefaultName is the lab that commands mean when none is named.
const DefaultName = "lab"

// Options say what a lab is to be. The zero value is three nodes, both address
// families, full mode.
type Options struct {
	// Name tells labs on one machine apart: up to 12 of a-z and 0-9.
	Name string
	// Nodes is how many, 3 when zero.
	Nodes int
	// IPv4Only leaves IPv6 out everywhere.
	IPv4Only bool
	// Light leaves out kubelets, containers and the scheduler.
	Light bool
	// Kind has kind make the cluster, of Docker containers, instead of the lab.
	Kind bool
	// NodeImage is that of kind's nodes, kind's own choice when empty.
	NodeImage string
	// Audit has the API server write down who asked it for what: AuditLog.
	Audit bool
	// NeighbourTable raises the machine-wide limit of neighbour entries to this
	// many while the lab is up. Zero leaves it alone.
	NeighbourTable int
	// Log gets a line for each step; nil means silence.
	Log io.Writer `json:"-"`
}

// complete fills in defaults and refuses what cannot be.
func (o Options) complete() (Options, error) {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.NodeImage != "" && !o.Kind {
		return o, fmt.Errorf("only kind's nodes are made of an image: ask for kind, or leave %s out", o.NodeImage)
	}
	if o.Kind && (o.Light || o.Audit || o.Nodes > maxKindNodes) {
		return o, fmt.Errorf("a lab of kind's has up to %d nodes, all with kubelets, and no audit log", maxKindNodes)
	}
	if o.Nodes < 1 || o.Nodes > maxNodes {
		return o, fmt.Errorf("a lab has 1 to %d nodes, not %d", maxNodes, o.Nodes)
	}
	return o, checkName(o.Name)
}

func checkName(name string) error {
	if !regexp.MustCompile(`^[a-z0-9]{1,12}$`).MatchString(name) {
		return fmt.Errorf("the name of a lab is 1 to 12 of a-z and 0-9, not %q", name)
	}
	return nil
}

// Lab is one lab, up or half up. Its state lies in files, so any number of
// programs can open it at once; Up, Down, PowerOff and PowerOn take its lock.
type Lab struct {
	opts Options
	dir  string // state: records, logs, certificates
	bins components.Binaries

	// Of a lab of kind's: what kind named and numbered.
	workers []Node
	master  string
}

// record is what lab.json holds. It is written before anything is made.
type record struct {
	Options  Options
	Binaries components.Binaries
	Workers  []Node
	Master   string
	Ready    bool
}

// stateRoot holds one folder per lab. dataRoot is for what may grow large.
const (
	stateRoot = "/run/bellwether-lab"
	dataRoot  = "/var/lib/bellwether-lab"
)

func newLab(o Options) *Lab { return &Lab{opts: o, dir: filepath.Join(stateRoot, o.Name)} }

// ErrNoLab is what Open returns when no lab of that name is up.
var ErrNoLab = errors.New("no such lab is up")

// Open finds a lab that Up made.
func Open(name string) (*Lab, error) {
	l, rec, err := load(name)
	if err != nil {
		return nil, err
	}
	if !rec.Ready {
		return nil, fmt.Errorf("open lab %s: %w: an earlier up did not finish (run down, or up again)", name, ErrNoLab)
	}
	return l, nil
}

// load reads a lab's record, finished or not.
func load(name string) (*Lab, record, error) {
	var rec record
	if name == "" {
		name = DefaultName
	}
	if err := checkName(name); err != nil {
		return nil, rec, err
	}
	l := newLab(Options{Name: name, Log: io.Discard})
	if err := readJSON(filepath.Join(l.dir, "lab.json"), &rec); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return l, rec, fmt.Errorf("open lab %s: %w", name, ErrNoLab)
		}
		return l, record{}, fmt.Errorf("open lab %s: %w", name, err)
	}
	// What Down removes goes by the name: a record must not be able to change it.
	if rec.Options.Name != name {
		return l, record{}, fmt.Errorf("open lab %s: its record is of lab %q", name, rec.Options.Name)
	}
	l.opts, l.bins, l.workers, l.master = rec.Options, rec.Binaries, rec.Workers, rec.Master
	l.opts.Log = io.Discard
	return l, rec, nil
}

func (l *Lab) save(ready bool) error {
	return writeJSON(filepath.Join(l.dir, "lab.json"), record{l.opts, l.bins, l.workers, l.master, ready})
}

// Options are those the lab was made with, defaults filled in.
func (l *Lab) Options() Options { return l.opts }

// Dir holds the lab's state: logs/PLACE/NAME.log is what people look for.
func (l *Lab) Dir() string { return l.dir }

// Nodes lists the machines of the cluster in order.
func (l *Lab) Nodes() []Node {
	if l.opts.Kind {
		return slices.Clone(l.workers)
	}
	return l.opts.nodes()
}

// Node finds a machine by name.
func (l *Lab) Node(name string) (Node, error) {
	for _, n := range l.Nodes() {
		if n.Name == name {
			return n, nil
		}
	}
	var names []string
	for _, n := range l.Nodes() {
		names = append(names, n.Name)
	}
	return Node{}, fmt.Errorf("lab %s has no node %q (it has %s)", l.opts.Name, name, strings.Join(names, ", "))
}

// Places lists every namespace by the name that commands take.
func (l *Lab) Places() []string {
	list := []string{Switch}
	for _, p := range l.places() {
		list = append(list, p.name)
	}
	return list
}

// Addrs are the addresses on the segment of a node, or of Control, Client,
// Router or Second: IPv4, then IPv6 unless the lab is IPv4-only.
func (l *Lab) Addrs(where string) []netip.Addr {
	for _, p := range l.places() {
		if p.name == where {
			return p.addrs
		}
	}
	return nil
}

// NetNS is the path of a place's network namespace, for InNetNS and nsenter.
func (l *Lab) NetNS(where string) string {
	if l.opts.Kind && where == Switch { // Docker's bridge is among this machine's own links
		return fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	}
	return nsPath(l.opts.Name, where)
}

// Dial connects from inside a place. The address is literal, not a name.
func (l *Lab) Dial(ctx context.Context, where, network, addr string) (net.Conn, error) {
	return dialer(l.NetNS(where))(ctx, network, addr)
}

// Binary is the path of a program of the lab's components, such as kubectl.
func (l *Lab) Binary(name string) string { return l.bins[name] }

func (l *Lab) apiServer() string {
	return "https://" + netip.AddrPortFrom(lan4(controlHost), 6443).String()
}

// Kubeconfig is the administrator's. Its API server can be reached from inside
// the lab's places, not from the machine.
func (l *Lab) Kubeconfig() string { return l.kubeconfig(adminUser) }

// RESTConfig is the administrator's client configuration. Its connections are
// made inside the control plane's namespace, so it works in any process on the
// machine. It has no rate limit.
func (l *Lab) RESTConfig() (*rest.Config, error) {
	c, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read the lab's kubeconfig: %w", err)
	}
	c.Dial = dialer(l.NetNS(Control))
	c.QPS, c.Burst = -1, -1
	return c, nil
}

// Client is the administrator's.
func (l *Lab) Client() (kubernetes.Interface, error) {
	c, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(c)
}

// ServiceAccountKubeconfig writes a kubeconfig with a token of a ServiceAccount
// that exists, good for a day, and returns its path: a process that uses it has
// exactly the rights that its pod would have.
func (l *Lab) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	client, err := l.Client()
	if err != nil {
		return "", err
	}
	day := int64(24 * time.Hour / time.Second)
	req := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &day}}
	tok, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, req, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("ask for a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	ca, err := os.ReadFile(l.pki("ca.crt"))
	if err != nil {
		return "", err
	}
	path := l.kubeconfig("serviceaccount-" + namespace + "-" + name)
	return path, l.writeKubeconfig(path, ca, &clientcmdapi.AuthInfo{Token: tok.Status.Token})
}
