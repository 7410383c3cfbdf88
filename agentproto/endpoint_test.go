package agentproto

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// hybrid serves one connection of the hybrid vsock protocol with handle.
func hybrid(t *testing.T, handle func(net.Conn)) Endpoint {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vsock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
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
	conn, err := e.Dial(t.Context(), ControlPort)
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
		"another word":       {"NO 1\n", ErrProtocol},
		"an endless answer":  {strings.Repeat("x", 100), ErrProtocol},
		"ends in the middle": {"OK 10", ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			e := hybrid(t, func(c net.Conn) {
				_, _ = bufio.NewReader(c).ReadString('\n')
				_, _ = io.WriteString(c, tc.answer)
			})
			if conn, err := e.Dial(t.Context(), ControlPort); !errors.Is(err, tc.want) {
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
	if _, err := e.Dial(ctx, ControlPort); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a guest that does not answer: %v", err)
	}
}

func TestOpenStream(t *testing.T) {
	got := make(chan uint64, 1)
	e := hybrid(t, func(c net.Conn) {
		line := make([]byte, len("CONNECT 1025\n"))
		_, _ = io.ReadFull(c, line)
		_, _ = io.WriteString(c, "OK 1\n")
		id, err := ReadStreamHeader(c)
		if err != nil {
			t.Error(err)
		}
		got <- id
	})
	conn, err := OpenStream(t.Context(), e, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if id := <-got; id != 7 {
		t.Errorf("the guest read id %d", id)
	}
}

func TestFromAgent(t *testing.T) {
	for _, tc := range []struct {
		code codes.Code
		want error
	}{
		{codes.NotFound, ErrNotFound},
		{codes.FailedPrecondition, ErrState},
		{codes.InvalidArgument, ErrInvalid},
		{codes.Unavailable, ErrUnreachable},
		{codes.DeadlineExceeded, ErrUnreachable},
	} {
		if err := FromAgent(status.Error(tc.code, "words")); !errors.Is(err, tc.want) {
			t.Errorf("%s gives %v", tc.code, err)
		}
	}
	if err := FromAgent(io.ErrUnexpectedEOF); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a broken connection gives %v", err)
	}
	if FromAgent(nil) != nil {
		t.Error("no error gives one")
	}
}

func TestAgentWordsAreMadeFitForATerminal(t *testing.T) {
	err := FromAgent(status.Error(codes.Internal, "two\nlines \x1b[2J\u009b and "+strings.Repeat("x", 10000)))
	if s := err.Error(); strings.ContainsAny(s, "\n\x1b\u009b") || len(s) > maxErrorText {
		t.Errorf("the guest's words came through: %.60q, %d bytes", s, len(s))
	}
	if s := fmt.Sprint(err); !strings.HasPrefix(s, "two lines ") {
		t.Errorf("words were lost: %.20q", s)
	}
}
