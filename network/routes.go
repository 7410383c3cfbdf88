package network

import (
	"fmt"
	"net"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// routeFlags are the flags of a route that are set by whoever adds it; the
// others tell of its state.
const routeFlags = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

// routes takes the main table's routes over the mirrored links. The kernel's
// own are left out: the guest's kernel makes them from the addresses. Routes
// without a gateway come first, as those with one need them to be accepted.
func (s *scanner) routes() error {
	list, err := dump(func() ([]netlink.Route, error) {
		return s.handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, 0)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for i := range list {
		r, err := s.route(&list[i])
		if err != nil {
			return err
		}
		if r != nil {
			s.network.Routes = append(s.network.Routes, r)
		}
	}
	sort.SliceStable(s.network.Routes, func(i, j int) bool {
		return s.network.Routes[i].GetGateway() == "" && s.network.Routes[j].GetGateway() != ""
	})
	return nil
}

// route is the message for r, nil if the guest has no use for it.
func (s *scanner) route(r *netlink.Route) (*agentproto.Route, error) {
	name, ok := s.names[r.LinkIndex]
	if r.Protocol == unix.RTPROT_KERNEL {
		return nil, nil //nolint:nilnil // no route is no error
	}
	if len(r.MultiPath) > 0 {
		return nil, fmt.Errorf("route %s: multipath routes cannot be mirrored", destination(r))
	}
	if !ok || r.Type != unix.RTN_UNICAST {
		return nil, nil //nolint:nilnil // see above
	}
	out := &agentproto.Route{
		Interface: name,
		Scope:     uint32(r.Scope),
		Flags:     uint32(r.Flags) & routeFlags, //nolint:gosec // a mask of two bits
		Mtu:       uint32(max(r.MTU, 0)),        //nolint:gosec // not negative
		Metric:    uint32(r.Priority),           //nolint:gosec // the kernel's u32
		Family:    uint32(r.Family),             //nolint:gosec // AF_INET or AF_INET6
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
		out.Gateway = net.IP(via.Addr).String()
	}
	if r.Src != nil {
		out.Source = r.Src.String()
	}
	return out, nil
}

// destination names a route in messages.
func destination(r *netlink.Route) string {
	if r.Dst == nil {
		return "default"
	}
	return r.Dst.String()
}
