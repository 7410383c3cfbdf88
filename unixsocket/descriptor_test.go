package unixsocket_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runch/unixsocket"
)

// pair is a connected pair of sockets.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := unixsocket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = unixsocket.Dial(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	if b, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return a, b
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestReceiveDescriptor(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	own := int(f.Fd())
	for name, tc := range map[string]struct {
		fds []int
		ok  bool
	}{
		"one": {[]int{own}, true}, "none": {nil, false}, "two": {[]int{own, own}, false}, "many": {[]int{own, own, own, own, own}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			var oob []byte
			if len(tc.fds) > 0 {
				oob = unix.UnixRights(tc.fds...)
			}
			if _, _, err := a.WriteMsgUnix([]byte("/dev/ptmx"), oob, nil); err != nil {
				t.Fatal(err)
			}
			before := descriptors(t)
			fd, err := unixsocket.ReceiveDescriptor(b)
			if (err == nil) != tc.ok {
				t.Fatalf("%d, %v", fd, err)
			}
			if err == nil {
				flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
				if err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("flags %x, %v: it is not closed on exec", flags, err)
				}
				_ = unix.Close(fd)
			}
			if after := descriptors(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

// TestReceiveDescriptorEnds: it returns when the peer closes, and at the deadline.
func TestReceiveDescriptorEnds(t *testing.T) {
	a, b := pair(t)
	_ = b.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if fd, err := unixsocket.ReceiveDescriptor(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v", fd, err)
	}
	_ = b.SetReadDeadline(time.Time{})
	_ = a.Close()
	if fd, err := unixsocket.ReceiveDescriptor(b); err == nil {
		t.Errorf("a peer that has closed gave %d", fd)
	}
}
