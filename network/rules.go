package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/namespace"
)

// rules lists the routing rules beside the three default ones.
func (s *scanner) rules() error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := namespace.Dump(func() ([]netlink.Rule, error) { return s.handle.RuleList(family) })
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			continue // the kernel has no routing rules for the family
		}
		if err != nil {
			return fmt.Errorf("list routing rules: %w", err)
		}
		for i := range list {
			r := &list[i]
			// Asked for a family that it does not support, the kernel lists the rules
			// of the other one.
			if r.Family != family || namespace.IsDefaultRule(r) {
				continue
			}
			out, err := rule(r)
			if err != nil {
				return err
			}
			s.network.Rules = append(s.network.Rules, out)
		}
	}
	return nil
}

// rule is the message for r.
func rule(r *netlink.Rule) (*agentproto.Rule, error) {
	// In the guest only the kernel's own rule has priority 0.
	if r.Priority == 0 || r.Table <= 0 || r.Goto > 0 || r.SuppressIfgroup >= 0 || r.SuppressPrefixlen >= 0 || r.TunID != 0 || r.Flow > 0 ||
		r.Dport != nil || r.Sport != nil || r.IPProto != 0 || r.UIDRange != nil {
		return nil, fmt.Errorf("routing rule %d (%s): %w", r.Priority, r, ErrUnsupportedRoute)
	}
	// #nosec G115 -- the kernel's own 32 bits
	out := &agentproto.Rule{
		Family:   uint32(r.Family),
		Priority: uint32(r.Priority),
		Table:    uint32(r.Table),
		Input:    r.IifName,
		Output:   r.OifName,
		Mark:     r.Mark,
		Tos:      uint32(r.Tos),
		Invert:   r.Invert,
	}
	if r.Mask != nil {
		out.Mask = *r.Mask
	}
	if r.Src != nil {
		out.Source = r.Src.String()
	}
	if r.Dst != nil {
		out.Destination = r.Dst.String()
	}
	return out, nil
}
