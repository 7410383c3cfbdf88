package loopback

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// client is who connects, and where to.
type client struct{ from, to netip.AddrPort }

// clientOf is the other side of an accepted connection.
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

// attempt is a connection that is being made; guest is nil until the guest has its end.
type attempt struct {
	guest net.Conn
	// expiry ends it when the client does not come.
	expiry *time.Timer
}

// clients are those whose connections are being made, and how many connections there
// are in all. It is safe for concurrent use.
type clients struct {
	mu      sync.Mutex
	waiting map[client]*attempt
	// open counts those that are waiting, and those that are carried.
	open int
}

// standing is what a client's packet finds.
type standing int

const (
	isNew standing = iota
	// isAsked: the guest has not answered yet.
	isAsked
	// isConnected: the guest has its end.
	isConnected
	isTooMany
)

// begin tells of a client's packet. Where the standing is isNew the client is waiting
// from now on.
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

// connected keeps the guest's end until the client's arrives. It is closed when that
// does not.
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

// forget ends a client's waiting.
func (c *clients) forget(who client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(who)
}

// take gives the guest's end of a client's connection, which counts until done; nil
// where there is none.
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

// done is told when a connection that was taken has ended.
func (c *clients) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
}

// end closes what waits.
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
