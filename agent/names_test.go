package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"runch/agentproto"
)

// nameClient is a container's process that asks a name server, in the network namespace
// at path.
func nameClient(t *testing.T, path, network string) net.Conn {
	t.Helper()
	var conn net.Conn
	err := inNetNS(path, func(*netlink.Handle) (err error) {
		d := net.Dialer{Timeout: 10 * time.Second}
		conn, err = d.DialContext(t.Context(), network, "127.0.0.11:53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// serveNames is an agent that stands in for a name server at 127.0.0.11, in a network
// namespace of its own.
func serveNames(t *testing.T) (c *agentproto.Client, path string) {
	t.Helper()
	path = newTestNetNS(t)
	h, a, _ := serveHost(t)
	a.names = newNames(path)
	a.configuration.configured = true
	if err := inNetNS(path, func(h *netlink.Handle) error { return setUp(h, "lo") }); err != nil {
		t.Fatal(err)
	}
	c = connect(t, h)
	for range 2 {
		if _, err := c.ServeNames(t.Context(), &agentproto.ServeNamesRequest{Address: []byte{127, 0, 0, 11}}); err != nil {
			t.Fatal(err)
		}
	}
	return c, path
}

func setUp(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.LinkSetUp(link)
}

// TestNames: the containers' queries reach the host, and its answers reach them.
func TestNames(t *testing.T) {
	c, path := serveNames(t)
	for network, tcp := range map[string]bool{"udp": false, "tcp": true} {
		client := nameClient(t, path, network)
		if tcp {
			if err := agentproto.WriteDNSMessage(client, []byte("question")); err != nil {
				t.Fatal(err)
			}
		} else if _, err := io.WriteString(client, "question"); err != nil {
			t.Fatal(err)
		}
		q, err := c.NextQuery(t.Context(), &agentproto.NextQueryRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if string(q.GetMessage()) != "question" || q.GetTcp() != tcp || string(q.GetAddress()) != "\x7f\x00\x00\x0b" {
			t.Errorf("%s: %v", network, q)
		}
		for range 2 { // nobody waits for the second
			if _, err := c.AnswerQuery(t.Context(), &agentproto.AnswerQueryRequest{Id: q.GetId(), Message: []byte("answer")}); err != nil {
				t.Fatal(err)
			}
		}
		var got []byte
		if tcp {
			got, err = agentproto.ReadDNSMessage(client)
		} else {
			got = make([]byte, len("answer"))
			_, err = client.Read(got)
		}
		if err != nil || string(got) != "answer" {
			t.Errorf("%s: %q, %v", network, got, err)
		}
	}
}

// TestQueriesAreBounded: queries beyond maxQueries are dropped, and the others are
// answered.
func TestQueriesAreBounded(t *testing.T) {
	c, path := serveNames(t)
	client := nameClient(t, path, "udp")
	for range maxQueries + 5 {
		if _, err := io.WriteString(client, "question"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range maxQueries {
		q, err := c.NextQuery(t.Context(), &agentproto.NextQueryRequest{})
		if err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
		if _, err := c.AnswerQuery(t.Context(), &agentproto.AnswerQueryRequest{Id: q.GetId(), Message: []byte("answer")}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServeNamesRefusals(t *testing.T) {
	h, a, _ := serveHost(t)
	a.configuration.configured = true
	c := connect(t, h)
	for _, address := range [][]byte{nil, {1, 2, 3}, {127, 0, 0, 1}, {10, 0, 0, 1}, make([]byte, 16)} {
		_, err := c.ServeNames(t.Context(), &agentproto.ServeNamesRequest{Address: address})
		if !errors.Is(agentproto.FromAgent(err), agentproto.ErrInvalid) {
			t.Errorf("%v: %v", address, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if q, err := c.NextQuery(ctx, &agentproto.NextQueryRequest{}); err == nil {
		t.Errorf("a query that nobody asked: %v", q)
	}
}
