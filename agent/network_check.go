package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// ErrNetworkField says that a field of a Network is malformed. Nothing was
// changed.
var ErrNetworkField = errors.New("invalid network")

// Bounds of what one Network may hold, and of an interface's name.
const (
	maxInterfaces = 64
	maxAddresses  = 256 // of one interface
	maxRoutes     = 1024
	maxNeighbors  = 1024
	maxRules      = 1024
	maxNameLen    = unix.IFNAMSIZ - 1
	minMTU        = 68 // RFC 791
	maxMTU        = 65535
)

// netPlan is a Network whose fields were checked and parsed.
type netPlan struct {
	interfaces []*netInterface
	routes     []netRoute
	neighbors  []netNeighbor
	rules      []*netlink.Rule
}

// netInterface is one interface as it shall be.
type netInterface struct {
	name      string
	mac       net.HardwareAddr
	mtu       int // 0: as it is
	noARP     bool
	addresses []netip.Prefix
	index     int // in the containers' namespace; 0: the NIC is missing, -1: moved there, index not known yet
}

// hasIPv6 says whether the interface is to get an IPv6 address.
func (i *netInterface) hasIPv6() bool {
	for _, a := range i.addresses {
		if a.Addr().Is6() {
			return true
		}
	}
	return false
}

// netRoute and netNeighbor name their interface; the kernel's index is only
// known when the interface is in place.
type netRoute struct {
	link  string
	route netlink.Route
}

type netNeighbor struct {
	link  string
	neigh netlink.Neigh
}

// checkNetwork parses what the host sent and refuses what is out of bounds.
func checkNetwork(n *agentproto.Network) (*netPlan, error) {
	if len(n.GetInterfaces()) > maxInterfaces || len(n.GetRoutes()) > maxRoutes ||
		len(n.GetNeighbors()) > maxNeighbors || len(n.GetRules()) > maxRules {
		return nil, fmt.Errorf("%w: %d interfaces, %d routes, %d neighbors, %d rules are too many", ErrNetworkField,
			len(n.GetInterfaces()), len(n.GetRoutes()), len(n.GetNeighbors()), len(n.GetRules()))
	}
	plan := &netPlan{}
	names := map[string]bool{}
	for i, in := range n.GetInterfaces() {
		iface, err := checkInterface(in)
		if err == nil && names[iface.name] {
			err = errors.New("name given twice")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: interfaces[%d] (%.32q): %w", ErrNetworkField, i, in.GetName(), err)
		}
		names[iface.name] = true
		plan.interfaces = append(plan.interfaces, iface)
	}
	for i, in := range n.GetRoutes() {
		r, err := checkRoute(in, names)
		if err != nil {
			return nil, fmt.Errorf("%w: routes[%d] (%.64q): %w", ErrNetworkField, i, in.GetDestination(), err)
		}
		plan.routes = append(plan.routes, r)
	}
	for i, in := range n.GetNeighbors() {
		e, err := checkNeighbor(in, names)
		if err != nil {
			return nil, fmt.Errorf("%w: neighbors[%d] (%.64q): %w", ErrNetworkField, i, in.GetAddress(), err)
		}
		plan.neighbors = append(plan.neighbors, e)
	}
	for i, in := range n.GetRules() {
		r, err := checkRule(in)
		if err != nil {
			return nil, fmt.Errorf("%w: rules[%d]: %w", ErrNetworkField, i, err)
		}
		plan.rules = append(plan.rules, r)
	}
	return plan, nil
}

// checkInterface parses one interface.
func checkInterface(in *agentproto.Interface) (*netInterface, error) {
	if err := checkLinkName(in.GetName()); err != nil {
		return nil, err
	}
	mac, err := parseMAC(in.GetMac())
	if err != nil {
		return nil, err
	}
	if mtu := in.GetMtu(); mtu != 0 && (mtu < minMTU || mtu > maxMTU) {
		return nil, fmt.Errorf("mtu %d is not between %d and %d", mtu, minMTU, maxMTU)
	}
	if len(in.GetAddresses()) > maxAddresses {
		return nil, fmt.Errorf("%d addresses are too many", len(in.GetAddresses()))
	}
	out := &netInterface{name: in.GetName(), mac: mac, mtu: int(in.GetMtu()), noARP: in.GetNoArp()}
	for _, text := range in.GetAddresses() {
		p, err := netip.ParsePrefix(text)
		if err != nil || !usableAddr(p.Addr()) {
			return nil, fmt.Errorf("address %.64q is not an address with a prefix length", text)
		}
		out.addresses = append(out.addresses, p)
	}
	return out, nil
}

// checkLinkName applies the kernel's rule for names of links. It also refuses the
// names that are reserved in /proc/sys/net, and those that NICs have in transit.
func checkLinkName(name string) error {
	switch {
	case name == "" || len(name) > maxNameLen:
		return fmt.Errorf("name has %d bytes, not 1 to %d", len(name), maxNameLen)
	case name == "." || name == ".." || name == "lo" || name == "all" || name == "default":
		return errors.New("name is reserved")
	case strings.HasPrefix(name, transitPrefix):
		return errors.New("name is reserved")
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == '/' || c == ':' || c == '%' {
			return errors.New("name has a byte that names of links cannot have")
		}
	}
	return nil
}

// parseMAC parses a unicast Ethernet address.
func parseMAC(text string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || bytes.Equal(mac, make([]byte, 6)) {
		return nil, fmt.Errorf("mac %.32q is not a unicast Ethernet address", text)
	}
	return mac, nil
}

// usableAddr says whether an interface, a gateway or a neighbour can have the
// address.
func usableAddr(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}
