package channel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"runch/hypervisor"
	"runch/transport"
	"runch/transport/serial"
)

// pair makes a connected pair of sockets, like that of QEMU's serial port.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "serial")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	t.Cleanup(func() { _ = ends[1].Close() })
	return ends[0], ends[1]
}

// open makes a channel, and the guest's side of its session for the test.
func open(t *testing.T) (*Channel, *yamux.Session) {
	t.Helper()
	ours, theirs := pair(t)
	c, err := New(ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.LogOutput = io.Discard
	guest, err := yamux.Server(theirs, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guest.Close() })
	return c, guest
}

// accepted takes the stream that the host opened, and its port.
func accepted(t *testing.T, guest *yamux.Session) (net.Conn, uint32) {
	t.Helper()
	conn, err := guest.Accept()
	if err != nil {
		t.Fatal(err)
	}
	port, err := serial.ReadPort(conn)
	if err != nil {
		t.Fatal(err)
	}
	return conn, port
}

func ended(t *testing.T, c *Channel) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the session goes on")
	}
}

func TestDialNamesThePort(t *testing.T) {
	c, guest := open(t)
	host, err := c.Dial(t.Context(), 77)
	if err != nil {
		t.Fatal(err)
	}
	conn, port := accepted(t, guest)
	if port != 77 {
		t.Errorf("got port %d", port)
	}
	go func() { _, _ = conn.Write([]byte("hello")) }()
	var got [5]byte
	if _, err := io.ReadFull(host, got[:]); err != nil || string(got[:]) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(got[:]); !errors.Is(err, io.EOF) {
		t.Errorf("the guest is not told of the end: %v", err)
	}
	if _, err := host.Read(got[:]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	c, guest := open(t)
	host, err := c.Dial(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, guest)
	if err := host.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Dial(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("dialled after the end of the context: %v", err)
	}
}

func TestListen(t *testing.T) {
	c, guest := open(t)
	l, err := c.Listen(5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Listen(5); !errors.Is(err, hypervisor.ErrInUse) {
		t.Errorf("a second listener: %v", err)
	}
	stray, err := guest.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := serial.WritePort(stray, 6); err != nil {
		t.Fatal(err)
	}
	if _, err := stray.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a port that nobody listens on: %v", err)
	}
	stream, err := guest.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := serial.WritePort(stream, 5); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if l, err = c.Listen(5); err != nil {
		t.Errorf("the port is not free again: %v", err)
	}
	_ = guest.Close()
	if _, err := l.Accept(); !errors.Is(err, hypervisor.ErrClosed) {
		t.Errorf("accept after the guest's end: %v", err)
	}
}

// TestHostileGuest: if the guest breaks the protocol in a way that the channel checks, the
// session ends, and the host is not harmed.
func TestHostileGuest(t *testing.T) {
	frame := func(kind byte, flags uint16, id uint32) []byte {
		f := make([]byte, frameHeader)
		f[1] = kind
		binary.BigEndian.PutUint16(f[2:], flags)
		binary.BigEndian.PutUint32(f[4:], id)
		return f
	}
	for name, sent := range map[string][]byte{
		"a version that is none":         {9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"a type that is none":            frame(9, 0, 0),
		"a stream with an id of ours":    frame(1, flagSYN, 3),
		"a stream with the session's id": frame(1, flagSYN, 0),
		"a ping":                         frame(typePing, flagSYN, 0),
		"more streams than it may have": func() []byte {
			var all []byte
			for i := range uint32(maxGuestStreams + 1) {
				all = append(all, frame(1, flagSYN, 2*i+2)...)
			}
			return all
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := pair(t)
			var log bytes.Buffer
			c, err := New(ours, &log)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			if _, err := theirs.Write(sent); err != nil {
				t.Fatal(err)
			}
			ended(t, c)
			if _, err := c.Dial(t.Context(), 1); !errors.Is(err, hypervisor.ErrClosed) {
				t.Errorf("dial after the end: %v", err)
			}
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	c, guest := open(t)
	go func() {
		for {
			if _, err := guest.Accept(); err != nil {
				return
			}
		}
	}()
	for range maxStreams {
		if _, err := c.Dial(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Dial(t.Context(), 1); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v", err)
	}
}

// served makes a channel whose guest is reached through a socket; over is called
// when a connection is over.
func served(t *testing.T, over func()) (transport.Endpoint, *yamux.Session) {
	t.Helper()
	c, guest := open(t)
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Serve(l, over) }()
	t.Cleanup(func() {
		_ = c.Close()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return transport.Endpoint{Unix: path}, guest
}

func TestServeIsAHybridVsock(t *testing.T) {
	e, guest := served(t, nil)
	go func() {
		conn, err := guest.Accept()
		if err != nil {
			return
		}
		port, _ := serial.ReadPort(conn)
		got, _ := io.ReadAll(conn)
		_, _ = fmt.Fprintf(conn, "port %d: %s", port, got)
		_ = conn.Close()
	}()
	conn, err := e.Dial(t.Context(), 1024)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	half, ok := conn.(*net.UnixConn)
	if !ok {
		t.Fatalf("a %T", conn)
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "port 1024: question" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestServeTellsWhenAConnectionIsOver(t *testing.T) {
	over := make(chan struct{}, 1)
	e, guest := served(t, func() { over <- struct{}{} })
	conn, err := e.Dial(t.Context(), 1024)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := guest.Accept()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-over:
		t.Error("told while it is open")
	default:
	}
	_, _ = conn.Close(), stream.Close()
	select {
	case <-over:
	case <-time.After(10 * time.Second):
		t.Error("not told")
	}
}

func TestServeRefusesWhatIsNoRequest(t *testing.T) {
	e, _ := served(t, nil)
	for _, request := range []string{"\n", "CONNECT\n", "CONNECT x\n", "CONNECT 4294967296\n", "GET / HTTP/1.1\n", "CONNECT 1024                        1\n"} {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "unix", e.Unix)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(request)) // the channel may have closed it by then
		got, _ := io.ReadAll(conn)
		if len(got) != 0 {
			t.Errorf("%q: got %q", request, got)
		}
		_ = conn.Close()
	}
}

// FuzzGuestBytes: whatever bytes the guest sends, Close returns.
func FuzzGuestBytes(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 4, 2})
	f.Add([]byte{0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := pair(t)
		c, err := New(ours, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		l, err := c.Listen(1026)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		_, _ = theirs.Write(data) // the channel may end before it has all
		_ = l.Close()
		_ = c.Close()
	})
}

// FuzzRequest: readRequest reads exactly one line.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("CONNECT 1024\nrest"))
	f.Add([]byte("connect 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		if _, err := readRequest(r); err != nil {
			return
		}
		read := len(data) - r.Len()
		if read > maxRequest || data[read-1] != '\n' || bytes.IndexByte(data, '\n') != read-1 {
			t.Errorf("read %d bytes of %q", read, data)
		}
	})
}
