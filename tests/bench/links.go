package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/tests/bench/measurement"
)

// links are the servers' network namespace and the contenders' connections to it: a veth into a network namespace of
// each contender's own, or a tap.
type links struct {
	server string
	// namespaces are the names, for ip(8), of the namespaces that were made.
	namespaces []string
	servers    []*exec.Cmd
}

// end is a contender's end of its connection.
type end struct {
	// server is the servers' address on this connection; address is the contender's own, with its prefix length.
	server, address string
	// namespace is the path of the contender's network namespace, or of the servers' for a tap.
	namespace string
}

// newLinks starts the servers. It runs the iperf3 of the root file system, as the lab's VM has none.
func newLinks(ctx context.Context, rootfs, workload string) (l *links, err error) {
	l = &links{server: "bench-server-" + strconv.Itoa(os.Getpid())}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := l.add(ctx, l.server); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		// ip netns exec runs it in a mount namespace of its own, so the bind mount is not seen outside.
		{"sh", "-c", `mount --bind /dev "$0/dev" && exec chroot "$0" "$@"`, rootfs, "iperf3", "--server", "--port", measurement.IperfPort, "--forceflush"},
		{workload, "echo"},
	} {
		if err := l.serve(ctx, args); err != nil {
			return nil, fmt.Errorf("start %q: %w", args, err)
		}
	}
	return l, nil
}

// serve starts a server and waits for its first output, which says that it listens.
func (l *links) serve(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "ip", append([]string{"netns", "exec", l.server}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	l.servers = append(l.servers, cmd)
	if _, err := out.Read(make([]byte, 1)); err != nil {
		return err
	}
	// Later output is not read: writing it fails instead of blocking on a full pipe.
	return out.Close()
}

// add makes a namespace.
func (l *links) add(ctx context.Context, name string) error {
	if err := ip(ctx, "netns", "add", name); err != nil {
		return err
	}
	l.namespaces = append(l.namespaces, name)
	return ip(ctx, "-n", name, "link", "set", "lo", "up")
}

// join makes a contender's namespace and its veth.
func (l *links) join(ctx context.Context, contender string) (*end, error) {
	number := len(l.namespaces)
	name := fmt.Sprintf("bench-%d-%d", number, os.Getpid())
	if err := l.add(ctx, name); err != nil {
		return nil, err
	}
	e := newEnd(number, name)
	peer := "veth" + strconv.Itoa(number)
	for _, args := range [][]string{
		{"-n", l.server, "link", "add", peer, "type", "veth", "peer", "name", "eth0", "netns", name},
		{"-n", l.server, "address", "add", e.server + "/24", "dev", peer},
		{"-n", l.server, "link", "set", peer, "up"},
		{"-n", name, "address", "add", e.address, "dev", "eth0"},
		{"-n", name, "link", "set", "eth0", "up"},
	} {
		if err := ip(ctx, args...); err != nil {
			return nil, fmt.Errorf("link %s: %w", contender, err)
		}
	}
	return e, nil
}

func newEnd(number int, namespace string) *end {
	return &end{
		server: fmt.Sprintf("10.209.%d.1", number), address: fmt.Sprintf("10.209.%d.2/24", number),
		namespace: filepath.Join("/run/netns", namespace),
	}
}

// bare returns the end for a guest whose tap is in the servers' namespace.
func (l *links) bare() *end { return newEnd(100, l.server) }

// openTap makes the tap, which disappears when it is closed.
func (e *end) openTap(ctx context.Context) (*os.File, error) {
	type result struct {
		tap *os.File
		err error
	}
	done := make(chan result)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		tap, err := e.openTapHere(ctx)
		done <- result{tap, err}
	}()
	r := <-done
	return r.tap, r.err
}

func (e *end) openTapHere(ctx context.Context) (*os.File, error) {
	ns, err := os.Open(e.namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the server's namespace: %w", err)
	}
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: "tap0"}, Mode: netlink.TUNTAP_MODE_TAP, NonPersist: true, Queues: 1,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		return nil, fmt.Errorf("make the tap: %w", err)
	}
	// This thread starts ip(8), which so runs in the servers' namespace.
	if err := errors.Join(ip(ctx, "address", "add", e.server+"/24", "dev", "tap0"), ip(ctx, "link", "set", "tap0", "up")); err != nil {
		return nil, errors.Join(err, tap.Fds[0].Close())
	}
	return tap.Fds[0], nil
}

// close ends the servers and removes the namespaces.
func (l *links) close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	var errs []error
	for _, server := range l.servers {
		errs = append(errs, server.Process.Kill())
		_ = server.Wait() // it was killed
	}
	for _, name := range l.namespaces {
		errs = append(errs, ip(ctx, "netns", "delete", name))
	}
	return errors.Join(errs...)
}

// ip runs ip(8).
func ip(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
