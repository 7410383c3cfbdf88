package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/unixsocket"
)

const (
	// maxNameClients bounds the connections by TCP to a name server.
	maxNameClients = 16
	// nameClientTimeout is how long such a connection may say nothing.
	nameClientTimeout = 30 * time.Second
)

// nameServer stands in for one of the host's name servers.
type nameServer struct {
	names   *names
	address netip.Addr
	udp     net.PacketConn
	tcp     net.Listener
	clients chan struct{} // one for each connection
}

// listen listens at an address in the containers' network namespace, once.
func (n *names) listen(ctx context.Context, address netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.servers[address] != nil {
		return nil
	}
	s := &nameServer{names: n, address: address, clients: make(chan struct{}, maxNameClients)}
	if err := inNetNS(n.netns, func(*netlink.Handle) error { return s.open(ctx) }); err != nil {
		return err
	}
	n.servers[address] = s
	go s.serveUDP()
	go s.serveTCP()
	return nil
}

// open makes the sockets, in the network namespace of the calling thread.
func (s *nameServer) open(ctx context.Context) (err error) {
	at := netip.AddrPortFrom(s.address, agentproto.DNSPort).String()
	var config net.ListenConfig
	if s.udp, err = config.ListenPacket(ctx, "udp4", at); err != nil {
		return err
	}
	if s.tcp, err = config.Listen(ctx, "tcp4", at); err != nil {
		return errors.Join(err, s.udp.Close())
	}
	return nil
}

// serveUDP and serveTCP end with the first error that is not temporary. After that nothing
// listens at the address by that protocol.
func (s *nameServer) serveUDP() {
	defer s.udp.Close()
	buf := make([]byte, agentproto.MaxDNSMessage)
	for {
		length, peer, err := s.udp.ReadFrom(buf)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // a client had gone before its answer
		}
		if err != nil {
			return
		}
		s.names.ask(&query{server: s.address, message: append([]byte(nil), buf[:length]...), answer: func(message []byte) {
			if len(message) > 0 {
				_, _ = s.udp.WriteTo(message, peer) // the client asks again
			}
		}})
	}
}

func (s *nameServer) serveTCP() {
	defer s.tcp.Close()
	for {
		conn, err := unixsocket.Accept(s.tcp.Accept)
		if err != nil {
			return
		}
		select {
		case s.clients <- struct{}{}:
			go s.serveClient(conn)
		default:
			_ = conn.Close()
		}
	}
}

// serveClient answers the queries of a connection, one after the other.
func (s *nameServer) serveClient(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		<-s.clients
	}()
	for {
		if err := conn.SetDeadline(time.Now().Add(nameClientTimeout)); err != nil {
			return
		}
		message, err := agentproto.ReadDNSMessage(conn)
		if err != nil {
			return
		}
		answers := make(chan []byte, 1)
		asked := s.names.ask(&query{
			server: s.address, tcp: true, message: message, answer: func(message []byte) { answers <- message },
		})
		if !asked {
			return
		}
		answer := <-answers
		if len(answer) == 0 || agentproto.WriteDNSMessage(conn, answer) != nil {
			return
		}
	}
}
