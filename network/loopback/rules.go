package loopback

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableName is the name of the table in the namespace, of the family inet.
const tableName = "runch"

// tableOwned is NFT_TABLE_F_OWNER of linux/netfilter/nf_tables.h, since Linux 5.12: the
// kernel removes the table when the socket that made it is closed.
const tableOwned = 2

// table is the netfilter table with the rules. It exists as long as its socket is open.
type table struct{ conn *nftables.Conn }

func (t *table) close() { _ = t.conn.CloseLasting() }

// addTable makes the rules in the network namespace of the calling thread. ports are
// those of our sockets.
func addTable(ports map[family]uint16) (*table, error) {
	var raw *netlink.Conn
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		raw = c
		return c.SetDeadline(time.Now().Add(netlinkTimeout))
	}))
	if err != nil {
		return nil, err
	}
	t := &table{conn}
	if err := addOwnedTable(raw); err != nil {
		t.close()
		return nil, fmt.Errorf("make the table: %w", err)
	}
	t.addRules(ports, queueExpr)
	err = conn.Flush()
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		// Some kernels can queue only by the target of iptables.
		t.addRules(ports, queueTarget)
		err = conn.Flush()
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// addOwnedTable makes the table by hand: the library cannot set its flags.
func addOwnedTable(conn *netlink.Conn) error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(tableName + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binary.BigEndian.AppendUint32(nil, tableOwned)},
	})
	if err != nil {
		return err
	}
	message := func(kind netlink.HeaderType, flags netlink.HeaderFlags, family byte, resource uint16, data []byte) netlink.Message {
		header := binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: append(header, data...)}
	}
	_, err = conn.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil),
		message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, netlink.Acknowledge|netlink.Create|netlink.Excl, unix.NFPROTO_INET, 0, attrs),
		message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil),
	})
	if err != nil {
		return err
	}
	_, err = conn.Receive()
	return err
}

// addRules makes two chains for what arrives on the loopback interface. The first queues
// the packets that begin connections, unless there is a listener in the namespace or the
// address is left alone. The second leads those with the mark toUs to our sockets.
func (t *table) addRules(ports map[family]uint16, queue func() expr.Any) {
	in := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	before := *nftables.ChainPriorityMangle - 1
	ask := t.conn.AddChain(&nftables.Chain{
		Name: "ask", Table: in, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: &before,
	})
	lead := t.conn.AddChain(&nftables.Chain{
		Name: "lead", Table: in, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	})
	for f, port := range ports {
		begins := beginsOf(f)
		t.add(in, ask, begins, leftAlone(f))
		t.add(in, ask, begins, hasSocket())
		t.add(in, ask, begins, markPorts(), []expr.Any{queue()})
		t.add(in, lead, begins, leadTo(f, port))
	}
}

func (t *table) add(in *nftables.Table, chain *nftables.Chain, parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, p := range parts {
		exprs = append(exprs, p...)
	}
	t.conn.AddRule(&nftables.Rule{Table: in, Chain: chain, Exprs: exprs})
}

// reg and reg2 are the registers in which the expressions of a rule pass values on.
const reg, reg2 = 1, 2

func equal(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data} }

// beginsOf matches the packet that begins a TCP connection of the namespace to itself.
func beginsOf(f family) []expr.Any {
	lo := make([]byte, unix.IFNAMSIZ)
	copy(lo, "lo")
	const flagsOffset, flagSYN, flags = 13, 0x02, 0x17 // FIN, SYN, RST and ACK
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		equal(lo),
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		equal([]byte{f.protocol}),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		equal([]byte{unix.IPPROTO_TCP}),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: flagsOffset, Len: 1},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{flags}, Xor: []byte{0}},
		equal([]byte{flagSYN}),
	}
}

// leftAlone lets a packet pass whose destination address is not relayed: for IPv4 one in
// 127.0.0.0/8 other than 127.0.0.1, where engines have name servers, for IPv6 a link-local
// one, fe80::/10.
func leftAlone(f family) []expr.Any {
	// The offsets of the destination's address in the header, in bytes.
	const v4Offset, v6Offset = 16, 24
	if f == v6 {
		return []expr.Any{
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: v6Offset, Len: 2},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: []byte{0, 0}},
			equal([]byte{0xfe, 0x80}),
			&expr.Verdict{Kind: expr.VerdictAccept},
		}
	}
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: v4Offset, Len: 1},
		equal([]byte{127}),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: v4Offset, Len: 4},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: []byte{127, 0, 0, 1}},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// hasSocket lets a packet pass if there is a socket for it in the namespace. Ours, which are
// transparent, do not count: one of a connection that has ended may remain for a while
// (TIME_WAIT).
func hasSocket() []expr.Any {
	return []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: reg},
		equal([]byte{0}),
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// markPorts puts the packet's two ports into its mark, so that the queue need not copy more
// than the IP header.
func markPorts() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 4},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg},
	}
}

// queueExpr queues the packet. If no process reads the queue any more, the packet passes.
func queueExpr() expr.Any {
	return &expr.Queue{Num: queueNumber, Total: 1, Flag: expr.QueueFlagBypass}
}

// queueTarget does the same by the target of iptables, with struct xt_NFQ_info_v3 of
// linux/netfilter/xt_NFQUEUE.h.
func queueTarget() expr.Any {
	const bypass = 1
	var info xt.Unknown
	for _, n := range []uint16{queueNumber, 1, bypass, 0} {
		info = binary.NativeEndian.AppendUint16(info, n)
	}
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}
}

// leadTo leads a packet with the mark toUs to our socket, and clears the mark.
func leadTo(f family, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
		equal(binary.NativeEndian.AppendUint32(nil, toUs)),
		&expr.Immediate{Register: reg, Data: binary.NativeEndian.AppendUint32(nil, toNobody)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg},
		&expr.Immediate{Register: reg, Data: f.hidden.AsSlice()},
		&expr.Immediate{Register: reg2, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.TProxy{Family: f.protocol, TableFamily: f.protocol, RegAddr: reg, RegPort: reg2},
	}
}
