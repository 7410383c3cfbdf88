package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

const (
	// maxRelays bounds the relays at one time: the host allows itself fewer.
	maxRelays = 512
	// relayTimeout bounds a relay's beginning, up to the answer.
	relayTimeout = 10 * time.Second
)

// relays connects the host to listeners in the containers' network namespace: only to
// addresses of that namespace, and only at the host's request.
type relays struct {
	// netns is the path of the namespace.
	netns string
	open  atomic.Int32
}

// serve serves one connection of the host's, which it owns.
func (r *relays) serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	defer r.open.Add(-1)
	if r.open.Add(1) > maxRelays {
		return fmt.Errorf("relays: %w", errTooMany)
	}
	tcp, err := r.connect(ctx, conn)
	if err != nil {
		return err
	}
	agentproto.Relay(tcp, conn)
	return nil
}

// connect makes the connection that the host asks for, and answers the host whether it
// is there.
func (r *relays) connect(ctx context.Context, conn net.Conn) (*containerSocket, error) {
	if err := conn.SetDeadline(time.Now().Add(relayTimeout)); err != nil {
		return nil, fmt.Errorf("begin a relay: %w", err)
	}
	to, err := agentproto.ReadRelayHeader(conn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	tcp, err := dialIn(ctx, r.netns, to)
	if err != nil {
		_ = agentproto.AnswerRelay(conn, false) // a host that is gone has no use for it
		return nil, fmt.Errorf("connect to %v: %w", to, err)
	}
	if err := agentproto.AnswerRelay(conn, true); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		_ = tcp.Close()
		return nil, fmt.Errorf("begin a relay: %w", err)
	}
	return tcp, nil
}

// containerSocket is a TCP connection in the network namespace of the containers.
type containerSocket struct{ *socket.Conn }

// dialIn connects to one of the network namespace's own addresses; path is that of the
// namespace. The source is the same address, as the kernel chooses it too.
func dialIn(ctx context.Context, path string, to netip.AddrPort) (*containerSocket, error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	conn, err := socket.Socket(family, unix.SOCK_STREAM, 0, "tcp", &socket.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		conn.SetsockoptInt(unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), // the port is chosen by connect
		conn.Bind(socketAddress(netip.AddrPortFrom(to.Addr(), 0))),       // an error for an address that is not the namespace's
	); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if _, err := conn.Connect(ctx, socketAddress(to)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	// The bytes come from another TCP connection, whose sender has decided how long to
	// gather them: they are passed on at once.
	_ = conn.SetsockoptInt(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	return &containerSocket{conn}, nil
}

func socketAddress(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// SetLinger sets SO_LINGER (socket(7)), in seconds.
func (c *containerSocket) SetLinger(seconds int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		// #nosec G115 -- of agentproto, 0
		optErr = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(seconds)})
	})
	if err != nil {
		return err
	}
	return optErr
}
