package agentproto

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// The header of a relay, and its answer of one byte.
const (
	relayMagic  = "RUNCHRL1"
	relayHeader = len(relayMagic) + 1 + 2

	relayV4 = 4
	relayV6 = 6

	relayConnected = 0
	relayFailed    = 1
)

// ErrRelayRefused says that nobody in the guest took the connection.
var ErrRelayRefused = errors.New("the guest refused the connection")

// OpenRelay asks the agent, which it dials through d, for a connection to a loopback
// address of the guest's containers. What Relay carries over the connection that it gives
// is that one's; the caller closes it. The error is ErrRelayRefused where nobody listens.
func OpenRelay(ctx context.Context, d Dialer, to netip.AddrPort) (net.Conn, error) {
	return open(ctx, d, RelayPort, func(conn net.Conn) error { return askRelay(conn, to) })
}

func askRelay(conn net.Conn, to netip.AddrPort) error {
	header := append([]byte(relayMagic), relayV4)
	if to.Addr().Is6() {
		header[len(relayMagic)] = relayV6
	}
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

// ReadRelayHeader reads what OpenRelay wrote, and not a byte more: where to connect to,
// always a loopback address.
func ReadRelayHeader(r io.Reader) (netip.AddrPort, error) {
	var header [relayHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read relay header: %w", err)
	}
	port := binary.BigEndian.Uint16(header[len(relayMagic)+1:])
	family := header[len(relayMagic)]
	switch {
	case string(header[:len(relayMagic)]) != relayMagic || port == 0:
	case family == relayV4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), nil
	case family == relayV6:
		return netip.AddrPortFrom(netip.IPv6Loopback(), port), nil
	}
	return netip.AddrPort{}, fmt.Errorf("relay header %q: %w", header, ErrProtocol)
}

// AnswerRelay says whether the connection that was asked for is there.
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
