package agent

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/mdlayher/vsock"

	"runch/agentproto"
)

// transport is the way to the host: a listener for each port and one connection for the hello.
type transport struct {
	control, streams, relays net.Listener
	dialHello                func(context.Context) (net.Conn, error)
	// cut, where it is not nil, is closed when the way to the host is cut.
	cut <-chan struct{}
}

// openTransport opens the one that the kernel's command line names.
func openTransport(ctx context.Context, p Params, log io.Writer) (*transport, error) {
	if p.Transport == agentproto.TransportSerial {
		return openSerial(ctx, p.HelloPort, log)
	}
	return openVsock(p.HelloPort)
}

func openVsock(helloPort uint32) (*transport, error) {
	var listeners [3]hostOnly
	for i, port := range []uint32{agentproto.ControlPort, agentproto.StreamPort, agentproto.RelayPort} {
		// Naming the context id saves the guest from asking /dev/vsock for its own.
		const anyCID = 1<<32 - 1
		l, err := vsock.ListenContextID(anyCID, port, nil)
		if err != nil {
			return nil, fmt.Errorf("listen on port %d: %w", port, err)
		}
		listeners[i] = hostOnly{l}
	}
	return &transport{
		control: listeners[0],
		streams: listeners[1],
		relays:  listeners[2],
		dialHello: func(ctx context.Context) (net.Conn, error) {
			return vsock.DialContext(ctx, vsock.Host, helloPort, nil)
		},
	}, nil
}

// hostOnly accepts from the host alone: containers can dial the guest's vsock too.
type hostOnly struct{ *vsock.Listener }

func (l hostOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if peer, ok := conn.RemoteAddr().(*vsock.Addr); ok && peer.ContextID == vsock.Host {
			return conn, nil
		}
		_ = conn.Close()
	}
}
