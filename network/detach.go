package network

import (
	"context"
	"errors"
	"fmt"

	"runch/namespace"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Detach undoes Attach for the taps with the given names in the namespace at
// nsPath (empty: the caller's own). A namespace, link or tap that does not exist any
// more is no error. Neither is a path that now leads to the host's own namespace:
// Attach refuses that one, so no tap is in it.
func Detach(ctx context.Context, nsPath string, names []string) error {
	err := inNamespace(ctx, nsPath, func(h *netlink.Handle) error {
		var errs []error
		for _, name := range names {
			errs = append(errs, detach(h, name))
		}
		return errors.Join(errs...)
	})
	if errors.Is(err, errNoNamespace) || errors.Is(err, ErrHostNetwork) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("detach taps: %w", err)
	}
	return nil
}

// detach removes one tap and the redirect to it.
func detach(h *netlink.Handle, name string) error {
	index, err := linkIndex(name)
	if err != nil {
		return err
	}
	if err := removeRedirect(h, index); err != nil {
		return err
	}
	if err := setAllMulticast(h, index, false); err != nil && !isGone(err) {
		return err
	}
	tap, err := h.LinkByName(name)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find tap %s: %w", name, err)
	}
	if !isOurTap(tap) {
		return nil
	}
	if err := h.LinkDel(tap); err != nil && !isGone(err) {
		return fmt.Errorf("delete tap %s: %w", name, err)
	}
	return nil
}

// removeRedirect removes the ingress discipline of a link if Attach created it,
// in a command that was killed perhaps: all its filters redirect to a tap of ours
// or to a link that does not exist any more.
func removeRedirect(h *netlink.Handle, index int) error {
	link, err := h.LinkByIndex(index)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find link %d: %w", index, err)
	}
	qdiscs, err := namespace.Dump(func() ([]netlink.Qdisc, error) { return h.QdiscList(link) })
	if err != nil {
		return fmt.Errorf("list disciplines of link %d: %w", index, err)
	}
	for _, q := range qdiscs {
		if q.Attrs().Parent != netlink.HANDLE_INGRESS || q.Type() != "ingress" {
			continue
		}
		ours, err := isOurRedirect(h, link)
		if err != nil || !ours {
			return err
		}
		if err := h.QdiscDel(ingress(index)); err != nil && !isGone(err) {
			return fmt.Errorf("delete ingress discipline of link %d: %w", index, err)
		}
	}
	return nil
}

// isOurRedirect reports whether Attach created all of the link's ingress filters.
func isOurRedirect(h *netlink.Handle, link netlink.Link) (bool, error) {
	filters, err := namespace.Dump(func() ([]netlink.Filter, error) {
		return h.FilterList(link, netlink.MakeHandle(0xffff, 0))
	})
	if isGone(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("list filters of link %d: %w", link.Attrs().Index, err)
	}
	for _, f := range filters {
		u32, ok := f.(*netlink.U32)
		if !ok {
			return false, nil
		}
		for _, action := range u32.Actions {
			mirred, ok := action.(*netlink.MirredAction)
			if !ok {
				return false, nil
			}
			// The kernel shows the index 0 when the target has been deleted.
			if mirred.Ifindex == 0 {
				continue
			}
			to, err := h.LinkByIndex(mirred.Ifindex)
			if !isGone(err) && (err != nil || !isOurTap(to)) {
				return false, err
			}
		}
	}
	return true, nil
}

// isGone reports whether an error of the kernel means that the object does not exist.
func isGone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}
