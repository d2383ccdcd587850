// Package sysctl changes settings of the whole machine for as long as somebody
// needs them, and puts them back after the last.
package sysctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/bellwether-lb/bellwether/e2e/internal/flock"
)

// recordFile holds, in the folder of each user, what the settings were.
const recordFile = "limits.json"

// Raise writes down in dir what the machine's settings are, then raises each to
// at least the value given; zero leaves it, for somebody else to change. Keys
// are paths below /proc/sys. The folders of all users lie side by side.
func Raise(ctx context.Context, dir string, wants map[string]int) error {
	unlock, err := lock(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	was := map[string]string{}
	for key := range wants {
		if was[key], err = read(key); err != nil {
			return err
		}
	}
	now := maps.Clone(was)
	// Another user may have changed one already: then its record is the truth.
	for key, value := range others(dir) {
		if _, mine := was[key]; mine {
			was[key] = value
		}
	}
	data, err := json.Marshal(was)
	if err != nil {
		return err
	}
	record := filepath.Join(dir, recordFile)
	if err := os.WriteFile(record+".tmp", data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(record+".tmp", record); err != nil {
		return err
	}
	for key, want := range wants {
		if n, err := strconv.Atoi(now[key]); err != nil || n >= want {
			continue
		}
		if err := write(key, strconv.Itoa(want)); err != nil {
			return err
		}
	}
	return nil
}

// Restore puts back what was changed for this user, except what another user
// changed too: that one's Restore will. No record is no error. One that cannot
// be right is: nothing in it is believed, and it is forgotten.
func Restore(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, recordFile)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := lock(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	was, err := load(dir)
	needed := others(dir)
	var errs []error
	for key, value := range was {
		if _, needed := needed[key]; !needed {
			errs = append(errs, write(key, value))
		}
	}
	return errors.Join(err, errors.Join(errs...), os.Remove(filepath.Join(dir, recordFile)))
}

// others is what other users have written down.
func others(dir string) map[string]string {
	all := map[string]string{}
	records, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", recordFile))
	for _, r := range records {
		if filepath.Dir(r) == dir {
			continue
		}
		if was, err := load(filepath.Dir(r)); err == nil {
			maps.Copy(all, was)
		}
	}
	return all
}

// load reads a record, all of it or nothing.
func load(dir string) (map[string]string, error) {
	was := map[string]string{}
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &was); err != nil {
		return nil, fmt.Errorf("read what %s holds: %w", dir, err)
	}
	for key, value := range was {
		if _, err := strconv.Atoi(value); err != nil || checkKey(key) != nil {
			return nil, fmt.Errorf("%s in %s is to be put back to %q: that cannot be", key, dir, value)
		}
	}
	return was, nil
}

// checkKey keeps keys from leading out of /proc/sys.
func checkKey(key string) error {
	if !regexp.MustCompile(`^(vm|kernel|fs|net)(/[a-z0-9_]+)+$`).MatchString(key) {
		return fmt.Errorf("%q names no setting of the machine", key)
	}
	return nil
}

func read(key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	data, err := os.ReadFile("/proc/sys/" + key)
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(data)), nil
}

// write writes only what differs: some machines let nobody write.
func write(key, value string) error {
	if now, err := read(key); err != nil || now == value {
		return err
	}
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", key, value, err)
	}
	return nil
}

// lock is for all users: between one's look at the others' records and its
// change nobody else may look or change.
func lock(ctx context.Context, dir string) (release func(), err error) {
	path := filepath.Join(filepath.Dir(dir), recordFile+".lock")
	unlock, err := flock.Take(ctx, path)
	if err != nil {
		return nil, err
	}
	return func() {
		_ = os.Remove(path)
		unlock()
	}, nil
}
