package agentproto

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
)

const (
	// DNSPort is where name servers listen.
	DNSPort = 53
	// MaxDNSMessage is the length of the largest message of DNS, in bytes.
	MaxDNSMessage = 1<<16 - 1
)

// IsRelayedServer tells whether the agent may stand in for a name server at an address. It
// may for an IPv4 loopback address, which is on the host's side of the network, as docker's
// is (127.0.0.11), except 127.0.0.1, which is the container's own.
func IsRelayedServer(address netip.Addr) bool {
	return address.Is4() && address.IsLoopback() && address != netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// ReadDNSMessage reads a DNS message from a TCP connection, where its length precedes it
// (RFC 1035, 4.2.2).
func ReadDNSMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, fmt.Errorf("read the length of a DNS message: %w", err)
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, fmt.Errorf("read a DNS message: %w", err)
	}
	return message, nil
}

// WriteDNSMessage writes a DNS message with its length before it, as ReadDNSMessage
// reads it.
func WriteDNSMessage(w io.Writer, message []byte) error {
	if len(message) > MaxDNSMessage {
		return fmt.Errorf("a DNS message of %d bytes: %w", len(message), ErrProtocol)
	}
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message))) // #nosec G115 -- at most MaxDNSMessage
	if _, err := w.Write(append(out, message...)); err != nil {
		return fmt.Errorf("write a DNS message: %w", err)
	}
	return nil
}
