package agentproto

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// relayDialer is a guest whose agent answers one request for a relay.
type relayDialer struct {
	asked   chan netip.AddrPort
	connect bool
}

func (d relayDialer) Dial(_ context.Context, port uint32) (net.Conn, error) {
	if port != RelayPort {
		return nil, errors.New("this port has no relays")
	}
	host, guest := net.Pipe()
	go func() {
		to, err := ReadRelayHeader(guest)
		if err != nil {
			_ = guest.Close()
		}
		_ = AnswerRelay(guest, d.connect)
		d.asked <- to
	}()
	return host, nil
}

func TestOpenRelay(t *testing.T) {
	for _, to := range []string{"127.0.0.1:80", "[::1]:65535", "198.51.100.9:80", "[2001:db8:9::9]:80"} {
		d := relayDialer{make(chan netip.AddrPort, 1), true}
		conn, err := OpenRelay(t.Context(), d, netip.MustParseAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if asked := <-d.asked; asked.String() != to {
			t.Errorf("asked for %v, want %v", asked, to)
		}
	}
	d := relayDialer{make(chan netip.AddrPort, 1), false}
	if conn, err := OpenRelay(t.Context(), d, netip.MustParseAddrPort("127.0.0.1:1")); !errors.Is(err, ErrRelayRefused) {
		t.Errorf("a port where nobody listens: %v, %v", conn, err)
	}
}

func TestOpenRelayKeepsItsDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	silent := dialerFunc(func() net.Conn {
		host, guest := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, guest) }()
		return host
	})
	if conn, err := OpenRelay(ctx, silent, netip.MustParseAddrPort("127.0.0.1:1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an agent that does not answer: %v, %v", conn, err)
	}
}

type dialerFunc func() net.Conn

func (f dialerFunc) Dial(context.Context, uint32) (net.Conn, error) { return f(), nil }

// TestRelayHeaderRefusals: the header must have a unicast address and a port.
func TestRelayHeaderRefusals(t *testing.T) {
	header := func(magic, address, port string) string {
		as16 := netip.MustParseAddr(address).As16()
		return magic + string(as16[:]) + port
	}
	for name, in := range map[string]string{
		"another magic":     header("RUNCHST1", "127.0.0.1", "\x00\x50"),
		"port 0":            header(relayMagic, "127.0.0.1", "\x00\x00"),
		"no address":        header(relayMagic, "::", "\x00\x50"),
		"no address of v4":  header(relayMagic, "0.0.0.0", "\x00\x50"),
		"a multicast group": header(relayMagic, "224.0.0.1", "\x00\x50"),
	} {
		if to, err := ReadRelayHeader(bytes.NewBufferString(in)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v, %v", name, to, err)
		}
	}
	if _, err := ReadRelayHeader(bytes.NewBufferString(relayMagic + "\x7f")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short header: %v", err)
	}
}

// connection is a TCP connection, both ends.
func connection(t *testing.T) (ours, theirs *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to, err := net.ResolveTCPAddr("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if ours, err = net.DialTCP("tcp4", nil, to); err != nil {
		t.Fatal(err)
	}
	theirs, err = l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.TCPConn{ours, theirs} {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { _ = c.Close() })
	}
	return ours, theirs
}

// relayed is a client and a server with a relay between them: two sockets, and a stream
// that cannot be half closed. wait returns when both sides of it have ended.
func relayed(t *testing.T) (client, server *net.TCPConn, stream net.Conn, wait func()) {
	t.Helper()
	client, near := connection(t)
	far, server := connection(t)
	host, guest := net.Pipe()
	var sides sync.WaitGroup
	sides.Go(func() { Relay(near, host) })
	sides.Go(func() { Relay(far, guest) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sides.Wait()
	}()
	return client, server, host, func() {
		t.Helper()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatal("the relay has not ended")
		}
	}
}

// TestRelayHalfCloses: the end of either direction leaves the other open.
func TestRelayHalfCloses(t *testing.T) {
	for name, swap := range map[string]bool{"by the client": false, "by the server": true} {
		t.Run(name, func(t *testing.T) {
			first, second, _, wait := relayed(t)
			if swap {
				first, second = second, first
			}
			say(t, first, "all of it")
			if err := first.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(second); err != nil || string(got) != "all of it" {
				t.Fatalf("%q, %v", got, err)
			}
			say(t, second, "and the answer")
			_ = second.Close()
			if got, err := io.ReadAll(first); err != nil || string(got) != "and the answer" {
				t.Fatalf("%q, %v", got, err)
			}
			wait()
		})
	}
}

func say(t *testing.T, to io.Writer, what string) {
	t.Helper()
	if _, err := io.WriteString(to, what); err != nil {
		t.Fatal(err)
	}
}

// TestRelayResets: a connection that is reset on one side is reset on the other.
func TestRelayResets(t *testing.T) {
	client, server, _, wait := relayed(t)
	say(t, client, "x")
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = client.SetLinger(0)
	_ = client.Close()
	if n, err := server.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%d, %v", n, err)
	}
	wait()
}

// TestRelayBreaks: a stream that ends without the last frame resets the connection, also
// on a side that has received the other's last frame.
func TestRelayBreaks(t *testing.T) {
	client, server, stream, wait := relayed(t)
	_ = server.CloseWrite()
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("%d, %v", n, err)
	}
	_ = stream.Close()
	if n, err := server.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server read %d, %v", n, err)
	}
	wait()
}

// TestRelayRefusesFrames: a frame longer than maxFrame resets the connection.
func TestRelayRefusesFrames(t *testing.T) {
	client, near := connection(t)
	host, guest := net.Pipe()
	defer guest.Close()
	go Relay(near, host)
	if _, err := guest.Write(binary.BigEndian.AppendUint32(nil, maxFrame+1)); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%d, %v", n, err)
	}
}

func FuzzReadRelayHeader(f *testing.F) {
	f.Add([]byte(relayMagic + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x7f\x00\x00\x01\x00\x50"))
	f.Fuzz(func(t *testing.T, in []byte) {
		to, err := ReadRelayHeader(bytes.NewReader(in))
		if err != nil {
			return
		}
		if !to.IsValid() || to.Port() == 0 || to.Addr().Is4In6() || to.Addr().IsUnspecified() || to.Addr().IsMulticast() {
			t.Errorf("%v", to)
		}
	})
}
