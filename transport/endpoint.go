// Package transport connects the host and a guest: by the host's own AF_VSOCK, or
// by a unix socket that speaks hybrid vsock, as Firecracker introduced it. It does not
// depend on the protocols of the guest's ports.
package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"runch/unixsocket"
)

// Endpoint is where a guest can be reached from the host.
type Endpoint struct {
	// Unix is a socket that speaks hybrid vsock: `CONNECT <port>\n` is
	// answered by `OK <n>\n`, then the bytes are the guest's.
	Unix string `json:"unix,omitempty"`
	// CID is the guest's vsock context id, where Unix is empty.
	CID uint32 `json:"cid,omitempty"`
}

// maxAnswer bounds the answer to CONNECT, in bytes.
const maxAnswer = 32

// ErrRefused says that nobody in the guest took the connection.
var ErrRefused = errors.New("the guest refused the connection")

// errProtocol says that the answer to CONNECT is not one of hybrid vsock.
var errProtocol = errors.New("not an answer of hybrid vsock")

// Dial connects to a port of the guest. The caller closes the connection.
func (e Endpoint) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	if e.Unix == "" {
		return e.dialVsock(ctx, port)
	}
	conn, err := unixsocket.Dial(e.Unix)
	if err != nil {
		return nil, fmt.Errorf("dial the guest: %w", err)
	}
	if err := Connect(ctx, conn, port); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (e Endpoint) dialVsock(ctx context.Context, port uint32) (net.Conn, error) {
	type result struct {
		conn *vsock.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := vsock.Dial(e.CID, port, nil)
		// The kernel gives up after VSOCK_DEFAULT_CONNECT_TIMEOUT, two seconds, and a
		// guest may be busy for longer.
		for errors.Is(err, unix.ETIMEDOUT) && ctx.Err() == nil {
			conn, err = vsock.Dial(e.CID, port, nil)
		}
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("dial the guest's port %d: %w", port, r.err)
		}
		return r.conn, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, fmt.Errorf("dial the guest's port %d: %w", port, context.Cause(ctx))
	}
}

// Connect asks for a port on a connection to a socket that speaks hybrid vsock.
// The connection stays the caller's, and is of no use after an error.
func Connect(ctx context.Context, conn net.Conn, port uint32) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := connect(conn, port)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		return fmt.Errorf("dial the guest's port %d: %w", port, err)
	}
	return nil
}

// connect reads the answer byte by byte: the bytes after it belong to the caller.
func connect(conn net.Conn, port uint32) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		return fmt.Errorf("ask for it: %w", err)
	}
	line := make([]byte, 0, maxAnswer)
	for len(line) < maxAnswer {
		var b [1]byte
		if _, err := conn.Read(b[:]); err != nil {
			return fmt.Errorf("read the answer: %w: %w", ErrRefused, err)
		}
		if b[0] == '\n' {
			if !bytes.HasPrefix(line, []byte("OK ")) {
				break
			}
			return nil
		}
		line = append(line, b[0])
	}
	return fmt.Errorf("%q: %w", line, errProtocol)
}
