package agent

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"runch/agentproto"
)

const (
	// maxQueries bounds the queries that wait for an answer, of all servers together.
	// More are dropped, as a network would.
	maxQueries = 64
	// queryTimeout is how long the host may take to answer.
	queryTimeout = 10 * time.Second
)

// names stands in for name servers on the host's side of the network: it takes the
// queries that containers send to the servers' addresses, and the host fetches them.
type names struct {
	// netns is the path of the containers' network namespace.
	netns string
	// queries are those that the host has not fetched. It has room for maxQueries.
	queries chan *query

	mu      sync.Mutex
	servers map[netip.Addr]*nameServer
	waiting map[uint64]*query
	last    uint64
}

// query is one that a container has sent.
type query struct {
	id      uint64
	server  netip.Addr
	tcp     bool
	message []byte
	// answer takes the answer, nil where there is none. It does not block, and is
	// called once.
	answer func(message []byte)
	expiry *time.Timer
}

func newNames(netns string) *names {
	return &names{
		netns: netns, queries: make(chan *query, maxQueries),
		servers: make(map[netip.Addr]*nameServer), waiting: make(map[uint64]*query),
	}
}

// ask has the host answer a query. It reports false where there are too many.
func (n *names) ask(q *query) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) >= maxQueries {
		return false
	}
	select {
	case n.queries <- q:
	default:
		return false // full of expired ones that the host has not fetched
	}
	n.last++
	q.id = n.last
	n.waiting[q.id] = q
	q.expiry = time.AfterFunc(queryTimeout, func() { n.answer(q.id, nil) })
	return true
}

// answer gives a query its answer, if it still waits for one.
func (n *names) answer(id uint64, message []byte) {
	n.mu.Lock()
	q := n.waiting[id]
	delete(n.waiting, id)
	n.mu.Unlock()
	if q != nil {
		q.expiry.Stop()
		q.answer(message)
	}
}

// next gives the next query that still waits for its answer.
func (n *names) next(ctx context.Context) (*query, error) {
	for {
		select {
		case q := <-n.queries:
			n.mu.Lock()
			waits := n.waiting[q.id] == q
			n.mu.Unlock()
			if waits {
				return q, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ServeNames listens for the containers' queries to one of the host's name servers.
func (a *Agent) ServeNames(ctx context.Context, req *agentproto.ServeNamesRequest) (*agentproto.ServeNamesResponse, error) {
	address, ok := netip.AddrFromSlice(req.GetAddress())
	if !ok || !agentproto.IsRelayedServer(address) {
		return nil, invalidf("address: %v is not one of a name server of the host's", req.GetAddress())
	}
	if err := a.configuration.ready(); err != nil {
		return nil, err
	}
	if err := a.names.listen(ctx, address); err != nil {
		return nil, fmt.Errorf("stand in for the name server %v: %w", address, err)
	}
	return &agentproto.ServeNamesResponse{}, nil
}

// NextQuery waits for a query.
func (a *Agent) NextQuery(ctx context.Context, _ *agentproto.NextQueryRequest) (*agentproto.NextQueryResponse, error) {
	q, err := a.names.next(ctx)
	if err != nil {
		return nil, err
	}
	return &agentproto.NextQueryResponse{Id: q.id, Address: q.server.AsSlice(), Tcp: q.tcp, Message: q.message}, nil
}

// AnswerQuery hands an answer to the client that asked, if it still waits.
func (a *Agent) AnswerQuery(_ context.Context, req *agentproto.AnswerQueryRequest) (*agentproto.AnswerQueryResponse, error) {
	a.names.answer(req.GetId(), req.GetMessage())
	return &agentproto.AnswerQueryResponse{}, nil
}
