package unixsocket_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"runch/unixsocket"
)

// longDir is a directory whose path has more than 300 characters.
func longDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("a", 150), strings.Repeat("b", 150))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mustTalk checks that bytes pass between a dialled connection and the accepted one.
func mustTalk(t *testing.T, l *net.UnixListener, dial func() (*net.UnixConn, error)) {
	t.Helper()
	client, err := dial()
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = client.CloseWrite()
	if got, err := io.ReadAll(server); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v came through", got, err)
	}
}

func TestLongPath(t *testing.T) {
	dir := longDir(t)
	path := filepath.Join(dir, "socket")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one replaces the first
		l, err := unixsocket.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		mustTalk(t, l, func() (*net.UnixConn, error) { return unixsocket.Dial(path) })
		open, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		mustTalk(t, l, func() (*net.UnixConn, error) { return unixsocket.DialAt(open, "socket") })
		_ = open.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("the socket after its listener: %v, %v", info, err)
		}
	}
	if now, err := os.Getwd(); err != nil || now != here {
		t.Errorf("the process went to %s, %v", now, err)
	}
}

// TestParallel: threads do not see each other's directories.
func TestParallel(t *testing.T) {
	umask := unix.Umask(0o022)
	defer unix.Umask(umask)
	var all sync.WaitGroup
	for range 20 {
		dir := longDir(t)
		all.Go(func() {
			path := filepath.Join(dir, "socket")
			l, err := unixsocket.Listen(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			conn, err := unixsocket.Dial(path)
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
		})
	}
	all.Wait()
	if now := unix.Umask(0o022); now != 0o022 {
		t.Errorf("the process's umask became %o", now)
	}
}

func TestErrors(t *testing.T) {
	dir := longDir(t)
	path := filepath.Join(dir, "socket")
	if _, err := unixsocket.Dial(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := unixsocket.Dial(filepath.Join(dir, "none", "socket")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	l, err := unixsocket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := unixsocket.Dial(path); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "full", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := unixsocket.Listen(filepath.Join(dir, "full")); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("a directory is in the way: %v", err)
	}
	if _, err := unixsocket.Listen(filepath.Join(dir, "none", "socket")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory to listen in: %v", err)
	}
}
