// Package rawio makes calls on descriptors that do not block, without telling Go's scheduler of them. Of a call that might block it has
// to be told, and in a process that is idle most of the time each one wakes a thread that watches over it: for a socket that is asked a
// few times a second that takes longer than the call.
package rawio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read is read(2) on a descriptor that does not block.
func Read(fd uintptr, buf []byte) (int, error) {
	return call(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(buf)), len(buf))
}

// Write is write(2) on a descriptor that does not block.
func Write(fd uintptr, data []byte) (int, error) {
	return call(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(data)), len(data))
}

func call(number, fd uintptr, p unsafe.Pointer, size int) (int, error) {
	n, _, errno := unix.RawSyscall(number, fd, uintptr(p), uintptr(size))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Ioctl is ioctl(2) with a pointer; it must be one that does not wait.
func Ioctl(fd, request uintptr, p unsafe.Pointer) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, fd, request, uintptr(p)); errno != 0 {
		return errno
	}
	return nil
}
