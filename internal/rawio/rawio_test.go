package rawio

import (
	"errors"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestCalls(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	in, out := uintptr(fds[0]), uintptr(fds[1])
	buf := make([]byte, 16)
	if _, err := Read(in, buf); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("nothing to read: %v", err)
	}
	if n, err := Write(out, []byte("asked")); n != 5 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	var waiting int32
	if err := Ioctl(in, unix.SIOCINQ, unsafe.Pointer(&waiting)); err != nil || waiting != 5 {
		t.Errorf("%d bytes wait, %v", waiting, err)
	}
	if n, err := Read(in, buf); err != nil || string(buf[:n]) != "asked" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if err := errors.Join(unix.Close(fds[0]), unix.Close(fds[1])); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(out, []byte("x")); !errors.Is(err, unix.EBADF) {
		t.Errorf("to what is closed: %v", err)
	}
	if err := Ioctl(out, unix.SIOCINQ, unsafe.Pointer(&waiting)); !errors.Is(err, unix.EBADF) {
		t.Errorf("of what is closed: %v", err)
	}
}
