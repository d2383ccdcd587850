package l2

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mouth is a packet socket that sends, receives nothing, and knows when what it sent left. The sender's own clock does not know: it may
// have to wait for the processor between reading it and sending, and another station is asked, and answers, meanwhile.
//
// The receiving socket cannot be it: on one that wants such reports the kernel does not note for SIOCGSTAMPNS when a frame came in.
type mouth struct {
	fd      int
	request []byte // the control message that asks for a report
	report  []byte
}

func openMouth(link int) (mouth, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return mouth{}, os.NewSyscallError("socket", err)
	}
	m := mouth{fd: fd, request: timestampRequest(), report: make([]byte, 256)}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link}); err != nil {
		_ = m.close()
		return mouth{}, os.NewSyscallError("bind", err)
	}
	// Where it fails, nothing is reported.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING_NEW, unix.SOF_TIMESTAMPING_SOFTWARE|unix.SOF_TIMESTAMPING_OPT_TSONLY)
	return m, nil
}

// timestampRequest asks for the time at which a frame goes into the link's queue, which there always is, and that at which its driver
// takes it.
func timestampRequest() []byte {
	b := make([]byte, unix.CmsgSpace(4))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SO_TIMESTAMPING_NEW
	h.SetLen(unix.CmsgLen(4))
	*(*uint32)(unsafe.Pointer(&b[unix.CmsgLen(0)])) = unix.SOF_TIMESTAMPING_TX_SCHED | unix.SOF_TIMESTAMPING_TX_SOFTWARE
	return b
}

func (m *mouth) send(frame []byte) (left time.Time, err error) {
	began := time.Now()
	if _, err := unix.SendmsgN(m.fd, frame, m.request, nil, unix.MSG_DONTWAIT); err != nil {
		return time.Time{}, os.NewSyscallError("sendmsg", err)
	}
	if at := m.reported(); at.After(began) {
		return at, nil
	}
	return time.Now(), nil
}

// reported returns the time of the last report that there is, or zero.
func (m *mouth) reported() (last time.Time) {
	for {
		_, n, _, _, err := unix.Recvmsg(m.fd, nil, m.report, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return last
		}
		if at := timestampIn(m.report[:n]); !at.IsZero() {
			last = at
		}
	}
}

func timestampIn(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}
	}
	for _, m := range messages {
		// struct scm_timestamping64 begins with what software noted, as two words of 64 bits.
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPING_NEW && len(m.Data) >= 16 {
			at := (*[2]int64)(unsafe.Pointer(&m.Data[0]))
			return time.Unix(at[0], at[1])
		}
	}
	return time.Time{}
}

func (m *mouth) close() error { return os.NewSyscallError("close", unix.Close(m.fd)) }
