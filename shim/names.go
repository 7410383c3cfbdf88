package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"runch/agentproto"
)

const (
	// maxQueries bounds the queries that are answered at one time. Further ones wait in
	// the guest.
	maxQueries = 64
	// nameTimeout bounds the wait for the answer of a name server.
	nameTimeout = 5 * time.Second
	// probeTimeout bounds the check that a name server listens; it is on the loopback interface.
	probeTimeout = time.Second
	// handTimeout bounds a call to the agent that gives it a server or an answer.
	handTimeout = 10 * time.Second
)

// names passes the queries of containers in the guest to name servers of this process's
// network namespace. Only one goroutine may call serve.
type names struct {
	guest agentproto.Dialer
	// agent has the open call for the next query; nil before the first server.
	agent *agentproto.Client
	// settle is called when a query was answered.
	settle func()

	mu      sync.Mutex
	servers map[netip.Addr]bool
}

// serve gives the guest the name server at a loopback address of this process's network
// namespace. A server that the guest has already is no error.
func (n *names) serve(ctx context.Context, server netip.Addr) error {
	if n.serves(server) {
		return nil
	}
	if !agentproto.IsRelayedServer(server) {
		return fmt.Errorf("%v is not the loopback address of a name server of the host's", server)
	}
	if err := probe(ctx, server); err != nil {
		return fmt.Errorf("look for the name server %v: %w", server, err)
	}
	call, cancel := context.WithTimeout(ctx, handTimeout)
	defer cancel()
	agent := n.agent
	if agent == nil {
		var err error
		if agent, err = agentproto.Connect(call, n.guest); err != nil {
			return err
		}
	}
	_, err := agent.ServeNames(call, &agentproto.ServeNamesRequest{Address: server.AsSlice()})
	if err != nil {
		if n.agent == nil {
			_ = agent.Close() // it was not used
		}
		return agentproto.FromAgent(err)
	}
	n.mu.Lock()
	n.servers[server] = true
	n.mu.Unlock()
	if n.agent == nil {
		n.agent = agent
		go n.fetch(ctx)
	}
	return nil
}

func (n *names) serves(server netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.servers[server]
}

// probe tells whether a name server listens, by TCP as each has to (RFC 7766).
func probe(ctx context.Context, server netip.Addr) error {
	dialer := net.Dialer{Timeout: probeTimeout}
	conn, err := dialer.DialContext(ctx, "tcp4", netip.AddrPortFrom(server, agentproto.DNSPort).String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// fetch takes the guest's queries for as long as the guest answers.
func (n *names) fetch(ctx context.Context) {
	slots := make(chan struct{}, maxQueries)
	for {
		slots <- struct{}{}
		q, err := n.agent.NextQuery(ctx, &agentproto.NextQueryRequest{})
		if err != nil {
			return
		}
		go func() {
			defer n.settle()
			defer func() { <-slots }()
			n.answer(ctx, q)
		}()
	}
}

// answer asks the server, and gives its answer to the guest.
func (n *names) answer(ctx context.Context, q *agentproto.NextQueryResponse) {
	message, err := n.ask(ctx, q)
	if err != nil {
		message = nil // gives the client no answer, like a server that is gone
	}
	ctx, cancel := context.WithTimeout(ctx, handTimeout)
	defer cancel()
	// A guest that takes no answer has ended.
	_, _ = n.agent.AnswerQuery(ctx, &agentproto.AnswerQueryRequest{Id: q.GetId(), Message: message})
}

// errNotServed says that the guest asks a server that it was not given.
var errNotServed = errors.New("not a name server of the guest's")

// ask asks the server, which must be one that the guest was given.
func (n *names) ask(ctx context.Context, q *agentproto.NextQueryResponse) ([]byte, error) {
	server, ok := netip.AddrFromSlice(q.GetAddress())
	if !ok || !n.serves(server) || len(q.GetMessage()) > agentproto.MaxDNSMessage {
		return nil, errNotServed
	}
	network := "udp4"
	if q.GetTcp() {
		network = "tcp4"
	}
	dialer := net.Dialer{Timeout: nameTimeout}
	conn, err := dialer.DialContext(ctx, network, netip.AddrPortFrom(server, agentproto.DNSPort).String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(nameTimeout)); err != nil {
		return nil, err
	}
	if q.GetTcp() {
		if err := agentproto.WriteDNSMessage(conn, q.GetMessage()); err != nil {
			return nil, err
		}
		return agentproto.ReadDNSMessage(conn)
	}
	if _, err := conn.Write(q.GetMessage()); err != nil {
		return nil, err
	}
	buf := make([]byte, agentproto.MaxDNSMessage)
	length, err := conn.Read(buf)
	return buf[:length], err
}
