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
	// hidden is the address that our socket is bound to. It is in a block for
	// documentation, so nobody can connect to the socket, and no port of the namespace's
	// addresses is lost to it: only rules of ours lead there.
	hidden netip.Addr
}

var (
	v4       = family{unix.NFPROTO_IPV4, netip.AddrFrom4([4]byte{192, 0, 2, 1})}
	v6       = family{unix.NFPROTO_IPV6, netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: 1})}
	families = []family{v4, v6}
)

// listen makes the socket that a family's connections are led to. It is transparent:
// the connections have the addresses that their clients have chosen.
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
	config.SetMultipathTCP(false) // which netfilter's lookup of the socket does not know
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
