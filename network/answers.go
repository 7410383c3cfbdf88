package network

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// answersName is the name of the filter that addAnswers adds.
const answersName = "runch-answers"

// The priorities of a link's filters: the kernel asks the lowest one first.
const (
	answersPriority = iota + 1
	redirectPriority
)

// addAnswers adds a filter to a link whose frames are redirected to a tap, so that the
// namespace's own sockets get answers over the link. A packet with the addresses and
// ports of a connected socket in the namespace goes to that socket and not to the tap.
// ARP replies and neighbour advertisements go to both. addAnswers fails on kernels without
// BPF filters for traffic control, and in user namespaces.
func addAnswers(ctx context.Context, h *netlink.Handle, link, tap int) error {
	program, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Name: "runch_answers", Type: ebpf.SchedCLS, Instructions: answers(tap),
	}, ebpf.ProgramOptions{LogDisabled: true})
	if err != nil {
		return fmt.Errorf("load the filter of answers: %w", err)
	}
	defer program.Close() // the filter keeps its own reference
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: link,
			Parent:    netlink.MakeHandle(0xffff, 0),
			Priority:  answersPriority,
			Protocol:  unix.ETH_P_ALL,
		},
		Fd: program.FD(), Name: answersName, DirectAction: true,
	}
	if err := retryBusy(ctx, func() error { return h.FilterAdd(filter) }); err != nil {
		return fmt.Errorf("add the filter of answers to link %d: %w", link, err)
	}
	return nil
}

// isAnswers reports whether addAnswers added the filter.
func isAnswers(f netlink.Filter) bool {
	filter, ok := f.(*netlink.BpfFilter)
	return ok && filter.Name == answersName
}

// The offsets of fields in struct __sk_buff and struct bpf_sock of linux/bpf.h, in bytes.
const (
	skbProtocol    = 16
	skbVLANPresent = 20
	skbData        = 76
	skbDataEnd     = 80
	sockDstPort    = 48
)

// The offsets of fields in a frame with an Ethernet header and no IPv4 options, in bytes.
const (
	arpOperation = 20
	arpEnd       = arpOperation + 2

	ip4Version  = 14
	ip4Fragment = 20
	ip4Protocol = 23
	ip4Tuple    = 26 // both addresses, then both ports
	ip4Dst      = 30
	ip4Ports    = 34
	ip4End      = ip4Ports + 4

	ip6Protocol = 20
	ip6Tuple    = 22
	ip6Ports    = 54
	ip6End      = ip6Ports + 4
)

const (
	arpReply                  = 2
	ip4NoOptions              = 0x45
	ip4IsFragment             = 0x3fff // the flag for more fragments, or an offset
	neighbourAdvertisement    = 136
	loopbackNet               = 127
	currentNamespace          = -1
	pass                      = 0  // TC_ACT_OK: to the namespace's stack
	others                    = -1 // TC_ACT_UNSPEC: on to the next filter, the redirect
	labelOthers, labelPass    = "others", "pass"
	labelIP6, labelARP        = "ip6", "arp"
	labelLookUp, labelTCP     = "look up", "tcp"
	labelFound, labelBoth     = "found", "both"
	skb, packet, end, payload = asm.R6, asm.R7, asm.R8, asm.R9
)

// answers is the filter's program; tap is the tap's index. The program compares each
// offset with the frame's end before it reads there, as the kernel's verifier demands.
func answers(tap int) asm.Instructions {
	var program asm.Instructions
	for _, part := range []asm.Instructions{begin(), ip4(), ip6(), arp(), lookUp(), verdicts(tap)} {
		program = append(program, part...)
	}
	return program
}

// begin loads the frame's bounds and branches by its protocol. A frame with a VLAN tag is
// always the guest's: the namespace has no sockets in VLANs.
func begin() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(skb, asm.R1),
		asm.LoadMem(asm.R1, skb, skbVLANPresent, asm.Word),
		asm.JNE.Imm(asm.R1, 0, labelOthers),
		asm.LoadMem(packet, skb, skbData, asm.Word),
		asm.LoadMem(end, skb, skbDataEnd, asm.Word),
		asm.LoadMem(asm.R1, skb, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R1, network16(unix.ETH_P_ARP), labelARP),
		asm.JEq.Imm(asm.R1, network16(unix.ETH_P_IPV6), labelIP6),
		asm.JNE.Imm(asm.R1, network16(unix.ETH_P_IP), labelOthers),
	}
}

// holds leaves a frame that is shorter than length to the next filter.
func holds(length int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, packet),
		asm.Add.Imm(asm.R1, length),
		asm.JGT.Reg(asm.R1, end, labelOthers),
	}
}

// ip4 finds the addresses and ports of an IPv4 packet. It leaves packets with options,
// fragments, which need not have ports, and packets to the loopback network, whose
// addresses no host on a link may use, to the next filter.
func ip4() asm.Instructions {
	return append(holds(ip4End),
		asm.LoadMem(asm.R1, packet, ip4Version, asm.Byte),
		asm.JNE.Imm(asm.R1, ip4NoOptions, labelOthers),
		asm.LoadMem(asm.R1, packet, ip4Fragment, asm.Half),
		asm.And.Imm(asm.R1, network16(ip4IsFragment)),
		asm.JNE.Imm(asm.R1, 0, labelOthers),
		asm.LoadMem(asm.R1, packet, ip4Dst, asm.Byte),
		asm.JEq.Imm(asm.R1, loopbackNet, labelOthers),
		asm.LoadMem(payload, packet, ip4Protocol, asm.Byte),
		asm.Mov.Reg(asm.R2, packet),
		asm.Add.Imm(asm.R2, ip4Tuple),
		asm.Mov.Imm(asm.R3, ip4End-ip4Tuple),
		asm.Ja.Label(labelLookUp),
	)
}

// ip6 does the same for IPv6. It supports no extension headers: no answer that matters
// has any.
func ip6() asm.Instructions {
	program := holds(ip6End)
	program[0] = program[0].WithSymbol(labelIP6)
	return append(program,
		asm.LoadMem(payload, packet, ip6Protocol, asm.Byte),
		asm.Mov.Reg(asm.R2, packet),
		asm.Add.Imm(asm.R2, ip6Tuple),
		asm.Mov.Imm(asm.R3, ip6End-ip6Tuple),
		asm.JNE.Imm(payload, unix.IPPROTO_ICMPV6, labelLookUp),
		asm.LoadMem(asm.R1, packet, ip6Ports, asm.Byte),
		asm.JEq.Imm(asm.R1, neighbourAdvertisement, labelBoth),
		asm.Ja.Label(labelOthers),
	)
}

func arp() asm.Instructions {
	program := holds(arpEnd)
	program[0] = program[0].WithSymbol(labelARP)
	return append(program,
		asm.LoadMem(asm.R1, packet, arpOperation, asm.Half),
		asm.JEq.Imm(asm.R1, network16(arpReply), labelBoth),
		asm.Ja.Label(labelOthers),
	)
}

// lookUp asks the kernel for a socket with the addresses and ports at R2, whose length is
// in R3. An unconnected socket, such as a listener, does not count: its remote port is 0.
func lookUp() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, skb).WithSymbol(labelLookUp),
		asm.Mov.Imm(asm.R4, currentNamespace),
		asm.Mov.Imm(asm.R5, 0),
		asm.JEq.Imm(payload, unix.IPPROTO_TCP, labelTCP),
		asm.JNE.Imm(payload, unix.IPPROTO_UDP, labelOthers),
		asm.FnSkLookupUdp.Call(),
		asm.Ja.Label(labelFound),
		asm.FnSkLookupTcp.Call().WithSymbol(labelTCP),
		asm.JEq.Imm(asm.R0, 0, labelOthers).WithSymbol(labelFound),
		asm.LoadMem(payload, asm.R0, sockDstPort, asm.Half),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.FnSkRelease.Call(),
		asm.JEq.Imm(payload, 0, labelOthers),
		asm.Ja.Label(labelPass),
	}
}

// verdicts are the ends of the program, one for each verdict.
func verdicts(tap int) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R0, others).WithSymbol(labelOthers),
		asm.Return(),
		asm.Mov.Reg(asm.R1, skb).WithSymbol(labelBoth),
		asm.Mov.Imm(asm.R2, int32(tap)), // #nosec G115 -- the kernel's index of a link
		asm.Mov.Imm(asm.R3, 0),
		asm.FnCloneRedirect.Call(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol(labelPass),
		asm.Return(),
	}
}

// network16 is what a program on this CPU reads for a 16-bit number in network byte order.
func network16(n uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n)))
}
