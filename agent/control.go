package agent

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"runch/unixsocket"
)

// controlListener bounds the control connections, and turns every error that ends
// one into io.EOF: only for a few errors, this one among them, does ttrpc cancel the
// contexts of the connection's calls.
type controlListener struct {
	net.Listener
	open *atomic.Int64
}

func (l controlListener) Accept() (net.Conn, error) {
	for {
		conn, err := unixsocket.Accept(l.Listener.Accept)
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > maxControl {
			l.open.Add(-1)
			_ = conn.Close()
			continue
		}
		return &controlConn{Conn: conn, open: l.open}, nil
	}
}

type controlConn struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *controlConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = io.EOF
	}
	return n, err
}

func (c *controlConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
