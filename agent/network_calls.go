package agent

import (
	"context"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/namespace"
)

// SetNetwork makes the containers' interfaces what the host says now.
func (a *Agent) SetNetwork(ctx context.Context, req *agentproto.SetNetworkRequest) (*agentproto.SetNetworkResponse, error) {
	if err := a.configuration.ready(); err != nil {
		return nil, err
	}
	if req.GetNetwork() == nil {
		return nil, invalidf("network: missing")
	}
	if err := a.configuration.changeNetwork(ctx, req.GetNetwork()); err != nil {
		return nil, err
	}
	return &agentproto.SetNetworkResponse{}, nil
}

// Interfaces lists the NICs in the containers' network as they are.
func (a *Agent) Interfaces(context.Context, *agentproto.InterfacesRequest) (*agentproto.InterfacesResponse, error) {
	list, err := listInterfaces(netScope{target: agentproto.GuestNetNS, isNIC: isPhysical})
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return &agentproto.InterfacesResponse{Interfaces: list}, nil
}

// listInterfaces describes the NICs that are in the scope's target namespace.
func listInterfaces(s netScope) ([]*agentproto.Interface, error) {
	var list []*agentproto.Interface
	err := inNetNS(s.target, func(h *netlink.Handle) error {
		nics, err := s.nics(h)
		if err != nil {
			return err
		}
		for _, nic := range nics[:min(len(nics), maxInterfaces)] {
			addrs, err := namespace.Dump(func() ([]netlink.Addr, error) { return h.AddrList(nic, netlink.FAMILY_ALL) })
			if err != nil {
				return fmt.Errorf("list addresses of %s: %w", nic.Attrs().Name, err)
			}
			list = append(list, describe(nic, addrs))
		}
		return nil
	})
	return list, err
}

// describe is the message for a NIC.
func describe(nic netlink.Link, addrs []netlink.Addr) *agentproto.Interface {
	a := nic.Attrs()
	iface := &agentproto.Interface{
		Name:  strings.ToValidUTF8(a.Name, "?"),
		Mac:   a.HardwareAddr.String(),
		Mtu:   uint32(max(a.MTU, 0)), // #nosec G115 -- not negative
		NoArp: a.RawFlags&unix.IFF_NOARP != 0,
	}
	for _, addr := range addrs[:min(len(addrs), maxAddresses)] {
		iface.Addresses = append(iface.Addresses, addr.IPNet.String())
	}
	return iface
}
