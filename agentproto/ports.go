// Package agentproto is what the host and the agent in the guest agree on: the
// control protocol (agent.proto, spoken as ttrpc), the header of a raw stream,
// the relays, the agent's hello, and paths in the guest. Neither side trusts the
// other: every length is checked against a bound before it is used.
package agentproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the protocol's version; both sides refuse any other.
const Version = 4

// The ports of the guest's vsock, or of the transport that replaces vsock.
const (
	// ControlPort is where the agent serves the Agent service.
	ControlPort = 1024
	// StreamPort is where the agent accepts raw streams.
	StreamPort = 1025
	// HelloPort is where the host waits for the agent's hello.
	HelloPort = 1026
	// RelayPort is where the agent connects the host to listeners of the containers.
	RelayPort = 1027
)

// Where things are in the guest.
const (
	// ShareTag is the virtiofs tag of the sandbox's shared directory.
	ShareTag = "runch"
	// GuestSharedDir is where the agent mounts the shared directory.
	GuestSharedDir = "/run/runch/shared"
	// GuestMemoryDir has the tmpfs file systems that containers of the sandbox share,
	// each below its name.
	GuestMemoryDir = "/run/runch/shm"
	// GuestNetNS is the network namespace of the sandbox's containers.
	GuestNetNS = "/run/runch/netns"
	// SerialPort is the name of the virtio-serial port that carries the
	// yamux session, with all ports, where there is no vsock.
	SerialPort = "runch.agent"
)

// The parameters of the kernel's command line that the agent reads.
const (
	// TransportParam says how the agent reaches the host.
	TransportParam = "runch.transport"
	// HelloPortParam gives the host's port for the hello, HelloPort if absent.
	HelloPortParam = "runch.hello_port"
	// DebugParam lets the agent write to the console.
	DebugParam = "runch.debug"
	// TransportVsock is AF_VSOCK.
	TransportVsock = "vsock"
	// TransportSerial is a virtio-serial port that carries a yamux session.
	TransportSerial = "serial"
)

const (
	streamMagic = "RUNCHST1"
	headerSize  = len(streamMagic) + 8
)

// ErrProtocol is wrapped by every error about bytes that do not keep to the protocol.
var ErrProtocol = errors.New("protocol error")

// WriteStreamHeader says which stream the connection is to carry; id is not 0.
func WriteStreamHeader(w io.Writer, id uint64) error {
	if id == 0 {
		return fmt.Errorf("stream id 0: %w", ErrProtocol)
	}
	header := binary.BigEndian.AppendUint64([]byte(streamMagic), id)
	if _, err := w.Write(header); err != nil {
		return fmt.Errorf("write stream header: %w", err)
	}
	return nil
}

// ReadStreamHeader reads what WriteStreamHeader wrote, and not a byte more.
func ReadStreamHeader(r io.Reader) (uint64, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, fmt.Errorf("read stream header: %w", err)
	}
	id := binary.BigEndian.Uint64(header[len(streamMagic):])
	if string(header[:len(streamMagic)]) != streamMagic || id == 0 {
		return 0, fmt.Errorf("stream header %q: %w", header, ErrProtocol)
	}
	return id, nil
}
