package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// nsDir is where named network namespaces are bound, as iproute2 does it.
const nsDir = "/run/netns"

// nsName names the namespace of a place. Lab names hold no dash, so the prefix
// of one lab is never the prefix of another's.
func nsName(lab, where string) string { return nsPrefix(lab) + where }

func nsPrefix(lab string) string { return "bw-" + lab + "-" }

func nsPath(lab, where string) string { return filepath.Join(nsDir, nsName(lab, where)) }

// onThread runs f on an operating-system thread that ends with f, so that f
// may change the thread's namespace without ever having to change it back. It
// is never the process's first thread: that one's namespace is what others see
// in /proc, and it cannot be ended.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// This goroutine holds the first thread, so the next one gets another.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		done <- f() // exits locked: the runtime ends the thread
	}()
	return <-done
}

// InNetNS runs f with the calling thread inside the network namespace bound at
// path. Sockets opened by f itself (not by goroutines it starts) stay in that
// namespace for good.
func InNetNS(path string, f func() error) error {
	return onThread(func() error {
		ns, err := netns.GetFromPath(path)
		if err != nil {
			return fmt.Errorf("open network namespace %s: %w", path, err)
		}
		defer func() { _ = ns.Close() }()
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", path, err)
		}
		return f()
	})
}

// createNS makes a named network namespace with its loopback up.
func createNS(name string) error {
	if err := onThread(func() error {
		ns, err := netns.NewNamed(name)
		if err != nil {
			return err
		}
		return ns.Close()
	}); err != nil {
		return fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return nil
}

// deleteNS removes a named network namespace, also one that was half made.
func deleteNS(name string) error {
	if !strings.HasPrefix(name, "bw-") || strings.Contains(name, "/") {
		return fmt.Errorf("%q is no lab's namespace", name)
	}
	path := filepath.Join(nsDir, name)
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// nsInode identifies a namespace the way /proc/PID/ns/net does; false when
// nothing is bound at path.
func nsInode(path string) (uint64, bool) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Statfs(path, &fs) != nil || fs.Type != unix.NSFS_MAGIC || unix.Stat(path, &st) != nil {
		return 0, false
	}
	return st.Ino, true
}

// dialer returns a dial function whose connections start inside a namespace.
// Addresses must be literal: a name would be looked up by another thread.
func dialer(path string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var conn net.Conn
		err := InNetNS(path, func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}
}

// setSysctl writes a value below /proc/sys of the calling thread's namespace.
func setSysctl(key, value string) error {
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", key, value, err)
	}
	return nil
}
