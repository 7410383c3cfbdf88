package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/namespace"
)

// nicTimeout bounds the wait for a NIC that the VMM was asked to add.
const nicTimeout = 10 * time.Second

// ApplyNetwork makes the network namespace at netnsPath look as n says: its
// interfaces are the guest's NICs with the given hardware addresses, taken
// from the agent's own namespace if they are not there yet. A NIC that is
// missing is waited for, at most 10 s. NICs of an earlier call that n does not
// have lose their addresses and are set down; loopback is set up.
//
// It may be called again with the same or another n, but calls must not
// overlap. The error is ErrNetworkField if n itself is bad; then nothing was
// changed.
func ApplyNetwork(ctx context.Context, netnsPath string, n *agentproto.Network) error {
	if err := applyNetwork(ctx, netScope{target: netnsPath, isNIC: isPhysical}, n); err != nil {
		return fmt.Errorf("configure network: %w", err)
	}
	return nil
}

// netScope is where a network is applied.
type netScope struct {
	root   string // namespace that new NICs appear in, empty for the agent's
	target string // the containers' namespace
	isNIC  func(netlink.Link) bool
}

// isPhysical tells a VM's NIC from links that software made, which may well
// have a NIC's hardware address (VLANs, bridges, macvlans).
func isPhysical(l netlink.Link) bool { return l.Type() == "device" && l.Attrs().Name != "lo" }

func applyNetwork(ctx context.Context, s netScope, n *agentproto.Network) error {
	plan, err := checkNetwork(n)
	if err != nil {
		return err
	}
	if err := inNetNS(s.target, func(h *netlink.Handle) error {
		if err := namespace.SetLoopbackUp(h); err != nil {
			return err
		}
		return s.claim(h, plan)
	}); err != nil {
		return err
	}
	if len(plan.missing()) > 0 {
		if err := s.fetchNICs(ctx, plan); err != nil {
			return err
		}
	}
	return inNetNS(s.target, func(h *netlink.Handle) error {
		// Moved NICs may have got other numbers.
		if err := s.claim(h, plan); err != nil {
			return err
		}
		if lost := plan.missing(); len(lost) > 0 {
			return fmt.Errorf("interface %s: NIC %s vanished", lost[0].name, lost[0].mac)
		}
		return s.configure(h, plan)
	})
}

// configure brings everything in the target namespace to the plan.
func (s netScope) configure(h *netlink.Handle, plan *netPlan) error {
	if err := s.retire(h, plan); err != nil {
		return err
	}
	if err := plan.rename(h); err != nil {
		return err
	}
	for _, iface := range plan.interfaces {
		if err := iface.configure(h); err != nil {
			return fmt.Errorf("interface %s: %w", iface.name, err)
		}
	}
	if err := plan.setRoutes(h); err != nil {
		return err
	}
	if err := plan.setRules(h); err != nil {
		return err
	}
	return plan.setNeighbors(h)
}

// retire takes out of use the NICs that are not in the plan.
func (s netScope) retire(h *netlink.Handle, plan *netPlan) error {
	links, err := namespace.Dump(h.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	index := plan.indexes()
	for _, link := range links {
		name := link.Attrs().Name
		if !s.isNIC(link) || index.has(link.Attrs().Index) {
			continue
		}
		if err := dropAddresses(h, link, func(netlink.Addr) bool { return true }); err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		if err := h.LinkSetDown(link); err != nil {
			return fmt.Errorf("interface %s: set down: %w", name, err)
		}
		if _, wanted := index[name]; !wanted {
			continue
		}
		if err := h.LinkSetName(link, transitPrefix+"-"+strconv.Itoa(link.Attrs().Index)); err != nil {
			return fmt.Errorf("interface %s: rename: %w", name, err)
		}
	}
	return nil
}

// configure sets one interface's properties and addresses and sets it up.
func (i *netInterface) configure(h *netlink.Handle) error {
	link, err := h.LinkByIndex(i.index)
	if err != nil {
		return err
	}
	if i.mtu != 0 && i.mtu != link.Attrs().MTU {
		if err := h.LinkSetMTU(link, i.mtu); err != nil {
			return fmt.Errorf("set mtu %d: %w", i.mtu, err)
		}
	}
	setARP := h.LinkSetARPOn
	if i.noARP {
		setARP = h.LinkSetARPOff
	}
	if err := setARP(link); err != nil {
		return fmt.Errorf("set arp: %w", err)
	}
	if err := i.setIPv6(); err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return i.setAddresses(h, link)
}

// setIPv6 leaves the interface's IPv6 addresses to the host alone: the guest accepts no
// router advertisements, and does not look for duplicates, as it would find the host's
// own link, which has the same addresses. An interface without IPv6 addresses has IPv6
// switched off, as on the host.
func (i *netInterface) setIPv6() error {
	dir := "/proc/sys/net/ipv6/conf/" + i.name + "/"
	if _, err := os.Stat(dir); err != nil && !i.hasIPv6() {
		return nil // a kernel without IPv6
	}
	disable := "1"
	if i.hasIPv6() {
		disable = "0"
	}
	for _, setting := range [][2]string{{"accept_ra", "0"}, {"accept_dad", "0"}, {"disable_ipv6", disable}} {
		if err := os.WriteFile(dir+setting[0], []byte(setting[1]), 0); err != nil {
			return fmt.Errorf("set %s: %w", setting[0], err)
		}
	}
	return nil
}

// setAddresses gives the interface the plan's addresses and removes all others,
// except IPv6 link-local ones, which the kernel makes.
func (i *netInterface) setAddresses(h *netlink.Handle, link netlink.Link) error {
	want := map[string]bool{}
	for _, p := range i.addresses {
		want[p.String()] = true
	}
	err := dropAddresses(h, link, func(a netlink.Addr) bool {
		return !want[a.IPNet.String()] && (a.IP.To4() != nil || !a.IP.IsLinkLocalUnicast())
	})
	if err != nil {
		return err
	}
	for _, p := range i.addresses {
		addr, err := netlink.ParseAddr(p.String())
		if err != nil {
			return err
		}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if p.Addr().IsLinkLocalUnicast() {
			addr.Scope = unix.RT_SCOPE_LINK
		}
		if err := h.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	return nil
}

// dropAddresses removes the link's addresses that unwanted picks.
func dropAddresses(h *netlink.Handle, link netlink.Link, unwanted func(netlink.Addr) bool) error {
	have, err := namespace.Dump(func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range have {
		if !unwanted(a) {
			continue
		}
		// Removing an address takes its secondaries along.
		if err := h.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("delete address %s: %w", a.IPNet, err)
		}
	}
	return nil
}
