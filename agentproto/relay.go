package agentproto

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"

	"runch/transport"
)

// The header of a relay, and the answer of one byte. The header has the address in 16
// bytes, an IPv4 one as an IPv4-mapped IPv6 address, and the port.
const (
	relayMagic   = "RUNCHRL2"
	relayAddress = 16
	relayHeader  = len(relayMagic) + relayAddress + 2

	relayConnected = 0
	relayFailed    = 1
)

// ErrRelayRefused says that nobody in the guest took the connection.
var ErrRelayRefused = transport.ErrRefused

// OpenRelay dials the agent through d and asks it for a connection to an address that the
// containers have, on the loopback interface or another. Relay carries the bytes of that
// connection over the one that is returned, which the caller closes. The error is
// ErrRelayRefused where nobody listens, or the containers do not have the address.
func OpenRelay(ctx context.Context, d Dialer, to netip.AddrPort) (net.Conn, error) {
	return open(ctx, d, RelayPort, func(conn net.Conn) error { return askRelay(conn, to) })
}

func askRelay(conn net.Conn, to netip.AddrPort) error {
	address := to.Addr().As16()
	header := append([]byte(relayMagic), address[:]...)
	if _, err := conn.Write(binary.BigEndian.AppendUint16(header, to.Port())); err != nil {
		return fmt.Errorf("ask for a relay: %w", err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("read the answer to a relay: %w", err)
	}
	if answer[0] != relayConnected {
		return ErrRelayRefused
	}
	return nil
}

// ReadRelayHeader reads what OpenRelay wrote, and not a byte more. It gives the address to
// connect to, but does not check that the containers have it.
func ReadRelayHeader(r io.Reader) (netip.AddrPort, error) {
	var header [relayHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read relay header: %w", err)
	}
	magic, rest := header[:len(relayMagic)], header[len(relayMagic):]
	address := netip.AddrFrom16([relayAddress]byte(rest)).Unmap()
	port := binary.BigEndian.Uint16(rest[relayAddress:])
	if string(magic) != relayMagic || port == 0 || address.IsUnspecified() || address.IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("relay header %q: %w", header, ErrProtocol)
	}
	return netip.AddrPortFrom(address, port), nil
}

// AnswerRelay tells the host whether the connection that it asked for is there.
func AnswerRelay(w io.Writer, connected bool) error {
	answer := []byte{relayConnected}
	if !connected {
		answer[0] = relayFailed
	}
	if _, err := w.Write(answer); err != nil {
		return fmt.Errorf("answer to a relay: %w", err)
	}
	return nil
}
