package sweep

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// markFile in a folder is what proves that Own made it.
const markFile = ".bellwether-e2e"

// Own makes a folder, and those above it, so that Remove may remove it. A
// folder that holds anything already, and was not made by Own, is refused.
func Own(dir string) error {
	if err := check(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if Owned(dir) {
		return nil
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return errors.Join(err, fmt.Errorf("folder %s is in use: %w", dir, ErrRefused))
	}
	const words = "Made by Bellwether's e2e lab, which removes this folder and all in it.\n"
	return os.WriteFile(filepath.Join(dir, markFile), []byte(words), 0o600)
}

// Owned reports whether Own made a folder.
func Owned(dir string) bool {
	st, err := os.Lstat(filepath.Join(dir, markFile))
	return err == nil && st.Mode().IsRegular() && check(dir) == nil
}

// check refuses folders that cannot be a lab's own.
func check(dir string) error {
	// One level below the root are /run, /tmp, /home: never a lab's own.
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || strings.Count(dir, "/") < 2 {
		return fmt.Errorf("folder %q is not a clean absolute path at least two levels deep: %w", dir, ErrRefused)
	}
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !st.IsDir() { // also a link to one
		err = fmt.Errorf("%s is not a folder: %w", dir, ErrRefused)
	}
	return err
}

// Remove removes a folder that Own made, with all in it, after unmounting what
// lies there. That it is gone already is no error.
func Remove(dir string) error {
	if err := check(dir); err != nil {
		return fmt.Errorf("remove a folder: %w", err)
	}
	// Without a mark only what cannot hurt is tried: removing it if empty.
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !Owned(dir) {
		return fmt.Errorf("remove %s: it lacks the mark %s: %w", dir, markFile, ErrRefused)
	}
	if err := Unmount(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Unmount takes away every mount at and below a folder that Own made. It is an
// error as long as one is left: to remove a folder with a mount in it would be
// to remove what was mounted.
func Unmount(dir string) error {
	if err := check(dir); err != nil {
		return fmt.Errorf("unmount what is in a folder: %w", err)
	}
	for range 10 {
		below, err := MountsBelow(dir)
		if err != nil || len(below) == 0 {
			return err
		}
		if !Owned(dir) {
			return fmt.Errorf("unmount what is in %s: it lacks the mark %s: %w", dir, markFile, ErrRefused)
		}
		// Later mounts lie upon earlier ones. A mount upon a mount needs
		// another round, as does one that propagation has already taken.
		for _, path := range slices.Backward(below) {
			err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("unmount %s: %w", path, err)
			}
		}
	}
	return fmt.Errorf("there are still mounts below %s", dir)
}

// Mount is one line of /proc/self/mountinfo, proc_pid_mountinfo(5).
type Mount struct {
	Path, Kind string
}

// Mounts lists what is mounted, in the order of mounting.
func Mounts() ([]Mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return parseMounts(string(data)), nil
}

// MountsBelow lists the mount points at and below a folder.
func MountsBelow(dir string) ([]string, error) {
	mounts, err := Mounts()
	if err != nil {
		return nil, err
	}
	// The kernel tells paths without links in them.
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	var below []string
	for _, m := range mounts {
		if Within(m.Path, dir) {
			below = append(below, m.Path)
		}
	}
	return below, nil
}

// parseMounts reads mount points and kinds. Blanks and backslashes in a path
// are written as three octal digits.
func parseMounts(info string) []Mount {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var mounts []Mount
	for line := range strings.Lines(info) {
		before, after, found := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 5 || len(kind) < 1 {
			continue
		}
		mounts = append(mounts, Mount{unescape.Replace(fields[4]), kind[0]})
	}
	return mounts
}

// Within reports whether path is dir or lies below it. Nothing lies within the
// empty path or the root.
func Within(path, dir string) bool {
	return dir != "" && dir != "/" && (path == dir || strings.HasPrefix(path, dir+"/"))
}
