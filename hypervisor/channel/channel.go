// Package channel replaces a vsock on hosts without one: it multiplexes connections
// over one byte stream to the guest, a virtio-serial port. The host is the client of a
// yamux session, the guest its server. Package serial defines the bytes that each stream
// begins with.
//
// It owns the byte stream, the session and the unix socket on which other processes
// reach the guest. It does not know who starts the VM.
//
// The guest is not trusted. The memory that it can make the host use is bounded (streams
// and their windows), the bytes that it has to send first have a deadline, and the most
// that it can break is its own channel.
package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"runch/hypervisor"
	"runch/transport/serial"
)

const (
	// maxStreams is how many connections there may be from host to guest, the
	// number that hypervisors with a vsock of their own allow.
	maxStreams = 1023
	// maxGuestStreams is how many streams that the guest opened there may be at one
	// time. The guest needs one, for its hello.
	maxGuestStreams = 16
	// preambleTimeout is how long either side may take to name its port.
	preambleTimeout = 10 * time.Second
	// never is a timeout that does not expire, for yamux, which has no other way to say
	// that. A guest may be paused for days.
	never = 10 * 365 * 24 * time.Hour
	// maxLogLines is how many lines yamux may log in all.
	maxLogLines = 20
)

// Errors of a channel. There is also hypervisor.ErrClosed, which says that the channel has
// ended: by Close, with the VM, or because the guest broke the protocol.
var (
	// ErrProtocol says that the guest sent a frame that it must not send.
	ErrProtocol = errors.New("the guest broke the channel's protocol")
	// ErrTooMany says that the maximum number of connections exists already.
	ErrTooMany = errors.New("too many connections to the guest")
)

// Channel is the host's end. All methods may be called by several goroutines.
type Channel struct {
	session *yamux.Session
	slots   chan struct{} // one for each stream that we opened
	guests  atomic.Int32  // streams that the guest opened

	mu        sync.Mutex
	listeners map[uint32]*listener
	servers   map[io.Closer]struct{} // what Serve has open
	closed    bool

	work sync.WaitGroup
}

// New begins a session on conn. If it succeeds, the channel owns conn. yamux logs the
// guest's errors to log, a few lines at most. log may be nil.
func New(conn io.ReadWriteCloser, log io.Writer) (*Channel, error) {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.ConnectionWriteTimeout = never
	config.StreamOpenTimeout = 0
	// A stream that we have ended is kept until the guest has read all of it and
	// ends its side; a timer here would drop what it has not read yet.
	config.StreamCloseTimeout = 0
	config.LogOutput = nil
	config.Logger = &boundedLogger{to: log}
	session, err := yamux.Client(newGuard(conn), config)
	if err != nil {
		return nil, fmt.Errorf("begin the session with the guest: %w", err)
	}
	c := &Channel{
		session:   session,
		slots:     make(chan struct{}, maxStreams),
		listeners: make(map[uint32]*listener),
		servers:   make(map[io.Closer]struct{}),
	}
	c.work.Go(c.accept)
	return c, nil
}

// Dial opens a connection to a port of the guest. It does not wait for the guest: data
// that is written waits until the guest reads. If the port has no listener, the
// connection ends. When the caller closes the connection, the guest sees its end, and
// data that the guest still sends is dropped.
func (c *Channel) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	conn, err := c.open(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("dial the guest's port %d: %w", port, err)
	}
	return conn, nil
}

func (c *Channel) open(ctx context.Context, port uint32) (*conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return nil, ErrTooMany
	}
	type result struct {
		conn *conn
		err  error
	}
	done := make(chan result, 1)
	// OpenStream blocks when the guest does not read, and has no deadline.
	opened := c.start(func() {
		conn, err := c.openStream(port)
		done <- result{conn, err}
	})
	if !opened {
		<-c.slots
		return nil, hypervisor.ErrClosed
	}
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		c.start(func() {
			if r := <-done; r.err == nil {
				_ = r.conn.Close()
			}
		})
		return nil, context.Cause(ctx)
	}
}

func (c *Channel) openStream(port uint32) (*conn, error) {
	release := func() { <-c.slots }
	stream, err := c.session.OpenStream()
	if err != nil {
		release()
		return nil, fmt.Errorf("%w: %w", hypervisor.ErrClosed, err)
	}
	conn := newConn(c, stream, release)
	if err := serial.WritePort(stream, port); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%w: %w", hypervisor.ErrClosed, err)
	}
	return conn, nil
}

// start runs f in a goroutine that Close waits for. It returns false if the channel is
// closed.
func (c *Channel) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Go(f)
	return true
}

// Done is closed when the session has ended.
func (c *Channel) Done() <-chan struct{} { return c.session.CloseChan() }

// Close ends the session, all connections and listeners, and Serve with its clients. It
// returns when all of these have ended.
func (c *Channel) Close() error {
	c.mu.Lock()
	c.closed = true
	servers := make([]io.Closer, 0, len(c.servers))
	for s := range c.servers {
		servers = append(servers, s)
	}
	listeners := make([]*listener, 0, len(c.listeners))
	for _, l := range c.listeners {
		listeners = append(listeners, l)
	}
	c.mu.Unlock()
	for _, s := range servers {
		_ = s.Close()
	}
	err := c.session.Close()
	for _, l := range listeners {
		_ = l.Close()
	}
	c.work.Wait()
	if err != nil {
		return fmt.Errorf("end the session with the guest: %w", err)
	}
	return nil
}

// boundedLogger bounds what yamux logs, because the guest can cause any number of errors.
type boundedLogger struct {
	to io.Writer
	n  atomic.Int32
}

// Printf writes one line, up to maxLogLines.
func (c *boundedLogger) Printf(format string, v ...any) {
	// The counter stops near the maximum: it would overflow otherwise.
	if c.to == nil || c.n.Load() >= maxLogLines || c.n.Add(1) > maxLogLines {
		return
	}
	_, _ = fmt.Fprintf(c.to, "channel to the guest: "+format+"\n", v...)
}

// Print is Printf without a format.
func (c *boundedLogger) Print(v ...any) { c.Printf("%s", fmt.Sprint(v...)) }

// Println is Print, which ends the line.
func (c *boundedLogger) Println(v ...any) { c.Printf("%s", fmt.Sprint(v...)) }
