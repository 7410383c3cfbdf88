package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"runch/hypervisor"
	"runch/unixsocket"
)

// maxRequest bounds the line `CONNECT <port>\n`, in bytes.
const maxRequest = 32

// hostPort is the first of the numbers in the answers `OK <n>`. In hybrid vsock n is the
// port on the host; no client uses it.
const hostPort = 1 << 30

// Serve lets other processes reach the guest by hybrid vsock. On each connection that ln
// accepts, it answers `CONNECT <port>\n` with `OK <n>\n`, and then relays the bytes to and
// from that port of the guest. It owns ln, and returns when ln or the channel has ended. It
// calls served, if not nil, each time that a connection has ended.
func (c *Channel) Serve(ln *net.UnixListener, served func()) error {
	if !c.track(ln) {
		_ = ln.Close()
		return hypervisor.ErrClosed
	}
	defer c.untrack(ln)
	stop := c.start(func() {
		<-c.Done()
		_ = ln.Close()
	})
	if !stop {
		return hypervisor.ErrClosed
	}
	for n := uint32(hostPort); ; n++ {
		client, err := unixsocket.Accept(ln.AcceptUnix)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		serve := func() {
			c.serve(client, n)
			if served != nil {
				served()
			}
		}
		if !c.track(client) || !c.start(serve) {
			_ = client.Close()
			return hypervisor.ErrClosed
		}
	}
}

// track makes Close close s. It returns false if Close was called already.
func (c *Channel) track(s io.Closer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.servers[s] = struct{}{}
	return true
}

func (c *Channel) untrack(s io.Closer) {
	_ = s.Close()
	c.mu.Lock()
	delete(c.servers, s)
	c.mu.Unlock()
}

func (c *Channel) serve(client *net.UnixConn, n uint32) {
	defer c.untrack(client)
	ctx, cancel := context.WithTimeout(context.Background(), preambleTimeout)
	defer cancel()
	_ = client.SetDeadline(time.Now().Add(preambleTimeout))
	port, err := readRequest(client)
	if err != nil {
		return
	}
	guest, err := c.open(ctx, port)
	if err != nil {
		return
	}
	defer guest.Close()
	if _, err := fmt.Fprintf(client, "OK %d\n", n); err != nil {
		return
	}
	_ = client.SetDeadline(time.Time{})
	join(client, guest)
}

// readRequest reads `CONNECT <port>\n` and not a byte more: what follows is for
// the guest.
func readRequest(r io.Reader) (uint32, error) {
	line := make([]byte, 0, maxRequest)
	for len(line) < maxRequest {
		var b [1]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return 0, fmt.Errorf("read the request: %w", err)
		}
		if b[0] != '\n' {
			line = append(line, b[0])
			continue
		}
		method, argument, _ := strings.Cut(string(line), " ")
		port, err := strconv.ParseUint(argument, 10, 32)
		if err != nil || !strings.EqualFold(method, "CONNECT") {
			break
		}
		return uint32(port), nil
	}
	return 0, fmt.Errorf("request %q is no CONNECT", line)
}

// join copies in both directions until both sides have ended.
//
// When the client ends, the guest gets all that the client sent, then the end; the
// client still gets what the guest sends, unless it has closed. When the guest ends,
// the client gets all that the guest sent, then the end, and its writes fail.
func join(client *net.UnixConn, guest *conn) {
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, err := io.Copy(guest.Stream, client)
		if err == nil {
			_ = guest.Stream.Close()
			return
		}
		// The guest reads no more. Keep reading what the client sends: if the socket is
		// closed with unread data, the kernel resets the client's connection before the
		// client has read everything.
		_, _ = io.Copy(io.Discard, client)
	}()
	_, err := io.Copy(client, guest.Stream)
	if err != nil {
		// The client has closed, or the channel has ended.
		_ = client.Close()
	}
	_ = client.CloseWrite()
	_ = client.CloseRead()
	_ = guest.SetWriteDeadline(time.Unix(1, 0))
	<-up
}
