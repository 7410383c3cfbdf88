package namespace

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// replyTimeout bounds the wait for each answer to a netlink request.
const replyTimeout = 10 * time.Second

// InNet calls fn on a thread in the network namespace ns, with a netlink handle
// (netlink(7)) of that namespace, and returns fn's error. The caller closes ns.
func InNet(ns *os.File, fn func(*netlink.Handle) error) error {
	var err error
	Do(func() bool {
		var home *os.File
		if home, err = enter(ns, unix.CLONE_NEWNET); err != nil {
			return true
		}
		err = WithHandle(fn)
		return leave([]*os.File{home}) == nil
	})
	return err
}

// WithHandle calls fn with a netlink handle of the network namespace that the
// caller's thread is in, and returns fn's error.
func WithHandle(fn func(*netlink.Handle) error) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()
	if err := h.SetSocketTimeout(replyTimeout); err != nil {
		return fmt.Errorf("set netlink timeout: %w", err)
	}
	return fn(h)
}

// Dump repeats a netlink listing that a change has interrupted: such a listing may be
// incomplete.
func Dump[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 8
	var out []T
	var err error
	for range tries {
		out, err = list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return nil, err
}

// SetLoopbackUp sets the loopback interface of h's network namespace up.
func SetLoopbackUp(h *netlink.Handle) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	return nil
}
