package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/namespace"
)

// ErrUnsupportedLink says that a link in the namespace is in use but carries
// no Ethernet frames (WireGuard, tun, IP tunnels), so a VM cannot have it.
var ErrUnsupportedLink = errors.New("link carries no Ethernet frames and cannot be given to a VM")

// Link is an interface of the namespace that the guest gets a NIC for.
type Link struct {
	// Name and Index are the link's in its namespace. The index stays when
	// the link is renamed.
	Name  string
	Index int
	// Kind is the kernel's word for the driver ("veth", "macvlan", …).
	Kind string
	// MAC is the hardware address, the guest NIC's too.
	MAC net.HardwareAddr
	// MTU is in bytes, without the Ethernet header.
	MTU int
}

// Scan lists the links worth having in the guest of the namespace at nsPath
// (the caller's own if it is empty), in the order of their indexes, and what
// the guest has to configure on them. Links are every Ethernet link but
// loopback, bridge ports and our own taps that is up or has an address.
//
// It returns ErrHostNetwork for the host's namespace and ErrUnsupportedLink if
// a link that is in use cannot be mirrored, ErrUnsupportedRoute if a route or a
// routing rule cannot.
func Scan(ctx context.Context, nsPath string) ([]Link, *agentproto.Network, error) {
	var links []Link
	var guest *agentproto.Network
	err := inside(ctx, nsPath, func(h *netlink.Handle) error {
		s := &scanner{handle: h, names: map[int]string{}, network: &agentproto.Network{}}
		err := s.scan()
		links, guest = s.links, s.network
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("scan network: %w", err)
	}
	return links, guest, nil
}

// scanner gathers what one namespace holds.
type scanner struct {
	handle  *netlink.Handle
	links   []Link
	names   map[int]string // of the links that are mirrored, by index
	network *agentproto.Network
}

func (s *scanner) scan() error {
	all, err := namespace.Dump(s.handle.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Attrs().Index < all[j].Attrs().Index })
	for _, link := range all {
		if err := s.link(link); err != nil {
			return err
		}
	}
	if err := s.routes(); err != nil {
		return err
	}
	if err := s.rules(); err != nil {
		return err
	}
	return s.neighbors()
}

// link takes one link in, unless it is of no use to the guest.
func (s *scanner) link(link netlink.Link) error {
	a := link.Attrs()
	if a.Flags&net.FlagLoopback != 0 || a.MasterIndex != 0 || isOurTap(link) {
		return nil
	}
	addrs, err := namespace.Dump(func() ([]netlink.Addr, error) { return s.handle.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", a.Name, err)
	}
	if a.Flags&net.FlagUp == 0 && len(addrs) == 0 {
		return nil
	}
	if a.EncapType != "ether" || len(a.HardwareAddr) != 6 {
		if !hasGlobal(addrs) {
			return nil
		}
		return fmt.Errorf("link %s (%s): %w", a.Name, link.Type(), ErrUnsupportedLink)
	}
	s.names[a.Index] = a.Name
	s.links = append(s.links, Link{Name: a.Name, Index: a.Index, Kind: link.Type(), MAC: a.HardwareAddr, MTU: a.MTU})
	iface := &agentproto.Interface{
		Name:  a.Name,
		Mac:   a.HardwareAddr.String(),
		Mtu:   uint32(max(a.MTU, 0)), //nolint:gosec // not negative
		NoArp: a.RawFlags&unix.IFF_NOARP != 0,
	}
	for _, addr := range addrs {
		s.address(iface, addr)
	}
	s.network.Interfaces = append(s.network.Interfaces, iface)
	return nil
}

// address adds one address to the guest's interface. A point-to-point address
// becomes a host address and a route to the peer, since the guest's message
// has prefixes alone.
func (s *scanner) address(iface *agentproto.Interface, addr netlink.Addr) {
	// Privacy addresses expire, duplicate ones never worked.
	if addr.Flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_DADFAILED) != 0 && addr.IP.To4() == nil {
		return
	}
	iface.Addresses = append(iface.Addresses, addr.IPNet.String())
	if addr.Peer == nil || addr.Peer.IP.Equal(addr.IP) {
		return
	}
	s.network.Routes = append(s.network.Routes, &agentproto.Route{
		Destination: masked(addr.Peer).String(),
		Source:      addr.IP.String(),
		Interface:   iface.Name,
		Scope:       unix.RT_SCOPE_LINK,
		Family:      family(addr.IP),
		Protocol:    unix.RTPROT_BOOT,
	})
}

// neighbors takes the permanent entries of the links' neighbour tables.
func (s *scanner) neighbors() error {
	for _, link := range s.links {
		list, err := namespace.Dump(func() ([]netlink.Neigh, error) { return s.handle.NeighList(link.Index, netlink.FAMILY_ALL) })
		if err != nil {
			return fmt.Errorf("list neighbors of %s: %w", link.Name, err)
		}
		for _, n := range list {
			if n.State&netlink.NUD_PERMANENT == 0 || n.IP == nil || len(n.HardwareAddr) != 6 {
				continue
			}
			s.network.Neighbors = append(s.network.Neighbors, &agentproto.Neighbor{
				Address:   n.IP.String(),
				Mac:       n.HardwareAddr.String(),
				Interface: link.Name,
				State:     uint32(netlink.NUD_PERMANENT),
				Flags:     uint32(n.Flags & unix.NTF_ROUTER),
			})
		}
	}
	return nil
}

// isOurTap says whether link is a tap that Attach made.
func isOurTap(link netlink.Link) bool {
	return link.Type() == "tuntap" && strings.HasPrefix(link.Attrs().Name, tapPrefix)
}

// hasGlobal says whether one of the addresses is more than link-local.
func hasGlobal(addrs []netlink.Addr) bool {
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}

// masked is the prefix of n without host bits.
func masked(n *net.IPNet) *net.IPNet {
	return &net.IPNet{IP: n.IP.Mask(n.Mask), Mask: n.Mask}
}

// family is the address family of ip as the protocol numbers it.
func family(ip net.IP) uint32 {
	if ip.To4() != nil {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
