package agent

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// TestRelay: the host reaches a listener of the containers' namespace, which is this
// process's own here, and the end of each direction passes.
func TestRelay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to enter a network namespace")
	}
	h, a, _ := serveHost(t)
	a.relays.netns = "/proc/self/ns/net"
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "127.0.0.9:0"} {
		l, err := net.Listen("tcp", address) //nolint:noctx // there is nothing to cancel
		if err != nil {
			t.Fatal(err)
		}
		go echoAtEnd(l)
		to := netip.MustParseAddrPort(l.Addr().String())
		conn, err := agentproto.OpenRelay(t.Context(), h, to)
		if err != nil {
			t.Fatal(err)
		}
		client := relayTo(t, conn)
		if _, err := io.WriteString(client, "all of it"); err != nil {
			t.Fatal(err)
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(client); err != nil || string(got) != "all of it" {
			t.Errorf("%v: %q, %v", to, got, err)
		}
		_ = l.Close()
		if conn, err := agentproto.OpenRelay(t.Context(), h, to); !errors.Is(err, agentproto.ErrRelayRefused) {
			t.Errorf("%v, where nobody listens any more: %v, %v", to, conn, err)
		}
	}
}

// TestRelayStaysInTheNamespace: the agent does not connect to an address that is not the
// namespace's own, even where there is a route to it.
func TestRelayStaysInTheNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to enter a network namespace")
	}
	for _, to := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
		conn, err := dialIn(t.Context(), "/proc/self/ns/net", netip.MustParseAddrPort(to))
		if !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Errorf("%s: %v, %v", to, conn, err)
		}
	}
}

// echoAtEnd accepts one connection and, when its client has half closed it, sends
// everything back.
func echoAtEnd(l net.Listener) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	all, _ := io.ReadAll(conn)
	_, _ = conn.Write(all)
}

// relayTo gives a client whose bytes are relayed over conn.
func relayTo(t *testing.T, conn net.Conn) *net.TCPConn {
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
	client, err := net.DialTCP("tcp4", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	_ = client.SetDeadline(time.Now().Add(20 * time.Second))
	go agentproto.Relay(near, conn)
	return client
}

// TestRelaysAreBounded: one too many ends at once, and does not change the count.
func TestRelaysAreBounded(t *testing.T) {
	h, a, _ := serveHost(t)
	a.relays.open.Store(maxRelays)
	if conn, err := agentproto.OpenRelay(t.Context(), h, netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Errorf("one too many: %v", conn)
	}
	if n := a.relays.open.Load(); n != maxRelays {
		t.Errorf("%d of %d are counted", n, maxRelays)
	}
}
