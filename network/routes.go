package network

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/namespace"
)

// ErrUnsupportedRoute says that a route or a routing rule of the namespace cannot be
// mirrored into a guest.
var ErrUnsupportedRoute = errors.New("cannot be mirrored into a VM")

// routeFlags are the flags that a route can be added with. The kernel sets the others
// itself, to show the route's state.
const routeFlags = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

// routes lists the routes over the mirrored links and the blackhole, unreachable and
// prohibit routes, of all tables but the local one. It leaves out routes that the kernel
// creates: the guest's kernel creates its own from the addresses. Routes without a gateway
// come first, because the kernel accepts a route only if its gateway is reachable.
func (s *scanner) routes() error {
	list, err := namespace.Dump(func() ([]netlink.Route, error) {
		return s.handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for i := range list {
		if !s.wanted(&list[i]) {
			continue
		}
		r, err := s.route(&list[i])
		if err != nil {
			return err
		}
		s.network.Routes = append(s.network.Routes, r)
	}
	sort.SliceStable(s.network.Routes, func(i, j int) bool {
		return s.network.Routes[i].GetGateway() == "" && s.network.Routes[j].GetGateway() != ""
	})
	return nil
}

// wanted reports whether the guest needs a route.
func (s *scanner) wanted(r *netlink.Route) bool {
	if r.Family != unix.AF_INET && r.Family != unix.AF_INET6 ||
		r.Protocol == unix.RTPROT_KERNEL || r.Table == unix.RT_TABLE_LOCAL {
		return false
	}
	switch r.Type {
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT:
		return true
	case unix.RTN_UNICAST:
		return s.has(r.LinkIndex) || slices.ContainsFunc(r.MultiPath, func(hop *netlink.NexthopInfo) bool { return s.has(hop.LinkIndex) })
	}
	return false
}

// has reports whether the guest has a NIC for the link with this index.
func (s *scanner) has(index int) bool {
	_, ok := s.names[index]
	return ok
}

// route is the message for r.
func (s *scanner) route(r *netlink.Route) (*agentproto.Route, error) {
	if len(r.MultiPath) > 0 {
		return nil, fmt.Errorf("route %s has several next hops: %w", destination(r), ErrUnsupportedRoute)
	}
	// #nosec G115 -- small numbers of the kernel's, none below zero
	out := &agentproto.Route{
		Scope:    uint32(r.Scope),
		Flags:    uint32(r.Flags) & routeFlags,
		Mtu:      uint32(r.MTU),
		Metric:   uint32(r.Priority),
		Family:   uint32(r.Family),
		Protocol: uint32(r.Protocol),
		Type:     uint32(r.Type),
		Table:    uint32(r.Table),
	}
	// Blackhole and similar routes of IPv6 have the loopback as their interface.
	if r.Type == unix.RTN_UNICAST {
		out.Interface = s.names[r.LinkIndex]
	}
	if r.Dst != nil {
		if ones, _ := r.Dst.Mask.Size(); ones > 0 || !r.Dst.IP.IsUnspecified() {
			out.Destination = r.Dst.String()
		}
	}
	if r.Gw != nil {
		out.Gateway = r.Gw.String()
	}
	if via, ok := r.Via.(*netlink.Via); ok {
		out.Gateway = via.Addr.String()
	}
	if r.Src != nil {
		out.Source = r.Src.String()
	}
	return out, nil
}

// destination is how a route is named in errors.
func destination(r *netlink.Route) string {
	if r.Dst == nil {
		return "default"
	}
	return r.Dst.String()
}
