package channel

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"runch/hypervisor"
	"runch/transport/serial"
)

// backlog is how many connections wait for Accept; more are refused.
const backlog = 8

// Listen takes the connections that the guest makes to a port of the host. The listener
// ends when it is closed, or with the channel.
func (c *Channel) Listen(port uint32) (net.Listener, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, hypervisor.ErrClosed
	}
	if c.listeners[port] != nil {
		return nil, fmt.Errorf("listen on port %d: %w", port, hypervisor.ErrInUse)
	}
	l := &listener{channel: c, port: port, conns: make(chan *conn, backlog), done: make(chan struct{})}
	c.listeners[port] = l
	return l, nil
}

type listener struct {
	channel *Channel
	port    uint32
	conns   chan *conn
	done    chan struct{}
	closing sync.Once
}

// Accept waits for the guest's next connection; net.ErrClosed after Close,
// hypervisor.ErrClosed when the channel has ended.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	default:
	}
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-l.channel.Done():
		return nil, hypervisor.ErrClosed
	}
}

// Close ends the listener and the connections that were not accepted.
func (l *listener) Close() error {
	l.closing.Do(func() {
		l.channel.mu.Lock()
		delete(l.channel.listeners, l.port)
		l.channel.mu.Unlock()
		close(l.done)
		for {
			select {
			case conn := <-l.conns:
				_ = conn.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr is the port, as a network address.
func (l *listener) Addr() net.Addr { return addr(l.port) }

type addr uint32

func (addr) Network() string  { return "runch-guest" }
func (a addr) String() string { return fmt.Sprintf("port %d", uint32(a)) }

// accept handles the guest's streams until the session ends. If the guest opens too many,
// accept ends the session.
func (c *Channel) accept() {
	for {
		stream, err := c.session.AcceptStream()
		if err != nil {
			return
		}
		release := func() { c.guests.Add(-1) }
		if c.guests.Add(1) > maxGuestStreams {
			_ = c.session.Close()
			return
		}
		conn := newConn(c, stream, release)
		if !c.start(func() { c.route(stream, conn) }) {
			return
		}
	}
}

// route reads which port the stream is for and gives it to the listener.
func (c *Channel) route(stream *yamux.Stream, conn *conn) {
	_ = stream.SetReadDeadline(time.Now().Add(preambleTimeout))
	port, err := serial.ReadPort(stream)
	_ = stream.SetReadDeadline(time.Time{})
	if err != nil || !c.deliver(port, conn) {
		_ = conn.Close()
	}
}

func (c *Channel) deliver(port uint32, conn *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.listeners[port]
	if l == nil {
		return false
	}
	select {
	case l.conns <- conn:
		return true
	default:
		return false
	}
}
