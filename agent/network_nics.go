package agent

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"

	"runch/namespace"

	"github.com/vishvananda/netlink"
)

// transitPrefix begins the temporary names of NICs that are moved or renamed, and
// the names of retired ones, so that they clash with no other name in a namespace.
const transitPrefix = "_runch"

// missing are the interfaces whose NIC is not in the target namespace yet.
func (p *netPlan) missing() []*netInterface {
	var out []*netInterface
	for _, i := range p.interfaces {
		if i.index == 0 {
			out = append(out, i)
		}
	}
	return out
}

// nics lists the NICs of h's namespace in the order they were added.
func (s netScope) nics(h *netlink.Handle) ([]netlink.Link, error) {
	all, err := namespace.Dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var out []netlink.Link
	for _, l := range all {
		if s.isNIC(l) {
			out = append(out, l)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Attrs().Index < out[j].Attrs().Index })
	return out, nil
}

// claim finds the interfaces' NICs in the target namespace by their hardware
// address. Several may share one (ipvlan does so): then the name decides, and
// for the rest the order.
func (s netScope) claim(h *netlink.Handle, plan *netPlan) error {
	nics, err := s.nics(h)
	if err != nil {
		return err
	}
	taken := map[int]bool{}
	for _, i := range plan.interfaces {
		i.index = 0
	}
	for _, byName := range []bool{true, false} {
		for _, i := range plan.missing() {
			for _, nic := range nics {
				a := nic.Attrs()
				if taken[a.Index] || !bytes.Equal(a.HardwareAddr, i.mac) || (byName && a.Name != i.name) {
					continue
				}
				i.index, taken[a.Index] = a.Index, true
				break
			}
		}
	}
	return nil
}

// fetchNICs moves the missing NICs out of the root namespace, waiting for
// those that the guest's kernel has not seen yet.
func (s netScope) fetchNICs(ctx context.Context, plan *netPlan) error {
	ctx, cancel := context.WithTimeout(ctx, nicTimeout)
	defer cancel()
	target, err := os.Open(s.target)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = target.Close() }()
	return inNetNS(s.root, func(h *netlink.Handle) error {
		for {
			done, err := s.fetchOnce(ctx, h, plan, target)
			if done || err != nil {
				return err
			}
		}
	})
}

// fetchOnce moves what is there and returns whether that was all; otherwise it
// has waited for a change among the links. It subscribes before it looks, so
// that no change is missed between the two.
func (s netScope) fetchOnce(ctx context.Context, h *netlink.Handle, plan *netPlan, target *os.File) (bool, error) {
	updates, end := make(chan netlink.LinkUpdate, 16), make(chan struct{})
	if err := netlink.LinkSubscribeWithOptions(updates, end, netlink.LinkSubscribeOptions{}); err != nil {
		return false, fmt.Errorf("watch links: %w", err)
	}
	defer func() {
		close(end)
		// The library's reader must not stay blocked on a full channel.
		go func() {
			for range updates { // to its end
			}
		}()
	}()
	if err := s.moveNICs(h, plan, target); err != nil {
		return false, err
	}
	lost := plan.missing()
	if len(lost) == 0 {
		return true, nil
	}
	select {
	case _, open := <-updates:
		if !open {
			return false, waitBriefly(ctx)
		}
		return false, nil
	case <-ctx.Done():
		return false, fmt.Errorf("interface %s: no NIC %s appeared: %w", lost[0].name, lost[0].mac, ctx.Err())
	}
}

// waitBriefly keeps a subscription that breaks again and again from spinning.
func waitBriefly(ctx context.Context) error {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// moveNICs moves the missing NICs that are in the root namespace.
func (s netScope) moveNICs(h *netlink.Handle, plan *netPlan, target *os.File) error {
	nics, err := s.nics(h)
	if err != nil {
		return err
	}
	for _, i := range plan.interfaces {
		if i.index != 0 {
			continue
		}
		for k, nic := range nics {
			if nic == nil || !bytes.Equal(nic.Attrs().HardwareAddr, i.mac) {
				continue
			}
			if err := moveNIC(h, nic, target); err != nil {
				return fmt.Errorf("interface %s: %w", i.name, err)
			}
			// claim finds its index in the other namespace later;
			// for now it is not missing.
			i.index, nics[k] = -1, nil
			break
		}
	}
	return nil
}

// moveNIC gives a link a transit name and moves it to the target namespace. The link keeps
// that name if another NIC does not appear. So the name has the link's index, which no other
// link of this namespace has had or will get.
func moveNIC(h *netlink.Handle, nic netlink.Link, target *os.File) error {
	name := transitPrefix + "m" + strconv.Itoa(nic.Attrs().Index)
	if err := h.LinkSetDown(nic); err != nil {
		return fmt.Errorf("set %s down: %w", nic.Attrs().Name, err)
	}
	if nic.Attrs().Name != name {
		if err := h.LinkSetName(nic, name); err != nil {
			return fmt.Errorf("rename %s: %w", nic.Attrs().Name, err)
		}
	}
	if err := h.LinkSetNsFd(nic, int(target.Fd())); err != nil {
		return fmt.Errorf("move %s: %w", nic.Attrs().Name, err)
	}
	return nil
}

// rename gives the NICs their names, by way of transit names, since two may have
// to swap theirs.
func (p *netPlan) rename(h *netlink.Handle) error {
	var wrong []*netInterface
	for _, i := range p.interfaces {
		link, err := h.LinkByIndex(i.index)
		if err != nil {
			return fmt.Errorf("interface %s: %w", i.name, err)
		}
		if link.Attrs().Name == i.name {
			continue
		}
		// Kernels before 6.2 rename only links that are down.
		if err := h.LinkSetDown(link); err != nil {
			return fmt.Errorf("interface %s: set down: %w", i.name, err)
		}
		if err := h.LinkSetName(link, transitPrefix+"r"+strconv.Itoa(i.index)); err != nil {
			return fmt.Errorf("interface %s: rename: %w", i.name, err)
		}
		wrong = append(wrong, i)
	}
	for _, i := range wrong {
		link, err := h.LinkByIndex(i.index)
		if err != nil {
			return fmt.Errorf("interface %s: %w", i.name, err)
		}
		if err := h.LinkSetName(link, i.name); err != nil {
			return fmt.Errorf("interface %s: rename: %w", i.name, err)
		}
	}
	return nil
}

// linkIndexes maps names of interfaces to the kernel's indexes.
type linkIndexes map[string]int

// indexes gives the present indexes of the plan's interfaces.
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
