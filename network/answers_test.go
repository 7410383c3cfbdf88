package network

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses of the two ends of the veth pair.
var (
	inside4, outside4 = netip.MustParseAddr("10.88.0.5"), netip.MustParseAddr("10.88.0.9")
	inside6, outside6 = netip.MustParseAddr("fd00::5"), netip.MustParseAddr("fd00::9")
)

// wired is attached with IPv4 and IPv6 addresses at both ends.
func wired(t *testing.T) (pod, outside *testNamespace, tap Tap) {
	t.Helper()
	pod, outside, link, tap := attached(t)
	if tap.NoAnswers != nil {
		t.Fatal(tap.NoAnswers)
	}
	pod.address(t, link.Name, inside6.String()+"/64")
	outside.address(t, "peer0", outside4.String()+"/16")
	outside.address(t, "peer0", outside6.String()+"/64")
	return pod, outside, tap
}

func (n *testNamespace) address(t *testing.T, name, address string) {
	t.Helper()
	n.in(t, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		return h.AddrAdd(link, addr)
	})
}

// listenUDP makes a socket in the namespace. It is closed when the test ends.
func (n *testNamespace) listenUDP(t *testing.T, at netip.AddrPort) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	n.in(t, func(*netlink.Handle) (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// dial connects a socket in the namespace, with a deadline of 5 s.
func (n *testNamespace) dial(t *testing.T, kind string, to netip.AddrPort) net.Conn {
	t.Helper()
	var conn net.Conn
	n.in(t, func(*netlink.Handle) (err error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		conn, err = d.DialContext(t.Context(), kind, to.String())
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// expect reads from conn and checks that it got want.
func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("got %q, %v, want %q", buf[:n], err, want)
	}
}

// TestOwnSocketsHearAnswers: a name server's answer reaches the socket in the namespace that
// sent the query, although the link's frames go to the guest. That includes the ARP reply or
// neighbour advertisement that is needed first.
func TestOwnSocketsHearAnswers(t *testing.T) {
	pod, outside, _ := wired(t)
	for _, address := range []netip.Addr{outside4, outside6} {
		server := outside.listenUDP(t, netip.AddrPortFrom(address, 53))
		client := pod.dial(t, "udp", netip.AddrPortFrom(address, 53))
		if _, err := client.Write([]byte("query")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		_ = server.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, from, err := server.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.WriteToUDPAddrPort([]byte("answer"), from); err != nil {
			t.Fatal(err)
		}
		expect(t, client, "answer")
	}
}

func TestOwnSocketsHearAnswersByTCP(t *testing.T) {
	pod, outside, _ := wired(t)
	for _, address := range []netip.Addr{outside4, outside6} {
		var server net.Listener
		at := netip.AddrPortFrom(address, 53)
		outside.in(t, func(*netlink.Handle) (err error) {
			var config net.ListenConfig
			server, err = config.Listen(t.Context(), "tcp", at.String())
			return err
		})
		t.Cleanup(func() { _ = server.Close() })
		go func() {
			conn, err := server.Accept()
			if err == nil {
				_, _ = conn.Write([]byte("answer"))
				_ = conn.Close()
			}
		}()
		expect(t, pod.dial(t, "tcp", at), "answer")
	}
}

// TestOthersGetWhatTheyDidNotAskForInTheGuest: packets that no socket in the namespace asked
// for go to the guest. That includes packets to the port of an unconnected socket, and to a
// connected socket from another address than its peer's.
func TestOthersGetWhatTheyDidNotAskForInTheGuest(t *testing.T) {
	pod, outside, tap := wired(t)
	listener := pod.listenUDP(t, netip.AddrPortFrom(netip.IPv4Unspecified(), 7))
	client := pod.dial(t, "udp", netip.AddrPortFrom(outside4, 53))
	outside.neighbour(t, "peer0", inside4, tap.MAC)
	other := outside.listenUDP(t, netip.AddrPortFrom(outside4, 54))
	for _, to := range []net.Addr{&net.UDPAddr{IP: inside4.AsSlice(), Port: 7}, client.LocalAddr()} {
		if _, err := other.WriteTo([]byte("unasked"), to); err != nil {
			t.Fatal(err)
		}
		expectPayload(t, tap.Files[0], "unasked")
	}
	// The client's first packet is the answer, so none of the earlier ones reached it.
	asked := outside.listenUDP(t, netip.AddrPortFrom(outside4, 53))
	if _, err := asked.WriteTo([]byte("asked"), client.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	expect(t, client, "asked")
	expectNothing(t, listener)
	expectNothing(t, client)
}

// TestNeighboursAreToldToBoth: the guest sees the ARP replies to the namespace's requests.
func TestNeighboursAreToldToBoth(t *testing.T) {
	pod, outside, tap := wired(t)
	client := pod.dial(t, "udp", netip.AddrPortFrom(outside4, 53))
	server := outside.listenUDP(t, netip.AddrPortFrom(outside4, 53))
	if _, err := client.Write([]byte("query")); err != nil {
		t.Fatal(err)
	}
	if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.ReadFromUDPAddrPort(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	// An ARP reply ends with the sender's addresses, then those of the host that asked.
	mac, err := net.ParseMAC(outside.mac(t, "peer0"))
	if err != nil {
		t.Fatal(err)
	}
	reply := append(append([]byte{}, mac...), outside4.AsSlice()...)
	reply = append(append(reply, tap.MAC...), inside4.AsSlice()...)
	expectPayload(t, tap.Files[0], string(reply))
}

// expectNothing checks that there is nothing to read.
func expectNothing(t *testing.T, conn net.Conn) {
	t.Helper()
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		t.Fatalf("a socket for UDP is a %T", conn)
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	var n int
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		n, _, readErr = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
		return true
	})
	if err != nil || !errors.Is(readErr, unix.EAGAIN) {
		t.Errorf("got %q, %v, %v", buf[:max(n, 0)], readErr, err)
	}
}

// neighbour adds a permanent entry to the neighbour table of a link.
func (n *testNamespace) neighbour(t *testing.T, name string, address netip.Addr, mac net.HardwareAddr) {
	t.Helper()
	n.in(t, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		return h.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: address.AsSlice(), HardwareAddr: mac,
		})
	})
}

// expectPayload reads frames until one ends with the payload.
func expectPayload(t *testing.T, f *os.File, payload string) {
	t.Helper()
	expectFrame(t, f, payload, func(frame []byte) bool { return bytes.HasSuffix(frame, []byte(payload)) })
}
