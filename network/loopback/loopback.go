// Package loopback relays to a guest the TCP connections that processes on the host make in
// a network namespace to that namespace itself, on ports without a listener there: to
// 127.0.0.1 and ::1, and to the addresses of the namespace's links, which the guest has as
// well. Other addresses in 127.0.0.0/8 and link-local ones are left alone.
//
// The kernel's netfilter queues the first packet of such a connection, and the package asks
// the guest for a listener. If there is one, the rules lead the packet to one of the
// package's sockets, which accepts it although it has another destination address (a
// transparent proxy). If there is none, the packet goes on and the kernel refuses the
// connection, as it does without this package. Nothing polls, and connections to a listener
// of the namespace itself pass untouched.
//
// The rules and the queue belong to sockets of the process. The kernel removes them when
// the sockets are closed, also when the process is killed.
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
	// maxConnections bounds the connections at one time, including those that are being
	// made. More are refused.
	maxConnections = 256
	// answerTimeout is how long the guest may take to say whether it listens. After it
	// the connection is refused.
	answerTimeout = 10 * time.Second
	// arrivalTimeout is how long a connection may take to be accepted once the guest's
	// end exists. The client may have given up.
	arrivalTimeout = 10 * time.Second
)

// Guest is the guest that gets the connections.
type Guest struct {
	// Connect makes a connection to one of the guest's own addresses. If it fails, the
	// client's connection is refused.
	Connect func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Relay copies between the two connections until both have ended, and closes them.
	Relay func(client *net.TCPConn, guest net.Conn)
}

// Relay relays a network namespace's connections to a guest.
type Relay struct {
	guest     Guest
	queue     *queue
	table     *table
	listeners []*net.TCPListener
	clients   clients
	end       context.CancelFunc
	work      sync.WaitGroup
}

// Open begins to relay the connections in the network namespace of the calling thread.
// When ctx is done, connections that are not made yet are refused. The caller closes the
// relay, or ends the process.
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
	// The queue comes first: without it, the rules' packets would pass unasked.
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

// Close removes the rules and ends the connections that are still being made. Those that
// were accepted go on.
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

// ask handles the queue's packets until the queue is closed or fails. Without a queue the
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

// decide gives the verdict on a packet that begins a connection, or starts to ask the guest.
func (r *Relay) decide(ctx context.Context, p packet) {
	switch r.clients.begin(p.client) {
	case isNew:
		r.work.Go(func() { r.connect(ctx, p) })
	case isConnected:
		r.queue.answer(p.id, toUs)
	case isAsked:
		// The client retransmits it until it gets an answer.
		r.queue.drop(p.id)
	case isTooMany:
		r.queue.answer(p.id, toNobody)
	}
}

// connect asks the guest for a connection, and lets the packet go on to us or to nobody.
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

// accept relays the connections that have a guest's end. It resets others, such as that of
// a client that comes after arrivalTimeout. When it ends it closes the socket, and the
// kernel refuses further connections.
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
