package loopback

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// client identifies a connection by the client's address and the one that it connects to.
type client struct{ from, to netip.AddrPort }

// clientOf is the client of an accepted connection.
func clientOf(conn *net.TCPConn) client {
	return client{from: addrPort(conn.RemoteAddr()), to: addrPort(conn.LocalAddr())}
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// attempt is a connection that is being made. guest is the connection to the guest, nil
// until it exists.
type attempt struct {
	guest net.Conn
	// expiry ends the attempt if the client's connection is not accepted in time.
	expiry *time.Timer
}

// clients has the connections that are being made, and counts all. It is safe for
// concurrent use.
type clients struct {
	mu      sync.Mutex
	waiting map[client]*attempt
	// open counts the connections that are being made, and those that are relayed.
	open int
}

// standing is how far a client's connection is when a packet of it arrives.
type standing int

const (
	isNew standing = iota
	// isAsked: the guest has not answered yet.
	isAsked
	// isConnected: the connection to the guest exists.
	isConnected
	isTooMany
)

// begin returns the standing for a client's packet. For isNew it records an attempt.
func (c *clients) begin(who client) standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.waiting[who]
	switch {
	case a == nil && c.open >= maxConnections:
		return isTooMany
	case a == nil:
		c.waiting[who] = &attempt{}
		c.open++
		return isNew
	case a.guest == nil:
		return isAsked
	default:
		return isConnected
	}
}

// connected keeps the connection to the guest until the client's is accepted, and closes it
// if that does not happen within arrivalTimeout.
func (c *clients) connected(who client, guest net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.waiting[who]
	a.guest = guest
	a.expiry = time.AfterFunc(arrivalTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.waiting[who] == a {
			c.remove(who)
			_ = guest.Close()
		}
	})
}

// forget drops a client's attempt after the connection to the guest has failed.
func (c *clients) forget(who client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(who)
}

// take returns the connection to the guest for an accepted client, nil if there is none.
// The connection counts as open until done is called.
func (c *clients) take(who client) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.waiting[who]
	if a == nil || a.guest == nil {
		return nil
	}
	a.expiry.Stop()
	delete(c.waiting, who)
	return a.guest
}

// done is called when a connection that was taken has ended.
func (c *clients) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
}

// end closes the connections that are being made.
func (c *clients) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for who, a := range c.waiting {
		if a.guest != nil {
			a.expiry.Stop()
			_ = a.guest.Close()
		}
		c.remove(who)
	}
}

func (c *clients) remove(who client) {
	delete(c.waiting, who)
	c.open--
}
