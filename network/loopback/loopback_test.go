package loopback

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/namespace"
)

// testNamespace is a network namespace with its loopback up, whose connections are relayed
// to a guest.
type testNamespace struct {
	t     *testing.T
	file  *os.File
	relay *Relay
	guest *testGuest
}

// testGuest listens on port 80. It sends back what it gets in capitals, and closes the
// connection after "quit".
type testGuest struct {
	mu    sync.Mutex
	asked []netip.AddrPort
}

func (g *testGuest) connect(_ context.Context, to netip.AddrPort) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, to)
	if to.Port() != 80 {
		return nil, errors.New("nobody listens")
	}
	host, guest := net.Pipe()
	go func() {
		defer guest.Close()
		buf := make([]byte, 64)
		for {
			n, err := guest.Read(buf)
			if err != nil {
				return
			}
			_, err = io.WriteString(guest, strings.ToUpper(string(buf[:n])))
			if err != nil || string(buf[:n]) == "quit" {
				return
			}
		}
	}()
	return host, nil
}

func (g *testGuest) was() []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

// join copies until the client ends.
func join(client *net.TCPConn, guest net.Conn) {
	defer client.Close()
	defer guest.Close()
	go func() {
		_, _ = io.Copy(client, guest)
		_ = client.CloseWrite()
	}()
	_, _ = io.Copy(guest, client)
}

func newNamespace(t *testing.T) *testNamespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
	n := &testNamespace{t: t, guest: &testGuest{}}
	var err error
	namespace.Do(func() bool {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return true
		}
		if n.file, err = os.Open("/proc/thread-self/ns/net"); err == nil {
			err = namespace.WithHandle(setUp)
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.file.Close() })
	n.in(func() error {
		n.relay, err = Open(t.Context(), Guest{Connect: n.guest.connect, Relay: join})
		return err
	})
	t.Cleanup(n.relay.Close)
	return n
}

// ownAddresses are those of the namespace beside the loopback ones.
var ownAddresses = []string{"198.51.100.9/32", "2001:db8:9::9/128", "fe80::9/64"}

func setUp(h *netlink.Handle) error {
	if err := namespace.SetLoopbackUp(h); err != nil {
		return err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, address := range ownAddresses {
		a, err := netlink.ParseAddr(address)
		if err == nil {
			err = h.AddrAdd(lo, a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// in calls fn in the namespace.
func (n *testNamespace) in(fn func() error) {
	n.t.Helper()
	if err := namespace.InNet(n.file, func(*netlink.Handle) error { return fn() }); err != nil {
		n.t.Fatal(err)
	}
}

// dial connects from the namespace. from is the client's port, 0 for any.
func (n *testNamespace) dial(to string, from uint16) (net.Conn, error) {
	n.t.Helper()
	var conn net.Conn
	var dialErr error
	n.in(func() error {
		d := net.Dialer{Timeout: 5 * time.Second, Control: reuseAddress}
		if from != 0 {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(netip.MustParseAddrPort(to).Addr().String()), Port: int(from)}
		}
		conn, dialErr = d.DialContext(n.t.Context(), "tcp", to)
		return nil
	})
	if dialErr == nil {
		n.t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return conn, dialErr
}

func reuseAddress(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
}

// listen listens in the namespace, and sends "host" to each client.
func (n *testNamespace) listen(at string) {
	n.t.Helper()
	n.in(func() error {
		l, err := net.Listen("tcp", at) //nolint:noctx // there is nothing to cancel
		if err != nil {
			return err
		}
		n.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, "host")
				_ = conn.Close()
			}
		}()
		return nil
	})
}

// exchange sends a word of four letters to the guest and returns the answer.
func exchange(t *testing.T, conn net.Conn, word string) string {
	t.Helper()
	if _, err := io.WriteString(conn, word); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(conn, answer); err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestConnectionsReachTheGuest(t *testing.T) {
	n := newNamespace(t)
	for _, to := range []string{"127.0.0.1:80", "[::1]:80", "198.51.100.9:80", "[2001:db8:9::9]:80"} {
		conn, err := n.dial(to, 0)
		if err != nil {
			t.Fatal(to, err)
		}
		if got := exchange(t, conn, "word"); got != "WORD" {
			t.Errorf("%s answered %q", to, got)
		}
		if conn.RemoteAddr().String() != to {
			t.Errorf("the client sees %v", conn.RemoteAddr())
		}
		if asked := n.guest.was(); asked[len(asked)-1].String() != to {
			t.Errorf("the guest was asked for %v", asked)
		}
	}
}

// TestConnectIsRefused: without a listener in the guest connect(2) itself fails, so that a
// client tries the next address.
func TestConnectIsRefused(t *testing.T) {
	n := newNamespace(t)
	for _, to := range []string{"127.0.0.1:81", "[::1]:81", "198.51.100.9:81", "[2001:db8:9::9]:81"} {
		if conn, err := n.dial(to, 0); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v, %v", to, conn, err)
		}
	}
	if asked := n.guest.was(); len(asked) != 4 {
		t.Errorf("the guest was asked for %v", asked)
	}
}

// TestListenersOfTheHost: listeners in the namespace keep their connections, and other
// loopback addresses and link-local ones are not relayed.
func TestListenersOfTheHost(t *testing.T) {
	n := newNamespace(t)
	n.listen("127.0.0.1:80")
	n.listen("[::]:8080")
	n.listen("127.0.0.11:53")
	for _, to := range []string{
		"127.0.0.1:80", "127.0.0.1:8080", "[::1]:8080", "127.0.0.11:53", "198.51.100.9:8080", "[2001:db8:9::9]:8080",
	} {
		conn, err := n.dial(to, 0)
		if err != nil {
			t.Errorf("%s: %v", to, err)
			continue
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "host" {
			t.Errorf("%s said %q, %v", to, got, err)
		}
	}
	for _, to := range []string{"127.0.0.2:80", "[fe80::9%lo]:80"} {
		if conn, err := n.dial(to, 0); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v, %v", to, conn, err)
		}
	}
	if asked := n.guest.was(); len(asked) != 0 {
		t.Errorf("the guest was asked for %v", asked)
	}
}

// TestSamePortAgain: a client can use its port again at once, although our side of the
// ended connection is in TIME_WAIT.
func TestSamePortAgain(t *testing.T) {
	n := newNamespace(t)
	for range 3 {
		conn, err := n.dial("127.0.0.1:80", 40000)
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, conn, "quit")
		// The guest closes first, so TIME_WAIT is on our side.
		if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
			t.Fatalf("%q, %v", rest, err)
		}
		_ = conn.Close()
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	n := newNamespace(t)
	var conns []net.Conn
	for range maxConnections {
		conn, err := n.dial("127.0.0.1:80", 0)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if conn, err := n.dial("127.0.0.1:80", 0); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("one more: %v, %v", conn, err)
	}
	for _, conn := range conns {
		if got := exchange(t, conn, "word"); got != "WORD" {
			t.Errorf("one of them got %q", got)
		}
	}
}

// TestNothingIsLeft: the rules are removed with their socket, and the kernel refuses
// connections as before.
func TestNothingIsLeft(t *testing.T) {
	n := newNamespace(t)
	tables := func() (found []*nftables.Table) {
		n.in(func() error {
			found, _ = (&nftables.Conn{}).ListTables()
			return nil
		})
		return found
	}
	found := tables()
	if len(found) != 1 || found[0].Name != tableName {
		t.Fatalf("tables %v", found)
	}
	// The table belongs to its socket, so no other one can remove it.
	n.in(func() error {
		conn := &nftables.Conn{}
		conn.DelTable(found[0])
		if err := conn.Flush(); !errors.Is(err, unix.EPERM) {
			t.Errorf("another's removal: %v", err)
		}
		return nil
	})
	n.relay.Close()
	if conn, err := n.dial("127.0.0.1:80", 0); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after the end: %v, %v", conn, err)
	}
	if found := tables(); len(found) != 0 {
		t.Errorf("tables %v", found)
	}
}
