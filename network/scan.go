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
	// MAC is the hardware address of the link and of the guest's NIC.
	MAC net.HardwareAddr
	// MTU is in bytes, without the Ethernet header.
	MTU int
	// Attached says that the link's frames go to the tap that Attach made for it.
	Attached bool
}

// Scan lists the links of the namespace at nsPath (empty: the caller's own) that
// the guest gets, ordered by index, and what the guest configures on them. These
// are the Ethernet links that are up or have an address, without loopback, links with a
// master (such as bridge ports) and the taps that Attach created.
//
// It returns ErrHostNetwork for the host's namespace, ErrUnsupportedLink for a link
// without Ethernet that has an address beyond link-local ones, and ErrUnsupportedRoute
// for a route or a routing rule that cannot be mirrored.
func Scan(ctx context.Context, nsPath string) ([]Link, *agentproto.Network, error) {
	return ScanSome(ctx, nsPath, func(string, int) bool { return true })
}

// ScanSome is Scan restricted to the links for which want returns true. Another link, or a
// route over one, that cannot be mirrored is no error.
func ScanSome(ctx context.Context, nsPath string, want func(name string, index int) bool) ([]Link, *agentproto.Network, error) {
	var links []Link
	var guest *agentproto.Network
	err := inNamespace(ctx, nsPath, func(h *netlink.Handle) error {
		s := &scanner{handle: h, want: want, names: map[int]string{}, network: &agentproto.Network{}}
		err := s.scan()
		links, guest = s.links, s.network
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("scan network: %w", err)
	}
	return links, guest, nil
}

// Links lists all links of the namespace at nsPath (empty: the caller's own), mirrored or not.
func Links(ctx context.Context, nsPath string) ([]Link, error) {
	var links []Link
	err := inNamespace(ctx, nsPath, func(h *netlink.Handle) error {
		all, err := namespace.Dump(h.LinkList)
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		for _, link := range all {
			found, err := newLink(h, link)
			if err != nil {
				return err
			}
			links = append(links, found)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the links: %w", err)
	}
	return links, nil
}

func newLink(h *netlink.Handle, link netlink.Link) (Link, error) {
	a := link.Attrs()
	attached, err := isAttached(h, link)
	return Link{Name: a.Name, Index: a.Index, MAC: a.HardwareAddr, MTU: a.MTU, Attached: attached}, err
}

// scanner collects the configuration of one namespace.
type scanner struct {
	handle  *netlink.Handle
	want    func(name string, index int) bool
	links   []Link
	names   map[int]string // the mirrored links' names by index
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

// link adds a link and its addresses, unless the guest does not get it.
func (s *scanner) link(link netlink.Link) error {
	a := link.Attrs()
	if a.Flags&net.FlagLoopback != 0 || a.MasterIndex != 0 || isOurTap(link) || !s.want(a.Name, a.Index) {
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
	found, err := newLink(s.handle, link)
	if err != nil {
		return err
	}
	s.names[a.Index] = a.Name
	s.links = append(s.links, found)
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

// address adds an address to the guest's interface. A point-to-point address
// becomes a host address and a route to the peer, because the message to the guest
// has no peers.
func (s *scanner) address(iface *agentproto.Interface, addr netlink.Addr) {
	// Temporary addresses expire, and duplicate ones are not in use. IPv4 has no
	// such flags: the first one's bit is IFA_F_SECONDARY there.
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

// neighbors lists the permanent entries of the links' neighbour tables.
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

// isOurTap reports whether Attach created the link.
func isOurTap(link netlink.Link) bool {
	return link.Type() == "tuntap" && strings.HasPrefix(link.Attrs().Name, tapPrefix)
}

// hasGlobal reports whether one of the addresses is not link-local.
func hasGlobal(addrs []netlink.Addr) bool {
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}

// masked is n with its host bits cleared.
func masked(n *net.IPNet) *net.IPNet {
	return &net.IPNet{IP: n.IP.Mask(n.Mask), Mask: n.Mask}
}

// family is the address family of ip, with Linux's numbers.
func family(ip net.IP) uint32 {
	if ip.To4() != nil {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
