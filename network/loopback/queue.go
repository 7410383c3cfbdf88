package loopback

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// The protocol of netfilter's queues, linux/netfilter/nfnetlink_queue.h.
const (
	queuePacket  = unix.NFNL_SUBSYS_QUEUE << 8
	queueVerdict = unix.NFNL_SUBSYS_QUEUE<<8 | 1
	queueConfig  = unix.NFNL_SUBSYS_QUEUE<<8 | 2

	configCommand   = 1
	configParams    = 2
	configMaxLength = 3
	commandBind     = 1
	copyPacket      = 2

	attrPacket  = 1
	attrVerdict = 2
	attrMark    = 3
	attrPayload = 10

	verdictDrop   = 0
	verdictAccept = 1

	// familyHeader is the length of struct nfgenmsg.
	familyHeader = 4
)

const (
	// queueNumber is our queue's number. Each network namespace has its own queues.
	queueNumber = 0x7275
	// maxQueued bounds the packets that the kernel keeps for us. It drops more, and their
	// senders retransmit them.
	maxQueued = 1024
	// maxIPHeader is how much the kernel copies of each packet, in bytes: the longest IPv4
	// header, and more than the fixed IPv6 header.
	maxIPHeader = 60
	// netlinkTimeout bounds the wait for the kernel's answer to a change, for which it may
	// have to load modules.
	netlinkTimeout = 30 * time.Second
)

// The marks with which packets leave the queue.
const (
	// toNobody lets a packet go on, and the kernel refuses the connection.
	toNobody uint32 = 0
	// toUs makes the rules lead a packet to our socket.
	toUs uint32 = 0x72756e63
)

// packet is one that waits in the queue, the first of a connection.
type packet struct {
	id     uint32
	client client
}

// queue is a netfilter queue of the network namespace that it was opened in.
type queue struct{ conn *netlink.Conn }

func openQueue(number uint16) (*queue, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	q := &queue{conn}
	if err := q.configure(number); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

// configure binds the socket to the queue. The socket then gets each packet's mark and
// first maxIPHeader bytes.
func (q *queue) configure(number uint16) error {
	if err := q.conn.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return err
	}
	// Packets that overrun the socket's buffer are dropped without ENOBUFS, which would end
	// the queue's reader.
	if err := q.conn.SetOption(netlink.NoENOBUFS, true); err != nil {
		return err
	}
	for _, attr := range []netlink.Attribute{
		{Type: configCommand, Data: []byte{commandBind, 0, 0, 0}},
		{Type: configParams, Data: append(binary.BigEndian.AppendUint32(nil, maxIPHeader), copyPacket)},
		{Type: configMaxLength, Data: binary.BigEndian.AppendUint32(nil, maxQueued)},
	} {
		m, err := queueMessage(queueConfig, netlink.Acknowledge, number, attr)
		if err != nil {
			return err
		}
		if _, err := q.conn.Execute(m); err != nil {
			return err
		}
	}
	return q.conn.SetDeadline(time.Time{})
}

func queueMessage(kind netlink.HeaderType, flags netlink.HeaderFlags, number uint16, attrs ...netlink.Attribute) (netlink.Message, error) {
	data, err := netlink.MarshalAttributes(attrs)
	header := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, number)
	return netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | flags},
		Data:   append(header, data...),
	}, err
}

func (q *queue) close() { _ = q.conn.Close() }

// receive waits for packets. After an error the queue cannot be used any more.
func (q *queue) receive() ([]packet, error) {
	messages, err := q.conn.Receive()
	// ENOENT is the answer to a verdict on a packet that was not in the queue any more.
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	var packets []packet
	for _, m := range messages {
		if m.Header.Type != queuePacket || len(m.Data) < familyHeader {
			continue
		}
		p, err := parsePacket(m.Data[familyHeader:])
		if err != nil {
			return nil, err
		}
		packets = append(packets, p)
	}
	return packets, nil
}

// parsePacket reads the attributes of a packet. Its mark holds its ports: see markPorts.
func parsePacket(data []byte) (packet, error) {
	attrs, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return packet{}, err
	}
	var p packet
	var protocol uint16
	var ports [4]byte
	var header []byte
	for attrs.Next() {
		b := attrs.Bytes()
		switch {
		case attrs.Type() == attrPacket && len(b) >= 6:
			p.id, protocol = binary.BigEndian.Uint32(b), binary.BigEndian.Uint16(b[4:])
		case attrs.Type() == attrMark && len(b) == 4:
			// The rules stored the ports' four bytes in the mark, a number of the host's byte
			// order. The queue sends that number as big-endian.
			binary.NativeEndian.PutUint32(ports[:], binary.BigEndian.Uint32(b))
		case attrs.Type() == attrPayload:
			header = b
		}
	}
	if err := attrs.Err(); err != nil {
		return packet{}, fmt.Errorf("read a queued packet: %w", err)
	}
	from, to, err := addresses(protocol, header)
	if err != nil {
		return packet{}, fmt.Errorf("read a queued packet's addresses: %w", err)
	}
	p.client = client{
		from: netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports[:])),
		to:   netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:])),
	}
	return p, nil
}

// addresses returns the source and destination of a packet with this IP header.
func addresses(protocol uint16, header []byte) (from, to netip.Addr, err error) {
	if protocol == unix.ETH_P_IPV6 {
		h, err := ipv6.ParseHeader(header)
		if err != nil {
			return from, to, err
		}
		from, _ = netip.AddrFromSlice(h.Src)
		to, _ = netip.AddrFromSlice(h.Dst)
		return from, to, nil
	}
	h, err := ipv4.ParseHeader(header)
	if err != nil {
		return from, to, err
	}
	from, _ = netip.AddrFromSlice(h.Src)
	to, _ = netip.AddrFromSlice(h.Dst)
	return from.Unmap(), to.Unmap(), nil
}

// answer lets a packet go on with a mark: toUs or toNobody.
func (q *queue) answer(id, mark uint32) { q.decide(id, verdictAccept, mark) }

// drop makes a packet disappear.
func (q *queue) drop(id uint32) { q.decide(id, verdictDrop, toNobody) }

// decide sends a verdict. It ignores an error: the queue has ended then, and its packets
// with it.
func (q *queue) decide(id, verdict, mark uint32) {
	m, err := queueMessage(queueVerdict, 0, queueNumber,
		netlink.Attribute{Type: attrVerdict, Data: binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, verdict), id)},
		netlink.Attribute{Type: attrMark, Data: binary.BigEndian.AppendUint32(nil, mark)},
	)
	if err == nil {
		_, _ = q.conn.Send(m)
	}
}
