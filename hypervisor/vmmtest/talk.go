package vmmtest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"runch/agentproto"
	"runch/hypervisor/vmmtest/guestports"
	"runch/unixsocket"
)

// testHello: the guest's hello arrives at a listener that was there before the boot.
func testHello(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.small))
	defer m.close()
	if n := len(m.pids()); n != 1 {
		t.Errorf("%d processes run the VM, want 1", n)
	}
}

// testAgent: runch's guest image says hello, and its agent answers calls.
func testAgent(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.image))
	defer m.close()
	ctx := timeout(t, time.Minute)
	var all sync.WaitGroup
	for _, dialer := range []agentproto.Dialer{m, m.Endpoint(), m, m.Endpoint()} {
		all.Go(func() {
			client, err := agentproto.Connect(ctx, dialer)
			if err != nil {
				t.Errorf("connect to the agent: %v", err)
				return
			}
			defer client.Close()
			info, err := client.Info(ctx, &agentproto.InfoRequest{})
			if err != nil || info.GetKernelRelease() == "" {
				t.Errorf("Info: %v, %v", info, err)
			}
		})
	}
	all.Wait()
}

// testTalk: connections in parallel carry every byte, both ways, and end on both
// sides when one side ends.
func testTalk(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.small))
	defer m.close()
	t.Run("parallel", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if err := echo(m.dial(guestports.Echo), 1000+i); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
	t.Run("10 MiB both ways", func(t *testing.T) {
		if err := echo(m.dial(guestports.Echo), 10<<20); err != nil {
			t.Error(err)
		}
	})
	t.Run("guest ends", func(t *testing.T) {
		conn := m.dial(guestports.Source)
		defer conn.Close()
		// A reader that begins late has to get all bytes.
		<-time.After(500 * time.Millisecond)
		n, err := io.Copy(io.Discard, conn)
		if err != nil || n != guestports.SourceBytes {
			t.Errorf("%d bytes, %v; want %d", n, err, guestports.SourceBytes)
		}
	})
	t.Run("host ends while the guest sends", func(t *testing.T) {
		for range 5 {
			conn := m.dial(guestports.Source)
			if _, err := io.CopyN(io.Discard, conn, 100<<10); err != nil {
				t.Error(err)
			}
			_ = conn.Close()
		}
		if err := echo(m.dial(guestports.Echo), 1000); err != nil {
			t.Error(err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		conn, err := m.Dial(timeout(t, time.Minute), guestports.Nobody)
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		defer conn.Close()
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a port without a listener sent %d bytes, %v", n, err)
		}
	})
	t.Run("close ends a read", func(t *testing.T) {
		conn := m.dial(guestports.Echo)
		_ = conn.SetDeadline(time.Time{})
		time.AfterFunc(50*time.Millisecond, func() { _ = conn.Close() })
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a read of a closed connection: %v, want net.ErrClosed", err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		conn := m.dial(guestports.Echo)
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
		var timeout net.Error
		if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("a read past its deadline: %v, want a timeout", err)
		}
	})
}

// testHybridSocket: other processes reach the guest by the endpoint, and a bad request
// ends only its own connection.
func testHybridSocket(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.small))
	defer m.close()
	endpoint := m.Endpoint()
	if endpoint.Unix == "" {
		t.Skip("the guest is reached by AF_VSOCK")
	}
	t.Run("echo", func(t *testing.T) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				conn, err := endpoint.Dial(timeout(t, time.Minute), guestports.Echo)
				if err != nil {
					t.Error(err)
					return
				}
				if err := echo(conn, 300<<10); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
	t.Run("guest ends", func(t *testing.T) {
		conn, err := endpoint.Dial(timeout(t, time.Minute), guestports.Source)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		<-time.After(300 * time.Millisecond)
		n, err := io.Copy(io.Discard, conn)
		if err != nil || n != guestports.SourceBytes {
			t.Errorf("%d bytes, %v; want %d", n, err, guestports.SourceBytes)
		}
	})
	for _, request := range []string{"", "\n", "CONNECT\n", "CONNECT x\n", "CONNECT 99999999999\n", "GET / HTTP/1.0\n", "CONNECT 7", "CONNECT " + string(bytes.Repeat([]byte("7"), 100))} {
		t.Run(fmt.Sprintf("bad request %.20q", request), func(t *testing.T) {
			conn, err := unixsocket.Dial(endpoint.Unix)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			_ = conn.CloseWrite()
			_ = conn.SetReadDeadline(time.Now().Add(15 * time.Second))
			if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("answered with %d bytes, %v", n, err)
			}
		})
	}
}

// echo sends n bytes to the echo port while it reads them back, and closes conn.
func echo(conn net.Conn, n int) error {
	defer conn.Close()
	sent := make([]byte, n)
	_, _ = rand.Read(sent)
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		wrote <- err
	}()
	got := sha256.New()
	if m, err := io.CopyN(got, conn, int64(n)); err != nil {
		return fmt.Errorf("%d of %d bytes came back: %w", m, n, err)
	}
	if err := <-wrote; err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if want := sha256.Sum256(sent); !bytes.Equal(got.Sum(nil), want[:]) {
		return fmt.Errorf("%d bytes came back changed", n)
	}
	return nil
}
