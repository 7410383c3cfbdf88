// Package loopback gives a guest the connections that processes on the host make in a
// network namespace to that namespace itself, on ports where nobody listens there: to
// 127.0.0.1 and ::1, and to the addresses of its links, which the guest has as well. The
// other addresses in 127.0.0.0/8 and link-local ones are left alone.
//
// The kernel's netfilter queues the first packet of such a connection. The guest is
// asked then; where it has a listener the packet goes to one of our sockets, to which it
// seems to be addressed (a transparent proxy), and where it has none the packet goes on
// and the kernel refuses the connection, as if nothing had been there. Nothing polls, and
// connections to a listener of the namespace's own pass untouched.
//
// What the package makes belongs to sockets of the process, and ends with them: the
// kernel then removes the rules, also when the process is killed.
package loopback

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"runch/unixsocket"

	"golang.org/x/sys/unix"
)

const (
	// maxConnections bounds the connections at one time, those that are being made
	// among them; more are refused.
	maxConnections = 256
	// answerTimeout is how long the guest may take to say whether it listens. After it
	// the connection is refused.
	answerTimeout = 10 * time.Second
	// arrivalTimeout is how long a connection may take to arrive once the guest has
	// its end: the client may have given up.
	arrivalTimeout = 10 * time.Second
)

// Guest is who gets the connections.
type Guest struct {
	// Connect makes a connection to an address that is the guest's own; an error
	// refuses the client.
	Connect func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Relay carries on with both, until they have ended, and closes them.
	Relay func(client *net.TCPConn, guest net.Conn)
}

// Relay is what gives a network namespace's connections to a guest.
type Relay struct {
	guest     Guest
	queue     *queue
	table     *table
	listeners []*net.TCPListener
	clients   clients
	end       context.CancelFunc
	work      sync.WaitGroup
}

// Open begins to take the connections in the network namespace of the calling thread.
// When ctx is done, those that are not made yet are refused. The caller closes the relay,
// or ends the process.
func Open(ctx context.Context, guest Guest) (_ *Relay, err error) {
	ctx, end := context.WithCancel(ctx)
	r := &Relay{guest: guest, end: end}
	r.clients.waiting = make(map[client]*attempt)
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	ports := make(map[family]uint16, len(families))
	for _, f := range families {
		l, err := listen(ctx, f)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("listen for connections at %v: %w", f.hidden, err)
		}
		r.listeners = append(r.listeners, l)
		ports[f] = l.Addr().(*net.TCPAddr).AddrPort().Port() //nolint:errcheck // it is a TCP listener's
	}
	// First who takes from the queue, then the rules that put into it.
	if r.queue, err = openQueue(queueNumber); err != nil {
		return nil, fmt.Errorf("make a queue for packets: %w", err)
	}
	if r.table, err = addTable(ports); err != nil {
		return nil, fmt.Errorf("add netfilter rules: %w", err)
	}
	for _, l := range r.listeners {
		r.work.Go(func() { r.accept(l) })
	}
	r.work.Go(func() { r.ask(ctx) })
	return r, nil
}

// Close removes the rules and ends every connection's beginning. Those that the guest
// has taken go on.
func (r *Relay) Close() {
	r.end()
	if r.table != nil {
		r.table.close()
	}
	if r.queue != nil {
		r.queue.close()
	}
	for _, l := range r.listeners {
		_ = l.Close()
	}
	r.work.Wait()
	r.clients.end()
}

// ask takes the packets from the queue, until that is closed or broken. Without a queue the
// rules let packets go on, and the kernel refuses the connections.
func (r *Relay) ask(ctx context.Context) {
	defer r.queue.close()
	for {
		packets, err := r.queue.receive()
		if err != nil {
			return
		}
		for _, p := range packets {
			r.decide(ctx, p)
		}
	}
}

// decide says what becomes of the packet that begins a connection.
func (r *Relay) decide(ctx context.Context, p packet) {
	switch r.clients.begin(p.client) {
	case isNew:
		r.work.Go(func() { r.connect(ctx, p) })
	case isConnected:
		r.queue.answer(p.id, toUs)
	case isAsked:
		// It comes again as long as the guest has not answered.
		r.queue.drop(p.id)
	case isTooMany:
		r.queue.answer(p.id, toNobody)
	}
}

// connect asks the guest, and lets the packet go on.
func (r *Relay) connect(ctx context.Context, p packet) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := r.guest.Connect(ctx, p.client.to)
	if err != nil {
		r.clients.forget(p.client)
		r.queue.answer(p.id, toNobody)
		return
	}
	r.clients.connected(p.client, conn)
	r.queue.answer(p.id, toUs)
}

// accept takes the connections that have a guest's end; another, as of a client that is
// too late, is reset. Without the socket the kernel refuses connections.
func (r *Relay) accept(l *net.TCPListener) {
	defer l.Close()
	for {
		conn, err := unixsocket.Accept(l.AcceptTCP)
		if err != nil {
			return
		}
		guest := r.clients.take(clientOf(conn))
		if guest == nil {
			_ = conn.SetLinger(0)
			_ = conn.Close()
			continue
		}
		go func() {
			defer r.clients.done()
			r.guest.Relay(conn, guest)
		}()
	}
}
