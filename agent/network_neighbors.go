package agent

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/namespace"
)

// checkNeighbor parses one entry of a neighbour table.
func checkNeighbor(in *agentproto.Neighbor, links map[string]bool) (netNeighbor, error) {
	if !links[in.GetInterface()] {
		return netNeighbor{}, fmt.Errorf("interface %.32q is not one of the network's", in.GetInterface())
	}
	a, err := netip.ParseAddr(in.GetAddress())
	if err != nil || !usableAddr(a) {
		return netNeighbor{}, errors.New("address is not one of a neighbor")
	}
	mac, err := parseMAC(in.GetMac())
	if err != nil {
		return netNeighbor{}, err
	}
	if in.GetState() != unix.NUD_PERMANENT {
		return netNeighbor{}, fmt.Errorf("state %#x is not permanent", in.GetState())
	}
	if in.GetFlags()&^unix.NTF_ROUTER != 0 {
		return netNeighbor{}, fmt.Errorf("flags %#x cannot be set", in.GetFlags())
	}
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	return netNeighbor{link: in.GetInterface(), neigh: netlink.Neigh{
		Family:       family,
		State:        unix.NUD_PERMANENT,
		Flags:        int(in.GetFlags()),
		IP:           a.AsSlice(),
		HardwareAddr: mac,
	}}, nil
}

// setNeighbors gives the plan's interfaces the plan's permanent neighbour entries
// and removes all other permanent ones.
func (p *netPlan) setNeighbors(h *netlink.Handle) error {
	index := p.indexes()
	want := map[string]bool{}
	for _, n := range p.neighbors {
		want[n.link+" "+n.neigh.IP.String()] = true
	}
	for _, iface := range p.interfaces {
		have, err := namespace.Dump(func() ([]netlink.Neigh, error) { return h.NeighList(iface.index, netlink.FAMILY_ALL) })
		if err != nil {
			return fmt.Errorf("list neighbors of %s: %w", iface.name, err)
		}
		for i := range have {
			n := &have[i]
			if n.State&unix.NUD_PERMANENT == 0 || want[iface.name+" "+n.IP.String()] {
				continue
			}
			if err := h.NeighDel(n); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("delete neighbor %s of %s: %w", n.IP, iface.name, err)
			}
		}
	}
	for _, n := range p.neighbors {
		e := n.neigh
		e.LinkIndex = index[n.link]
		if err := h.NeighSet(&e); err != nil {
			return fmt.Errorf("add neighbor %s of %s: %w", e.IP, n.link, err)
		}
	}
	return nil
}
