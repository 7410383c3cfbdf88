package loopback

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// family is one of IP's address families.
type family struct {
	// protocol is NFPROTO_IPV4 or NFPROTO_IPV6.
	protocol byte
	// hidden is the address that our socket is bound to, in a block for documentation
	// (RFC 5737, RFC 3849). Only our rules lead to it: no process can connect to it
	// directly, and it takes no port on the namespace's own addresses.
	hidden netip.Addr
}

var (
	v4       = family{unix.NFPROTO_IPV4, netip.AddrFrom4([4]byte{192, 0, 2, 1})}
	v6       = family{unix.NFPROTO_IPV6, netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: 1})}
	families = []family{v4, v6}
)

// listen makes the socket that a family's connections are led to. It is transparent: the
// accepted connections have the local address that the client has connected to.
func listen(ctx context.Context, f family) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var optErr error
		err := raw.Control(func(fd uintptr) {
			if f == v4 {
				optErr = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
			} else {
				optErr = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
			}
		})
		return errors.Join(err, optErr)
	}}
	config.SetMultipathTCP(false) // netfilter's lookup does not find an MPTCP socket
	l, err := config.Listen(ctx, "tcp", netip.AddrPortFrom(f.hidden, 0).String())
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("a listener for TCP is a %T", l)
	}
	return tcp, nil
}
