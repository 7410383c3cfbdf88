package cloudhypervisor

import (
	"encoding/json"
	"io"
	"net"
	"sync"
	"time"

	"runch/unixsocket"
)

// events relays the VMM's events to the driver, and on a socket to the Handles of all
// processes. The event monitor itself is one stream, which only the process that started
// the VMM can read.
type events struct {
	listener *net.UnixListener
	mu       sync.Mutex
	clients  map[net.Conn]struct{}
	closed   bool
}

// maxClients bounds the clients that are connected at once. Each waits for one removal.
const maxClients = 64

// sendTimeout is how long a client that does not read can hold up the others.
const sendTimeout = time.Second

func newEvents(l *net.UnixListener) *events {
	return &events{listener: l, clients: make(map[net.Conn]struct{})}
}

// accept accepts clients until the listener is closed. Each gets a byte first. From then on
// it misses no event.
func (e *events) accept() {
	for {
		conn, err := unixsocket.Accept(e.listener.Accept)
		if err != nil {
			return
		}
		e.mu.Lock()
		if e.closed || len(e.clients) >= maxClients || !send(conn, []byte("\n")) {
			_ = conn.Close()
		} else {
			e.clients[conn] = struct{}{}
		}
		e.mu.Unlock()
	}
}

// relay reads the VMM's events until the VMM ends, and passes them to handle and to the
// clients. After one that cannot be decoded it still reads on, because the VMM drops events
// when the pipe is full.
func (e *events) relay(r io.Reader, handle func(event)) {
	in := json.NewDecoder(r)
	for {
		var one event
		if err := in.Decode(&one); err != nil {
			_, _ = io.Copy(io.Discard, r)
			break
		}
		handle(one)
		if line, err := json.Marshal(one); err == nil {
			e.broadcast(append(line, '\n'))
		}
	}
	e.close()
}

func (e *events) broadcast(line []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for conn := range e.clients {
		if !send(conn, line) {
			_ = conn.Close()
			delete(e.clients, conn)
		}
	}
}

func send(conn net.Conn, line []byte) bool {
	_ = conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, err := conn.Write(line)
	return err == nil
}

// close closes the listener and the clients' connections.
func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	_ = e.listener.Close()
	for conn := range e.clients {
		_ = conn.Close()
		delete(e.clients, conn)
	}
}
