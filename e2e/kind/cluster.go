package kind

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// Cluster is one of kind's clusters, there or not.
type Cluster struct {
	// Name is kind's for the cluster, Docker's for its network, and the kernel's for the network's bridge: 15 characters at most.
	Name string
	// Program is kind's executable.
	Program string
	// Dir is a folder for what kind writes.
	Dir string
}

// Range is one address family of a plan.
type Range struct {
	Subnet, Pods, Services netip.Prefix
	Nodes                  netip.Prefix // the part of the subnet that nodes are numbered from
	Gateway                netip.Addr   // the machine's own address on the subnet
}

// Spec says what a cluster is to be.
type Spec struct {
	Workers int
	Ranges  []Range // IPv4, then IPv6 where the cluster has both
	Image   string  // of the nodes; kind's own choice when empty
}

// Machine is one node.
type Machine struct {
	Name         string
	ControlPlane bool
	PID          int          // of its first process; 0 without power
	Started      time.Time    // when it last got power
	Addrs        []netip.Addr // IPv4, then IPv6; none without power
}

// NetNS is the path of a node's network namespace, as long as it has power.
func (m Machine) NetNS() string { return "/proc/" + strconv.Itoa(m.PID) + "/ns/net" }

// configuration is kind's. Nothing that is tried here looks a name up, and machines with cgroup v1 are welcome.
const configuration = `kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  ipFamily: {{if gt (len .Ranges) 1}}dual{{else}}ipv4{{end}}
  podSubnet: "{{range $i, $r := .Ranges}}{{if $i}},{{end}}{{$r.Pods}}{{end}}"
  serviceSubnet: "{{range $i, $r := .Ranges}}{{if $i}},{{end}}{{$r.Services}}{{end}}"
  kubeProxyMode: nftables
kubeadmConfigPatches:
- |
  kind: ClusterConfiguration
  dns:
    disabled: true
- |
  kind: KubeletConfiguration
  failCgroupV1: false
nodes:
- role: control-plane
{{range .Workers}}- role: worker
{{end}}`

func configure(s Spec) (io.Reader, error) {
	t, err := template.New("kind").Parse(configuration)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	return &out, t.Execute(&out, s)
}

// Create makes the network and the cluster, and waits a while until its control plane is ready; workers may still be coming. It fails where the
// daemon has its network elsewhere.
func (c Cluster) Create(ctx context.Context, s Spec, log io.Writer) error {
	if err := c.createNetwork(ctx, s.Ranges); err != nil {
		return err
	}
	config, err := configure(s)
	if err != nil {
		return fmt.Errorf("write kind's configuration: %w", err)
	}
	args := []string{"create", "cluster", "--name", c.Name, "--config", "-", "--kubeconfig", filepath.Join(c.Dir, "kind.conf"), "--wait", "180s"}
	if s.Image != "" {
		args = append(args, "--image", s.Image)
	}
	cmd := c.kind(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = config, log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kind create cluster: %w", err)
	}
	return nil
}

// createNetwork makes the network that nodes are on, with a bridge of the cluster's name.
func (c Cluster) createNetwork(ctx context.Context, ranges []Range) error {
	args := []string{"network", "create", "--driver", "bridge", "--opt", "com.docker.network.bridge.name=" + c.Name}
	if len(ranges) > 1 {
		args = append(args, "--ipv6")
	}
	for _, r := range ranges {
		args = append(args, "--subnet", r.Subnet.String(), "--ip-range", r.Nodes.String(), "--gateway", r.Gateway.String())
	}
	if _, err := docker(ctx, append(args, c.Name)...); err != nil {
		return err
	}
	if _, err := net.InterfaceByName(c.Name); err != nil {
		return fmt.Errorf("the Docker daemon has its bridges elsewhere: run this on the daemon's machine, in its network namespace: %w", err)
	}
	return nil
}

// label is what kind marks its nodes with.
const label = "label=io.x-k8s.kind.cluster="

// Delete removes the cluster and its network, by their name; what is not there is no error.
func (c Cluster) Delete(ctx context.Context) error {
	nodes, err := docker(ctx, "ps", "--all", "--quiet", "--filter", label+c.Name)
	if err != nil {
		return err
	}
	if nodes != "" {
		if _, err := docker(ctx, append([]string{"rm", "--force", "--volumes"}, strings.Fields(nodes)...)...); err != nil {
			return err
		}
	}
	networks, err := docker(ctx, "network", "ls", "--quiet", "--filter", "name=^"+c.Name+"$")
	if err != nil || networks == "" {
		return err
	}
	_, err = docker(ctx, "network", "rm", c.Name)
	return err
}

// Machines are the nodes, in the order of their names.
func (c Cluster) Machines(ctx context.Context) ([]Machine, error) {
	names, err := docker(ctx, "ps", "--all", "--filter", label+c.Name, "--format", "{{.Names}}")
	if err != nil || names == "" {
		return nil, err
	}
	out, err := docker(ctx, append([]string{"inspect"}, strings.Fields(names)...)...)
	if err != nil {
		return nil, err
	}
	return parse([]byte(out), c.Name)
}

// Kubeconfig is the administrator's, for an API server at this address.
func (c Cluster) Kubeconfig(ctx context.Context, server string) ([]byte, error) {
	out, err := c.kind(ctx, "get", "kubeconfig", "--name", c.Name, "--internal").Output()
	if err != nil {
		return nil, fmt.Errorf("kind get kubeconfig: %w", err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if key, _, is := strings.Cut(line, "server:"); is && strings.TrimSpace(key) == "" {
			line = key + "server: " + server + "\n"
		}
		lines = append(lines, line)
	}
	return []byte(strings.Join(lines, "")), nil
}

// Load gives every node the images of a tarball. All must have power.
func (c Cluster) Load(ctx context.Context, tarball string) error {
	if out, err := c.kind(ctx, "load", "image-archive", tarball, "--name", c.Name).CombinedOutput(); err != nil {
		return fmt.Errorf("kind load image-archive %s: %w: %s", tarball, err, out)
	}
	return nil
}

// Kill ends every process of a node at once.
func (c Cluster) Kill(ctx context.Context, node string) error {
	_, err := docker(ctx, "kill", node)
	return err
}

// Start boots a node again, with the addresses that it had: left to itself, Docker gives it those that are free.
func (c Cluster) Start(ctx context.Context, node string, addrs []netip.Addr) error {
	connect := []string{"network", "connect"}
	for _, a := range addrs {
		if a.Is4() {
			connect = append(connect, "--ip", a.String())
		} else {
			connect = append(connect, "--ip6", a.String())
		}
	}
	for _, args := range [][]string{{"network", "disconnect", "--force", c.Name, node}, append(connect, c.Name, node), {"start", node}} {
		if _, err := docker(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Shell runs a shell's command on a node.
func (c Cluster) Shell(ctx context.Context, node, command string) error {
	_, err := docker(ctx, "exec", node, "sh", "-euc", command)
	return err
}

// CopyOut copies a file of a node.
func (c Cluster) CopyOut(ctx context.Context, node, from, to string) error {
	_, err := docker(ctx, "cp", "--follow-link", node+":"+from, to)
	return err
}

func (c Cluster) kind(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Program, args...)
	cmd.Env = append(os.Environ(), "KIND_EXPERIMENTAL_PROVIDER=docker", "KIND_EXPERIMENTAL_DOCKER_NETWORK="+c.Name)
	return cmd
}

func docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// inspected is what is read of "docker inspect".
type inspected struct {
	Name  string
	State struct {
		Pid       int
		StartedAt time.Time
	}
	Config struct{ Labels map[string]string }

	NetworkSettings struct {
		Networks map[string]struct{ IPAddress, GlobalIPv6Address string }
	}
}

func parse(data []byte, network string) ([]Machine, error) {
	var all []inspected
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("read what docker inspect says: %w", err)
	}
	var list []Machine
	for _, i := range all {
		m := Machine{Name: strings.TrimPrefix(i.Name, "/"), PID: i.State.Pid, Started: i.State.StartedAt, ControlPlane: i.Config.Labels["io.x-k8s.kind.role"] == "control-plane"}
		on := i.NetworkSettings.Networks[network]
		for _, text := range []string{on.IPAddress, on.GlobalIPv6Address} {
			if text == "" {
				continue
			}
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("read the address of %s: %w", m.Name, err)
			}
			m.Addrs = append(m.Addrs, a)
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Machine) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}
