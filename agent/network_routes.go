package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/namespace"
)

// settableRouteFlags are the flags that a route is made with. The kernel's others
// tell its state.
const settableRouteFlags = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

// checkRoute parses one route; links are the names of the interfaces.
func checkRoute(in *agentproto.Route, links map[string]bool) (netRoute, error) {
	bits := 32
	if in.GetFamily() == unix.AF_INET6 {
		bits = 128
	} else if in.GetFamily() != unix.AF_INET {
		return netRoute{}, fmt.Errorf("family %d is neither IPv4 nor IPv6", in.GetFamily())
	}
	if err := checkRouteNumbers(in); err != nil {
		return netRoute{}, err
	}
	r := netlink.Route{
		Family:   int(in.GetFamily()),
		Scope:    netlink.Scope(in.GetScope()), // #nosec G115 -- checkRouteNumbers refuses more than RT_SCOPE_NOWHERE, 255
		Flags:    int(in.GetFlags()),
		MTU:      int(in.GetMtu()),
		Priority: int(in.GetMetric()),
		Protocol: netlink.RouteProtocol(in.GetProtocol()),
		Table:    unix.RT_TABLE_MAIN,
		Type:     unix.RTN_UNICAST,
		// The default route has to be spelled out: a missing
		// destination is an error to the library.
		Dst: &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)},
	}
	if in.GetTable() != 0 {
		r.Table = int(in.GetTable())
	}
	if in.GetType() != 0 {
		r.Type = int(in.GetType())
	}
	if (r.Type == unix.RTN_UNICAST) != links[in.GetInterface()] {
		return netRoute{}, fmt.Errorf("interface %.32q is not one of the network's", in.GetInterface())
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

// checkRouteNumbers checks the fields that are numbers of the kernel's.
func checkRouteNumbers(in *agentproto.Route) error {
	switch {
	case in.GetScope() > unix.RT_SCOPE_NOWHERE:
		return fmt.Errorf("scope %d is out of range", in.GetScope())
	case in.GetFlags()&^settableRouteFlags != 0:
		return fmt.Errorf("flags %#x cannot be set", in.GetFlags())
	case in.GetMtu() > maxMTU:
		return fmt.Errorf("mtu %d is out of range", in.GetMtu())
	case in.GetProtocol() > 255 || in.GetProtocol() == unix.RTPROT_KERNEL:
		return fmt.Errorf("protocol %d is not one to add routes with", in.GetProtocol())
	case in.GetTable() == unix.RT_TABLE_LOCAL:
		return errors.New("the local table is the kernel's")
	}
	switch in.GetType() {
	case 0, unix.RTN_UNICAST:
		return nil
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT:
		if in.GetGateway() == "" {
			return nil
		}
	}
	return fmt.Errorf("type %d cannot be set", in.GetType())
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

// setRoutes adds the plan's routes, and deletes all others over the plan's interfaces and
// all other blackhole, unreachable and prohibit routes, except the kernel's own.
func (p *netPlan) setRoutes(h *netlink.Handle) error {
	index := p.indexes()
	have, err := namespace.Dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for i := range have {
		r := &have[i]
		if !managed(r, index) || p.wantsRoute(r, index) {
			continue
		}
		if r.Dst == nil {
			continue // a default route always has one spelled out
		}
		if err := h.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete route %s: %w", r.Dst, err)
		}
	}
	for _, want := range p.routes {
		r := want.route
		r.LinkIndex = index[want.link]
		if err := h.RouteReplace(&r); err != nil {
			return fmt.Errorf("add route %s over %q: %w", r.Dst, want.link, err)
		}
	}
	return nil
}

// managed says whether a route is the plan's to keep or to delete.
func managed(r *netlink.Route, index linkIndexes) bool {
	if r.Protocol == unix.RTPROT_KERNEL || r.Table == unix.RT_TABLE_LOCAL {
		return false
	}
	switch r.Type {
	case unix.RTN_UNICAST:
		return index.has(r.LinkIndex)
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT:
		return true
	}
	return false
}

// wantsRoute says whether have is one of the plan's routes.
func (p *netPlan) wantsRoute(have *netlink.Route, index linkIndexes) bool {
	for _, want := range p.routes {
		w := &want.route
		if (w.Type != unix.RTN_UNICAST || index[want.link] == have.LinkIndex) &&
			w.Family == have.Family && w.Type == have.Type && w.Table == have.Table && w.Priority == have.Priority &&
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
