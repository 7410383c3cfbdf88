package loopback

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
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
	copyMeta        = 1

	attrPacket  = 1
	attrVerdict = 2
	attrMark    = 3

	verdictDrop   = 0
	verdictAccept = 1

	// familyHeader is the length of struct nfgenmsg.
	familyHeader = 4
)

const (
	// queueNumber is that of our queue. Each network namespace has its own queues.
	queueNumber = 0x7275
	// maxQueued bounds the packets that the kernel keeps for us. Others are dropped, and
	// come again.
	maxQueued = 1024
	// netlinkTimeout bounds the wait for the kernel's answer to a change, for which it may
	// have to load modules.
	netlinkTimeout = 30 * time.Second
)

// What the mark of a packet is when it leaves the queue.
const (
	toNobody uint32 = 0
	// toUs has the rules lead it to our socket.
	toUs uint32 = 0x72756e63
)

// packet is one that waits in the queue, the first of a connection.
type packet struct {
	id     uint32
	client client
}

// queue is one of netfilter's, of the network namespace that it was opened in.
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

// configure binds the socket to the queue, of whose packets it then gets the mark and
// not the content.
func (q *queue) configure(number uint16) error {
	if err := q.conn.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return err
	}
	// Whoever overruns us has packets dropped, and no error is told for it.
	if err := q.conn.SetOption(netlink.NoENOBUFS, true); err != nil {
		return err
	}
	for _, attr := range []netlink.Attribute{
		{Type: configCommand, Data: []byte{commandBind, 0, 0, 0}},
		{Type: configParams, Data: []byte{0, 0, 0, 0, copyMeta}},
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

// receive waits for packets. An error is the queue's end.
func (q *queue) receive() ([]packet, error) {
	messages, err := q.conn.Receive()
	// It is told of a verdict that came for a packet which had gone.
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

// parsePacket reads the attributes of a packet. The mark holds its ports, as the rules
// have set it.
func parsePacket(data []byte) (packet, error) {
	attrs, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return packet{}, err
	}
	var p packet
	for attrs.Next() {
		b := attrs.Bytes()
		switch {
		case attrs.Type() == attrPacket && len(b) >= 6:
			p.id = binary.BigEndian.Uint32(b)
			p.client.family = v4
			if binary.BigEndian.Uint16(b[4:]) == unix.ETH_P_IPV6 {
				p.client.family = v6
			}
		case attrs.Type() == attrMark && len(b) == 4:
			// The kernel's number is in the host's order, of bytes that are in the network's.
			var ports [4]byte
			binary.NativeEndian.PutUint32(ports[:], binary.BigEndian.Uint32(b))
			p.client.from, p.client.to = binary.BigEndian.Uint16(ports[:]), binary.BigEndian.Uint16(ports[2:])
		}
	}
	if err := attrs.Err(); err != nil {
		return packet{}, fmt.Errorf("read a queued packet: %w", err)
	}
	return p, nil
}

// answer lets a packet go on with this mark.
func (q *queue) answer(id, mark uint32) { q.decide(id, verdictAccept, mark) }

// drop makes a packet disappear.
func (q *queue) drop(id uint32) { q.decide(id, verdictDrop, toNobody) }

// decide sends a verdict. Where it cannot be sent the queue has ended, and with it what
// waited there.
func (q *queue) decide(id, verdict, mark uint32) {
	m, err := queueMessage(queueVerdict, 0, queueNumber,
		netlink.Attribute{Type: attrVerdict, Data: binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, verdict), id)},
		netlink.Attribute{Type: attrMark, Data: binary.BigEndian.AppendUint32(nil, mark)},
	)
	if err == nil {
		_, _ = q.conn.Send(m)
	}
}
