package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// settableRouteFlags are the flags that belong to a route's wish, not to its
// state.
const settableRouteFlags = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

// checkRoute parses one route; links are the names of the interfaces.
func checkRoute(in *agentproto.Route, links map[string]bool) (netRoute, error) {
	if !links[in.GetInterface()] {
		return netRoute{}, fmt.Errorf("interface %.32q is not one of the network's", in.GetInterface())
	}
	bits := 32
	if in.GetFamily() == unix.AF_INET6 {
		bits = 128
	} else if in.GetFamily() != unix.AF_INET {
		return netRoute{}, fmt.Errorf("family %d is neither IPv4 nor IPv6", in.GetFamily())
	}
	if in.GetScope() > unix.RT_SCOPE_NOWHERE {
		return netRoute{}, fmt.Errorf("scope %d is out of range", in.GetScope())
	}
	if in.GetFlags()&^settableRouteFlags != 0 {
		return netRoute{}, fmt.Errorf("flags %#x cannot be set", in.GetFlags())
	}
	if in.GetMtu() > maxMTU {
		return netRoute{}, fmt.Errorf("mtu %d is out of range", in.GetMtu())
	}
	r := netlink.Route{
		Family:   int(in.GetFamily()),
		Scope:    netlink.Scope(in.GetScope()),
		Flags:    int(in.GetFlags()),
		MTU:      int(in.GetMtu()),
		Priority: int(in.GetMetric()),
		Protocol: unix.RTPROT_BOOT,
		Table:    unix.RT_TABLE_MAIN,
		Type:     unix.RTN_UNICAST,
		// The default route has to be spelled out: a missing
		// destination is an error to the library.
		Dst: &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)},
	}
	if err := parseDestination(&r, in.GetDestination(), bits); err != nil {
		return netRoute{}, err
	}
	if err := parseGateway(&r, in.GetGateway(), bits); err != nil {
		return netRoute{}, err
	}
	if in.GetSource() != "" {
		a, err := netip.ParseAddr(in.GetSource())
		if err != nil || !usableAddr(a) || a.BitLen() != bits {
			return netRoute{}, fmt.Errorf("source %.64q is not an address of the family", in.GetSource())
		}
		r.Src = a.AsSlice()
	}
	return netRoute{link: in.GetInterface(), route: r}, nil
}

// parseDestination sets the route's prefix; empty is the default route.
func parseDestination(r *netlink.Route, text string, bits int) error {
	if text == "" {
		return nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().BitLen() != bits || p.Addr().Is4In6() || p.Masked() != p {
		return errors.New("destination is not a prefix of the family")
	}
	r.Dst = &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), bits)}
	return nil
}

// parseGateway sets the next hop; an IPv4 route may have one of IPv6
// (RFC 8950).
func parseGateway(r *netlink.Route, text string, bits int) error {
	if text == "" {
		return nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !usableAddr(a) || (bits == 128 && a.Is4()) {
		return fmt.Errorf("gateway %.64q is not an address of the family", text)
	}
	if bits == 32 && a.Is6() {
		r.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: a.AsSlice()}
		return nil
	}
	r.Gw = a.AsSlice()
	return nil
}

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

// setRoutes makes the routes over the plan's interfaces the plan's and no
// others, the kernel's own excepted.
func (p *netPlan) setRoutes(h *netlink.Handle) error {
	index := p.indexes()
	have, err := dumpLinks(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, 0)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for i := range have {
		r := &have[i]
		if !index.has(r.LinkIndex) || r.Protocol == unix.RTPROT_KERNEL || p.wantsRoute(r, index) {
			continue
		}
		if err := h.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete route %s: %w", r.Dst, err)
		}
	}
	for _, want := range p.routes {
		r := want.route
		r.LinkIndex = index[want.link]
		if err := h.RouteReplace(&r); err != nil {
			return fmt.Errorf("add route %s over %s: %w", r.Dst, want.link, err)
		}
	}
	return nil
}

// wantsRoute says whether have is one of the plan's routes.
func (p *netPlan) wantsRoute(have *netlink.Route, index linkIndexes) bool {
	for _, want := range p.routes {
		w := &want.route
		if index[want.link] == have.LinkIndex && w.Family == have.Family && w.Priority == have.Priority &&
			sameNet(w.Dst, have.Dst) && w.Gw.Equal(have.Gw) && w.Src.Equal(have.Src) {
			return true
		}
	}
	return false
}

// sameNet compares two prefixes; have may be nil for the default route.
func sameNet(want, have *net.IPNet) bool {
	if have == nil {
		ones, _ := want.Mask.Size()
		return ones == 0
	}
	return want.String() == have.String()
}

// setNeighbors makes the permanent entries of the plan's interfaces the plan's
// and no others.
func (p *netPlan) setNeighbors(h *netlink.Handle) error {
	index := p.indexes()
	want := map[string]bool{}
	for _, n := range p.neighbors {
		want[n.link+" "+n.neigh.IP.String()] = true
	}
	for _, iface := range p.interfaces {
		have, err := dumpLinks(func() ([]netlink.Neigh, error) { return h.NeighList(iface.index, netlink.FAMILY_ALL) })
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

// linkIndexes maps names of interfaces to the kernel's numbers.
type linkIndexes map[string]int

// indexes is where the plan's interfaces are now.
func (p *netPlan) indexes() linkIndexes {
	m := linkIndexes{}
	for _, i := range p.interfaces {
		m[i.name] = i.index
	}
	return m
}

// has says whether index is one of the map's.
func (m linkIndexes) has(index int) bool {
	for _, i := range m {
		if i == index {
			return true
		}
	}
	return false
}
