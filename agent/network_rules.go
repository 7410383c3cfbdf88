package agent

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/namespace"
)

// checkRule parses one routing rule.
func checkRule(in *agentproto.Rule) (*netlink.Rule, error) {
	if in.GetFamily() != unix.AF_INET && in.GetFamily() != unix.AF_INET6 {
		return nil, fmt.Errorf("family %d is neither IPv4 nor IPv6", in.GetFamily())
	}
	// 0 is the kernel's rule for local addresses.
	if in.GetPriority() == 0 || in.GetPriority() > math.MaxInt32 || in.GetTable() == 0 || in.GetTable() > math.MaxInt32 {
		return nil, fmt.Errorf("priority %d or table %d is out of range", in.GetPriority(), in.GetTable())
	}
	if in.GetTos() > 255 {
		return nil, fmt.Errorf("tos %d is out of range", in.GetTos())
	}
	r := netlink.NewRule()
	r.Family = int(in.GetFamily())
	r.Priority = int(in.GetPriority())
	r.Table = int(in.GetTable())
	r.Mark, r.Tos, r.Invert = in.GetMark(), uint(in.GetTos()), in.GetInvert()
	if in.GetMask() != 0 {
		mask := in.GetMask()
		r.Mask = &mask
	}
	var err error
	if r.Src, err = rulePrefix(in.GetSource(), r.Family); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if r.Dst, err = rulePrefix(in.GetDestination(), r.Family); err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	for _, name := range []string{in.GetInput(), in.GetOutput()} {
		if name == "" || name == "lo" {
			continue
		}
		if err := checkLinkName(name); err != nil {
			return nil, fmt.Errorf("interface %.32q: %w", name, err)
		}
	}
	r.IifName, r.OifName = in.GetInput(), in.GetOutput()
	return r, nil
}

// rulePrefix parses a prefix of the family, nil if it is empty.
func rulePrefix(text string, family int) (*net.IPNet, error) {
	if text == "" {
		return nil, nil // no prefix matches all
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() || p.Addr().Is4() != (family == unix.AF_INET) || p.Masked() != p {
		return nil, fmt.Errorf("%.64q is not a prefix of the family", text)
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, nil
}

// setRules adds the plan's routing rules, and deletes all others except the
// three that every namespace has.
func (p *netPlan) setRules(h *netlink.Handle) error {
	kept := map[*netlink.Rule]bool{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		have, err := namespace.Dump(func() ([]netlink.Rule, error) { return h.RuleList(family) })
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			continue // no rules without the kernel's support for them
		}
		if err != nil {
			return fmt.Errorf("list routing rules: %w", err)
		}
		for i := range have {
			r := &have[i]
			if r.Family != family || namespace.IsDefaultRule(r) {
				continue
			}
			if want := p.findRule(r); want != nil {
				kept[want] = true
				continue
			}
			if err := h.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("delete routing rule %d: %w", r.Priority, err)
			}
		}
	}
	for _, r := range p.rules {
		if kept[r] {
			continue
		}
		if err := h.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add routing rule %d: %w", r.Priority, err)
		}
	}
	return nil
}

// findRule gives the plan's rule that equals have, nil if there is none.
func (p *netPlan) findRule(have *netlink.Rule) *netlink.Rule {
	for _, r := range p.rules {
		if r.Family == have.Family && r.Priority == have.Priority && r.Table == have.Table &&
			r.Mark == have.Mark && maskOf(r) == maskOf(have) &&
			r.Tos == have.Tos && r.Invert == have.Invert && r.IifName == have.IifName && r.OifName == have.OifName &&
			samePrefix(r.Src, have.Src) && samePrefix(r.Dst, have.Dst) {
			return r
		}
	}
	return nil
}

// maskOf gives the bits of a packet's mark that a rule compares. For a rule with a mark
// but no mask the kernel compares all of them.
func maskOf(r *netlink.Rule) uint32 {
	switch {
	case r.Mask != nil:
		return *r.Mask
	case r.Mark != 0:
		return math.MaxUint32
	}
	return 0
}

func samePrefix(a, b *net.IPNet) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.String() == b.String()
}
