package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"runch/namespace"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Detach undoes what Attach has done to the links of the namespace at nsPath for a VM
// that is gone. The VM's taps are gone with it, so what is left are redirects whose target
// does not exist. Redirects to the taps of another VM stay. It is no error if the namespace
// does not exist any more, or if the path now leads to the host's own, which Attach refuses.
func Detach(ctx context.Context, nsPath string) error {
	err := inNamespace(ctx, nsPath, func(h *netlink.Handle) error {
		links, err := namespace.Dump(h.LinkList)
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		var errs []error
		for _, link := range links {
			errs = append(errs, detach(h, link.Attrs().Index))
		}
		return errors.Join(errs...)
	})
	if errors.Is(err, errNoNamespace) || errors.Is(err, ErrHostNetwork) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove redirects to taps: %w", err)
	}
	return nil
}

// HasTap reports whether the tap of that name is in the namespace at nsPath. A tap exists
// as long as a VMM has it open.
func HasTap(ctx context.Context, nsPath, tap string) (bool, error) {
	found := false
	err := inNamespace(ctx, nsPath, func(h *netlink.Handle) error {
		_, err := h.LinkByName(tap)
		found = err == nil
		if isGone(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look for tap %s: %w", tap, err)
	}
	return found, nil
}

// DetachLink undoes what Attach has done to the link of the tap of that name, in the
// namespace at nsPath. The tap may still be open in its VMM. A link that is gone is no error.
func DetachLink(ctx context.Context, nsPath, tap string) error {
	err := inNamespace(ctx, nsPath, func(h *netlink.Handle) error {
		index, err := linkIndex(tap)
		if err != nil {
			return err
		}
		removed, err := removeOurs(h, index)
		if err != nil || !removed {
			return err
		}
		return offMulticast(h, index)
	})
	if err != nil {
		return fmt.Errorf("detach the link of tap %s: %w", tap, err)
	}
	return nil
}

// isAttached reports whether the frames of a link go to the tap that Attach has made.
func isAttached(h *netlink.Handle, link netlink.Link) (bool, error) {
	targets, _, err := targetsOf(h, link)
	want := TapName(Link{Index: link.Attrs().Index})
	return slices.ContainsFunc(targets, func(to netlink.Link) bool {
		return to != nil && isOurTap(to) && to.Attrs().Name == want
	}), err
}

// detach removes a link's redirect if its target does not exist any more.
func detach(h *netlink.Handle, index int) error {
	removed, err := removeRedirect(h, index, func(targets []netlink.Link) bool {
		return len(targets) > 0 && !slices.ContainsFunc(targets, func(to netlink.Link) bool { return to != nil })
	})
	if err != nil || !removed {
		return err
	}
	return offMulticast(h, index)
}

// offMulticast lets a link filter multicast again. A link that is gone is no error.
func offMulticast(h *netlink.Handle, index int) error {
	if err := setAllMulticast(h, index, false); err != nil && !isGone(err) {
		return err
	}
	return nil
}

// removeOurs removes a link's redirect if Attach created it, perhaps in a command that was
// killed: its target is one of our taps, or does not exist, or the discipline has no filter.
func removeOurs(h *netlink.Handle, index int) (removed bool, err error) {
	return removeRedirect(h, index, func(targets []netlink.Link) bool {
		return !slices.ContainsFunc(targets, func(to netlink.Link) bool { return to != nil && !isOurTap(to) })
	})
}

// removeRedirect removes the ingress discipline of a link if all its filters redirect to
// other links and remove returns true for these. A target that does not exist any more is
// nil.
func removeRedirect(h *netlink.Handle, index int, remove func(targets []netlink.Link) bool) (removed bool, err error) {
	link, err := h.LinkByIndex(index)
	if isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find link %d: %w", index, err)
	}
	qdiscs, err := namespace.Dump(func() ([]netlink.Qdisc, error) { return h.QdiscList(link) })
	if err != nil {
		return false, fmt.Errorf("list disciplines of link %d: %w", index, err)
	}
	for _, q := range qdiscs {
		if q.Attrs().Parent != netlink.HANDLE_INGRESS || q.Type() != "ingress" {
			continue
		}
		targets, only, err := targetsOf(h, link)
		if err != nil || !only || !remove(targets) {
			return false, err
		}
		if err := h.QdiscDel(ingress(index)); err != nil && !isGone(err) {
			return false, fmt.Errorf("delete ingress discipline of link %d: %w", index, err)
		}
		removed = true
	}
	return removed, nil
}

// targetsOf returns the links that a link's ingress filters redirect to, nil for one that
// does not exist any more. only says that the filters do nothing else.
func targetsOf(h *netlink.Handle, link netlink.Link) (targets []netlink.Link, only bool, err error) {
	filters, err := namespace.Dump(func() ([]netlink.Filter, error) {
		return h.FilterList(link, netlink.MakeHandle(0xffff, 0))
	})
	if isGone(err) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("list filters of link %d: %w", link.Attrs().Index, err)
	}
	for _, f := range filters {
		if isAnswers(f) {
			continue
		}
		u32, ok := f.(*netlink.U32)
		if !ok {
			return nil, false, nil
		}
		for _, action := range u32.Actions {
			mirred, ok := action.(*netlink.MirredAction)
			if !ok {
				return nil, false, nil
			}
			var to netlink.Link
			// The kernel shows the index 0 when the target has been deleted.
			if mirred.Ifindex != 0 {
				to, err = h.LinkByIndex(mirred.Ifindex)
			}
			if err != nil && !isGone(err) {
				return nil, false, fmt.Errorf("find link %d: %w", mirred.Ifindex, err)
			}
			targets = append(targets, to)
		}
	}
	return targets, true, nil
}

// isGone reports whether an error of the kernel means that the object does not exist.
func isGone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}
