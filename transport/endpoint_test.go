package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runch/unixsocket"
)

// hybrid serves one connection of the hybrid vsock protocol with handle.
func hybrid(t *testing.T, handle func(net.Conn)) Endpoint {
	t.Helper()
	// Longer than a socket's address.
	dir := filepath.Join(t.TempDir(), strings.Repeat("a", 150), strings.Repeat("b", 150))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "vsock")
	l, err := unixsocket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		handle(conn)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return Endpoint{Unix: path}
}

func TestDialHybrid(t *testing.T) {
	e := hybrid(t, func(c net.Conn) {
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || line != "CONNECT 1024\n" {
			t.Errorf("asked %q, %v", line, err)
		}
		// The guest's first bytes come right behind the answer.
		_, _ = io.WriteString(c, "OK 1073741824\nfirst")
	})
	conn, err := e.Dial(t.Context(), 1024)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "first" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestDialHybridRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		want   error
	}{
		"nobody listens":     {"", ErrRefused},
		"another word":       {"NO 1\n", errProtocol},
		"an endless answer":  {strings.Repeat("x", 100), errProtocol},
		"ends in the middle": {"OK 10", ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			e := hybrid(t, func(c net.Conn) {
				_, _ = bufio.NewReader(c).ReadString('\n')
				_, _ = io.WriteString(c, tc.answer)
			})
			if conn, err := e.Dial(t.Context(), 1024); !errors.Is(err, tc.want) {
				t.Errorf("%v, %v; want %v", conn, err, tc.want)
			}
		})
	}
}

func TestDialHybridKeepsItsDeadline(t *testing.T) {
	release := make(chan struct{})
	e := hybrid(t, func(net.Conn) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Dial(ctx, 1024); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a guest that does not answer: %v", err)
	}
}

func TestHostPort(t *testing.T) {
	g := Guest{Ports: map[uint32]uint32{1026: 4000}}
	if g.HostPort(1026) != 4000 || g.HostPort(1027) != 1027 || (Guest{}).HostPort(1026) != 1026 {
		t.Errorf("ports %d and %d", g.HostPort(1026), g.HostPort(1027))
	}
}
