package agent

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netReplyTimeout bounds one answer of the kernel to a netlink request.
const netReplyTimeout = 10 * time.Second

// inNetNS runs fn on a thread that is in the network namespace at path, the
// agent's own if it is empty, with a netlink handle of that namespace. A
// thread that cannot be brought back dies with its goroutine.
func inNetNS(path string, fn func(*netlink.Handle) error) error {
	if path == "" {
		return withNetHandle(fn)
	}
	ns, err := os.Open(path) // #nosec G304 -- the agent's own choice
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }()
	done := make(chan error, 1)
	go func() { done <- onNetNSThread(ns, fn) }()
	return <-done
}

// onNetNSThread enters ns with the calling goroutine's thread.
func onNetNSThread(ns *os.File, fn func(*netlink.Handle) error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() { _ = home.Close() }()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
	}
	err = withNetHandle(fn)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("return to own network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

// withNetHandle calls fn with a handle of the thread's present namespace.
func withNetHandle(fn func(*netlink.Handle) error) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()
	if err := h.SetSocketTimeout(netReplyTimeout); err != nil {
		return fmt.Errorf("set netlink timeout: %w", err)
	}
	return fn(h)
}

// dumpLinks repeats a listing that the kernel says was disturbed by a change.
func dumpLinks[T any](list func() ([]T, error)) ([]T, error) {
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
