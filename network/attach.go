package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrTrafficControl says that a link has an ingress queueing discipline that
// Attach did not create: a redirect would replace what someone else has set up.
var ErrTrafficControl = errors.New("link has traffic control of its own")

// busyTimeout bounds the wait while another process changes traffic control.
const busyTimeout = 5 * time.Second

// Attach creates the tap for a link that Scan found in the namespace at nsPath
// (empty: the caller's own) and redirects all frames between the two. The caller
// closes the returned files. An error leaves nothing behind.
func Attach(ctx context.Context, nsPath string, link Link) (Tap, error) {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	tap := Tap{Name: TapName(link), MAC: link.MAC, MTU: link.MTU}
	err := inNamespace(ctx, nsPath, func(h *netlink.Handle) error {
		f, err := openTap(tap.Name)
		if err != nil {
			return err
		}
		index, err := connect(ctx, h, tap, link)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		tap.Files = append(tap.Files, f)
		tap.NoAnswers = addAnswers(ctx, h, link.Index, index)
		return nil
	})
	if err != nil {
		return Tap{}, fmt.Errorf("attach link %s: %w", link.Name, err)
	}
	return tap, nil
}

// connect redirects all frames between an open tap and the link, and gives the tap's
// index.
func connect(ctx context.Context, h *netlink.Handle, tap Tap, link Link) (int, error) {
	dev, err := setUpTap(h, tap.Name, link.MTU)
	if err != nil {
		return 0, err
	}
	tapIndex := dev.Attrs().Index
	if err := redirect(ctx, h, tapIndex, link.Index); err != nil {
		return 0, err
	}
	if _, err := removeOurs(h, link.Index); err != nil {
		return 0, err
	}
	if err := redirect(ctx, h, link.Index, tapIndex); err != nil {
		return 0, errors.Join(err, undoRedirect(h, link.Index))
	}
	if err := setAllMulticast(h, link.Index, true); err != nil {
		return 0, errors.Join(err, undoRedirect(h, link.Index))
	}
	return tapIndex, nil
}

func undoRedirect(h *netlink.Handle, index int) error {
	_, err := removeOurs(h, index)
	return err
}

// setAllMulticast makes the link accept all multicast groups, or only the joined ones
// again. macvlan and real NICs filter by group, and do not know which ones the guest joins.
func setAllMulticast(h *netlink.Handle, index int, on bool) error {
	link, err := h.LinkByIndex(index)
	if err != nil {
		return fmt.Errorf("find link %d: %w", index, err)
	}
	set := h.LinkSetAllmulticastOff
	if on {
		set = h.LinkSetAllmulticastOn
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set multicast filter of link %d: %w", index, err)
	}
	return nil
}

// redirect sends the frames that arrive on one link out on another.
func redirect(ctx context.Context, h *netlink.Handle, from, to int) error {
	err := retryBusy(ctx, func() error { return h.QdiscAdd(ingress(from)) })
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("link %d: %w", from, ErrTrafficControl)
	}
	if err != nil {
		return fmt.Errorf("add ingress discipline to link %d: %w", from, err)
	}
	// A u32 filter without a selector matches every frame. So does a matchall filter,
	// but not every kernel has those.
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: from,
			Parent:    netlink.MakeHandle(0xffff, 0),
			Priority:  redirectPriority,
			Protocol:  unix.ETH_P_ALL,
		},
		Actions: []netlink.Action{netlink.NewMirredAction(to)},
	}
	if err := retryBusy(ctx, func() error { return h.FilterAdd(filter) }); err != nil {
		return fmt.Errorf("redirect link %d to link %d: %w", from, to, err)
	}
	return nil
}

// ingress is the queueing discipline whose filters redirect frames.
func ingress(link int) *netlink.Ingress {
	return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link,
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_INGRESS,
	}}
}

// retryBusy repeats a change until the kernel no longer refuses it with EBUSY, as it
// does while another process changes the same discipline. There is no event to wait for.
func retryBusy(ctx context.Context, change func() error) error {
	const pause = 2 * time.Millisecond
	for {
		err := change()
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, ctx.Err())
		}
	}
}
