package namespace

import (
	"errors"
	"fmt"
	"os"
	"reflect"
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

// defaultRules are the priorities of the three routing rules that every network namespace
// has, and their tables.
var defaultRules = map[int]int{0: unix.RT_TABLE_LOCAL, 32766: unix.RT_TABLE_MAIN, 32767: unix.RT_TABLE_DEFAULT}

// IsDefaultRule reports whether a listed rule is one of these: a rule with a criterion,
// such as a port, is not, though it has the same priority and table.
func IsDefaultRule(r *netlink.Rule) bool {
	table, ok := defaultRules[r.Priority]
	plain := netlink.NewRule()
	plain.Family, plain.Priority, plain.Table, plain.Protocol, plain.Type = r.Family, r.Priority, table, r.Protocol, r.Type
	return ok && reflect.DeepEqual(r, plain)
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
