package channel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// conn makes a stream behave like any connection. A stream's own Close ends one
// direction only and leaves a blocked Read waiting.
type conn struct {
	*yamux.Stream
	channel *Channel
	release func()

	reading sync.Mutex // held by whoever reads, the drain after Close excepted
	closing sync.Once
	closed  chan struct{}
}

func newConn(c *Channel, s *yamux.Stream, release func()) *conn {
	return &conn{Stream: s, channel: c, release: release, closed: make(chan struct{})}
}

// Read reads from the guest; after Close it gives net.ErrClosed.
func (c *conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.isClosed() {
		return 0, net.ErrClosed
	}
	n, err := c.Stream.Read(p)
	return n, c.translate(err)
}

// Write writes to the guest; after Close it gives net.ErrClosed.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Stream.Write(p)
	return n, c.translate(err)
}

// translate gives the errors that the users of a net.Conn look for.
func (c *conn) translate(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return err
	case c.isClosed():
		return net.ErrClosed
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	default:
		return fmt.Errorf("connection to the guest: %w", err)
	}
}

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Close tells the guest that nothing more comes, and drops what it still sends:
// a guest that writes to a connection nobody reads must not stall. The stream
// ends when the guest ends its side.
func (c *conn) Close() error {
	c.closing.Do(func() {
		close(c.closed)
		// Who is blocked in Read or Write comes back.
		_ = c.SetDeadline(time.Unix(1, 0))
		if !c.channel.start(c.drain) {
			c.release()
		}
	})
	return nil
}

func (c *conn) drain() {
	defer c.release()
	_ = c.Stream.Close()
	// Who reads now comes back first; who comes later sees that it is closed.
	c.reading.Lock()
	c.reading.Unlock() //nolint:staticcheck // it is waited for, nothing more
	_ = c.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.Stream)
}
