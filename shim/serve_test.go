package shim

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runch/unixsocket"
)

// TestServeOutlivesAShortage: a request that comes while the holder has no free file
// descriptors is answered when it has some again.
func TestServeOutlivesAShortage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "holder.sock")
	requests, err := unixsocket.ListenPacket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer requests.Close()
	conn, err := unixsocket.DialPacket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	h := &holder{requests: requests, settle: func() {}}
	h.serve(t.Context())
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	n, early := conn.Read(make([]byte, 1000))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(early, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v: the limit of descriptors does not hold", n, early)
	}
	answer := make([]byte, 1000)
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err = conn.Read(answer)
	if err != nil || !strings.Contains(string(answer[:n]), "asks for nothing") {
		t.Errorf("the answer is %q, %v", answer[:n], err)
	}
}
