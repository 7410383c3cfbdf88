package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"runch/agentproto"
	"runch/transport/serial"
)

const (
	// portTimeout is how long the virtio-serial port may take to appear.
	portTimeout = 30 * time.Second
	// writeTimeout is how long the host may leave the port unread. A host under
	// load, or one that stops the VM for a while, is no reason to lose output.
	writeTimeout = 10 * time.Minute
	// closeTimeout is how long a stream stays half closed.
	closeTimeout = time.Minute
	// maxBacklog is how many streams may wait to be accepted.
	maxBacklog = 1024
)

// openSerial opens the virtio-serial port and speaks yamux on it.
func openSerial(ctx context.Context, helloPort uint32, log io.Writer) (*transport, error) {
	ctx, cancel := context.WithTimeout(ctx, portTimeout)
	defer cancel()
	path, err := findPort(ctx, agentproto.SerialPort)
	if err != nil {
		return nil, fmt.Errorf("find serial port %s: %w", agentproto.SerialPort, err)
	}
	device, err := serial.OpenDevice(path)
	if err != nil {
		return nil, err
	}
	session, err := yamux.Server(device, yamuxConfig(log))
	if err != nil {
		_ = device.Close()
		return nil, fmt.Errorf("speak yamux on the virtio-serial port: %w", err)
	}
	return demux(session, helloPort), nil
}

func yamuxConfig(log io.Writer) *yamux.Config {
	c := yamux.DefaultConfig()
	// The host's end is the VMM's own: it does not go away unnoticed, and pings
	// would wake an idle guest.
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = writeTimeout
	c.StreamOpenTimeout = 0
	c.StreamCloseTimeout = closeTimeout
	c.AcceptBacklog = maxBacklog
	c.LogOutput = log
	return c
}

// demux tells the streams of a session apart by the port that each begins with.
func demux(session *yamux.Session, helloPort uint32) *transport {
	ports := map[uint32]*queue{
		agentproto.ControlPort: newQueue(), agentproto.StreamPort: newQueue(), agentproto.RelayPort: newQueue(),
	}
	go func() {
		defer func() {
			for _, q := range ports {
				_ = q.Close()
			}
		}()
		for {
			conn, err := session.Accept()
			if err != nil {
				return
			}
			go route(conn, ports)
		}
	}()
	return &transport{
		control: ports[agentproto.ControlPort],
		streams: ports[agentproto.StreamPort],
		relays:  ports[agentproto.RelayPort],
		dialHello: func(context.Context) (net.Conn, error) {
			conn, err := session.Open()
			if err != nil {
				return nil, err
			}
			if err := serial.WritePort(conn, helloPort); err != nil {
				_ = conn.Close()
				return nil, err
			}
			return conn, nil
		},
		cut: session.CloseChan(),
	}
}

// route reads a stream's port and hands the stream to that port's listener.
func route(conn net.Conn, ports map[uint32]*queue) {
	_ = conn.SetReadDeadline(time.Now().Add(streamTimeout))
	port, err := serial.ReadPort(conn)
	_ = conn.SetReadDeadline(time.Time{})
	to := ports[port]
	if err != nil || to == nil || !to.put(conn) {
		_ = conn.Close()
	}
}

// queue is a listener that is given its connections.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newQueue() *queue {
	return &queue{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) put(conn net.Conn) bool {
	select {
	case q.conns <- conn:
		return true
	case <-q.done:
		return false
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr {
	return &net.UnixAddr{Name: agentproto.SerialPort, Net: "virtio-serial"}
}

// findPort returns the path of the port called name, which may not be there yet.
func findPort(ctx context.Context, name string) (path string, err error) {
	err = awaitDevice(ctx, func() (bool, error) {
		path, err = serial.FindDevice(name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	})
	return path, err
}
