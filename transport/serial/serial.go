// Package serial has the protocol on a virtio-serial port that stands in for vsock, and the
// end of the port that is in the guest. The port carries a yamux session, and each stream of
// it begins with the number of the vsock port that it is for.
package serial

import (
	"encoding/binary"
	"fmt"
	"io"
)

// portSize is the size of a port's number on the wire, in bytes; it is big-endian.
const portSize = 4

// WritePort writes the beginning of a stream: the port that the stream is for.
func WritePort(w io.Writer, port uint32) error {
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, port)); err != nil {
		return fmt.Errorf("write port: %w", err)
	}
	return nil
}

// ReadPort reads what WritePort wrote, and no byte after it.
func ReadPort(r io.Reader) (uint32, error) {
	var b [portSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("read port: %w", err)
	}
	return binary.BigEndian.Uint32(b[:]), nil
}
