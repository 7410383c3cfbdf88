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

// conn is a stream with a Close like that of other connections: yamux's own ends one
// direction only and leaves a blocked Read waiting.
type conn struct {
	*yamux.Stream
	channel *Channel
	release func()

	reading sync.Mutex // held by Read, not by the drain after Close
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

// translate gives the errors that users of a net.Conn expect.
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

// Close ends our side of the stream, and drops what the guest still sends, so that
// the guest's writes do not block. The stream ends when the guest ends its side.
func (c *conn) Close() error {
	c.closing.Do(func() {
		close(c.closed)
		// A blocked Read or Write returns.
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
	// A Read that is under way returns first; a later one sees that it is closed.
	c.reading.Lock()
	c.reading.Unlock() //nolint:staticcheck // to wait for the reader is all it is for
	_ = c.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.Stream)
}
