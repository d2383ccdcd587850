package components

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Package is something the lab needs from the operating system's packages.
type Package struct {
	Name string // as Debian and Ubuntu call it
	// Probe is a command looked up in PATH, or an absolute path, whose
	// presence shows that the package is there.
	Probe string
	Why   string
}

// LightPackages are what the light mode needs.
func LightPackages() []Package {
	return []Package{
		{"iproute2", "ip", "looking around in the lab's namespaces"},
		{"util-linux", "nsenter", "entering a namespace"},
		{"nftables", "nft", "kube-proxy in nftables mode"},
		{"iptables", "iptables", "hostPort and kube-proxy in iptables mode"},
		{"conntrack", "conntrack", "kube-proxy, and forgetting flows on power-off"},
		{"iputils-arping", "arping", "asking for an address by ARP"},
		{"ndisc6", "ndisc6", "asking for an address by NDP"},
		{"tcpdump", "tcpdump", "lab tcpdump"},
		{"ethtool", "ethtool", "looking at links"},
		{"curl", "curl", "asking a Service over HTTP"},
		{"frr", "/usr/lib/frr/bgpd", "a router to speak BGP and BFD with"},
		{"bird2", "bird", "another router, of other people"},
		{"chromium", "chromium", "looking at the status page"},
		{"prometheus", "promtool", "testing alerts, and reading metrics as users do"},
	}
}

// FullPackages are what the full mode needs, including the build of runc.
func FullPackages() []Package {
	return append(LightPackages(),
		Package{"containernetworking-plugins", "/usr/lib/cni/ptp", "pod networking"},
		Package{"libseccomp-dev", "/usr/include/seccomp.h", "building runc"},
		Package{"pkg-config", "pkg-config", "building runc"},
		Package{"gcc", "gcc", "building runc"},
		Package{"libc6-dev", "/usr/include/stdio.h", "building runc"},
		Package{"kmod", "modprobe", "loading kernel modules where they are modules"},
	)
}

// NodePackages are what it takes, beside Docker, to make an image of kind's nodes.
func NodePackages() []Package {
	return append(FullPackages(),
		Package{"mmdebstrap", "mmdebstrap", "putting Debian's packages into an image"},
		Package{"debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg", "knowing Debian's packages"},
	)
}

// InstallPackages makes sure that the packages are there. As root on Debian or
// Ubuntu it installs what is missing, and says so; elsewhere the error names
// what is missing and how to get it.
func InstallPackages(ctx context.Context, out io.Writer, list []Package) error {
	var lacking []Package
	var names []string
	for _, p := range list {
		if !p.present() {
			lacking = append(lacking, p)
			names = append(names, p.Name)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	install := "apt-get install -y --no-install-recommends " + strings.Join(names, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		var b strings.Builder
		fmt.Fprintln(&b, "these programs are missing (Debian's package names; other systems have them under similar ones):")
		for _, p := range lacking {
			fmt.Fprintf(&b, "  %-28s for %s\n", p.Name, p.Why)
		}
		if err == nil {
			fmt.Fprintf(&b, "run this as root, or install them first: sudo %s", install)
		} else {
			fmt.Fprint(&b, "install them with this system's package tool and try again")
		}
		return fmt.Errorf("%s", b.String())
	}
	fmt.Fprintf(out, "installing Debian packages: %s\n", strings.Join(names, " "))
	if err := apt(ctx, out, "update"); err != nil {
		return err
	}
	allow, err := forbidServices()
	if err != nil {
		return err
	}
	defer allow()
	args := append([]string{"install", "-y", "--no-install-recommends"}, names...)
	if err := apt(ctx, out, args...); err != nil {
		return err
	}
	for _, p := range lacking {
		if !p.present() {
			return fmt.Errorf("package %s is installed, but %s is still missing", p.Name, p.Probe)
		}
	}
	return nil
}

// forbidServices keeps packages from starting their daemons on the machine itself, the way Debian's policy has it, until it is allowed
// again. A machine that has a policy keeps it.
func forbidServices() (allow func(), err error) {
	const policy = "/usr/sbin/policy-rc.d"
	file, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keep daemons from being started: %w", err)
	}
	_, err = file.WriteString("#!/bin/sh\nexit 101\n")
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("keep daemons from being started: %w", err), os.Remove(policy))
	}
	return func() { _ = os.Remove(policy) }, nil
}

func (p Package) present() bool {
	if strings.HasPrefix(p.Probe, "/") {
		_, err := os.Stat(p.Probe)
		return err == nil
	}
	_, err := exec.LookPath(p.Probe)
	return err == nil
}

// apt runs apt-get without questions, waits for its lock, and shows its output
// only when it fails.
func apt(ctx context.Context, out io.Writer, args ...string) error {
	start := time.Now()
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=300"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	done := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run apt-get %s: %w", args[0], err)
	}
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, output.Bytes())
			}
			return nil
		case <-time.After(5 * time.Second):
			fmt.Fprintf(out, "  apt-get %s: %s\n", args[0], time.Since(start).Round(time.Second))
		}
	}
}
