package shim

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/namespace"
)

// inNewNetwork calls fn on a thread in a new network namespace with its loopback up.
func inNewNetwork(t *testing.T, fn func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
	var err error
	namespace.Do(func() bool {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return true
		}
		if err = namespace.WithHandle(func(h *netlink.Handle) error { return namespace.SetLoopbackUp(h) }); err == nil {
			err = fn()
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
}

// nameServer answers each message with the same text in capitals, by UDP and TCP.
func nameServer(t *testing.T, address string) error {
	t.Helper()
	udp, err := net.ListenPacket("udp4", address) //nolint:noctx // there is nothing to cancel
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp4", address) //nolint:noctx // there is nothing to cancel
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		_ = udp.Close()
		_ = tcp.Close()
	})
	go func() {
		buf := make([]byte, 512)
		for {
			n, peer, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte(strings.ToUpper(string(buf[:n]))), peer)
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			if message, err := agentproto.ReadDNSMessage(conn); err == nil {
				_ = agentproto.WriteDNSMessage(conn, []byte(strings.ToUpper(string(message))))
			}
			_ = conn.Close()
		}
	}()
	return nil
}

// TestNamesAreAsked: queries reach the server that the guest was given, and no other.
func TestNamesAreAsked(t *testing.T) {
	server := netip.AddrFrom4([4]byte{127, 0, 0, 11})
	n := &names{servers: map[netip.Addr]bool{server: true}}
	inNewNetwork(t, func() error {
		if err := probe(t.Context(), server); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a server that is not there: %v", err)
		}
		if err := nameServer(t, "127.0.0.11:53"); err != nil {
			return err
		}
		if err := nameServer(t, "127.0.0.12:53"); err != nil {
			return err
		}
		if err := probe(t.Context(), server); err != nil {
			t.Errorf("a server that is there: %v", err)
		}
		for _, tcp := range []bool{false, true} {
			got, err := n.ask(t.Context(), &agentproto.NextQueryResponse{Address: server.AsSlice(), Tcp: tcp, Message: []byte("question")})
			if err != nil || string(got) != "QUESTION" {
				t.Errorf("tcp %v: %q, %v", tcp, got, err)
			}
			for _, other := range [][]byte{{127, 0, 0, 12}, {127, 0, 0, 1}, {10, 0, 0, 1}, nil} {
				got, err := n.ask(t.Context(), &agentproto.NextQueryResponse{Address: other, Tcp: tcp, Message: []byte("question")})
				if !errors.Is(err, errNotServed) {
					t.Errorf("tcp %v, %v: %q, %v", tcp, other, got, err)
				}
			}
		}
		return nil
	})
}
