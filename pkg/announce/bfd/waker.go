package bfd

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// waker is an eventfd(2), which wakes one that polls.
type waker struct{ fd int }

func newWaker() (waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return waker{}, fmt.Errorf("make an eventfd: %w", err)
	}
	return waker{fd: fd}, nil
}

// wake makes the next poll return, or the one under way.
func (w waker) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(w.fd, one[:]) // fails where it is awake already, and where it is closed
}

// rest takes back what woke it.
func (w waker) rest() {
	var count [8]byte
	_, _ = unix.Read(w.fd, count[:])
}

func (w *waker) close() {
	_ = unix.Close(w.fd)
	w.fd = -1
}
