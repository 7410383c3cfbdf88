package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// testNamespace is a network namespace made for one test.
type testNamespace struct {
	path string
	file *os.File
}

// needRoot skips a test if it does not run as root.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
}

// newNamespace makes a namespace that is removed when the test ends.
func newNamespace(t *testing.T) *testNamespace {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = home.Close() }()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network: %v", err)
	}
	f, err := os.Open("/proc/thread-self/ns/net")
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		t.Fatalf("return to own namespace: %v", back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &testNamespace{path: fmt.Sprintf("/proc/self/fd/%d", f.Fd()), file: f}
}

// in runs fn in the namespace.
func (n *testNamespace) in(t *testing.T, fn func(h *netlink.Handle) error) {
	t.Helper()
	if err := inNamespace(t.Context(), n.path, fn); err != nil {
		t.Fatal(err)
	}
}

// addVeth makes a veth pair in the namespace, both ends up, and gives name
// the addresses.
func (n *testNamespace) addVeth(t *testing.T, name, peer string, addresses ...string) {
	t.Helper()
	n.in(t, func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, 1400
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerMTU: 1400}); err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		for _, end := range []string{name, peer} {
			link, err := h.LinkByName(end)
			if err != nil {
				return err
			}
			// Without an IPv6 address, the namespace sends no frames of its own.
			_ = h.LinkSetIP6AddrGenMode(link, addrGenNone)
			if err := h.LinkSetUp(link); err != nil {
				return err
			}
			if end == peer {
				continue
			}
			for _, address := range addresses {
				addr, err := netlink.ParseAddr(address)
				if err != nil {
					return err
				}
				addr.Flags = unix.IFA_F_NODAD
				if err := h.AddrAdd(link, addr); err != nil {
					return fmt.Errorf("add %s: %w", address, err)
				}
			}
		}
		return nil
	})
}

// move takes a link of the namespace into another one.
func (n *testNamespace) move(t *testing.T, name string, to *testNamespace) {
	t.Helper()
	n.in(t, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		return h.LinkSetNsFd(link, int(to.file.Fd()))
	})
}

// packetSocket opens a socket that sees and sends raw frames on a link.
func (n *testNamespace) packetSocket(t *testing.T, name string) int {
	t.Helper()
	sock := -1
	n.in(t, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		sock, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(sock, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
			return err
		}
		return unix.Bind(sock, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index})
	})
	t.Cleanup(func() { _ = unix.Close(sock) })
	return sock
}

// frame is an Ethernet frame of an experimental type with the payload.
func frame(dst, src net.HardwareAddr, payload string) []byte {
	f := append(append([]byte{}, dst...), src...)
	f = append(f, 0x88, 0xb5)
	f = append(f, payload...)
	for len(f) < 60 {
		f = append(f, 0)
	}
	return f
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// within is a context that ends with the test or after 20 s.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
