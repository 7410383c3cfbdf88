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

// conn is a stream whose Close works as net.Conn demands. yamux's own Close ends one
// direction only, and does not unblock a Read.
type conn struct {
	*yamux.Stream
	channel *Channel
	release func()

	reading sync.Mutex // held by Read, so that drain can wait for it
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

// translate turns yamux's errors into those that users of a net.Conn expect.
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
		// This unblocks Read and Write.
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
	// Wait for a Read that has begun. A later one returns net.ErrClosed.
	c.reading.Lock()
	c.reading.Unlock() //nolint:staticcheck // to wait for the reader is all it is for
	_ = c.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.Stream)
}
