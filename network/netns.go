package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"runch/namespace"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrHostNetwork says that a path leads to the host's own network namespace, whose
// links no guest gets.
var ErrHostNetwork = errors.New("the host's own network namespace cannot be used")

// errNoNamespace says that a path leads to no network namespace: it does not exist,
// or it is the plain file that is left where a namespace was mounted.
var errNoNamespace = errors.New("not a network namespace")

// openNS opens a network namespace by its path. The caller closes the file.
func openNS(nsPath string) (*os.File, error) {
	// O_NONBLOCK: the path comes from the spec and might be a FIFO.
	f, err := os.OpenFile(nsPath, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("open network namespace %s: %w: %w", nsPath, errNoNamespace, err)
		}
		return nil, fmt.Errorf("open network namespace %s: %w", nsPath, err)
	}
	kind, err := unix.IoctlRetInt(fd(f), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		closeFile(f)
		return nil, fmt.Errorf("open network namespace %s: %w", nsPath, errNoNamespace)
	}
	return f, nil
}

// checkNotHost returns ErrHostNetwork if ns is the network namespace of the calling process
// or of its PID 1. It compares device and inode of their files in nsfs.
func checkNotHost(ns *os.File) error {
	at, err := ns.Stat()
	if err != nil {
		return fmt.Errorf("stat network namespace: %w", err)
	}
	for _, host := range []string{"/proc/self/ns/net", "/proc/1/ns/net"} {
		is, err := os.Stat(host)
		// PID 1's namespace may be hidden (hidepid, a user namespace); then
		// only the caller's own counts as the host's.
		if err == nil && os.SameFile(at, is) {
			return fmt.Errorf("%s: %w", ns.Name(), ErrHostNetwork)
		}
	}
	return nil
}

// inNamespace runs fn on a thread that is in the namespace at nsPath, with a
// netlink handle of that namespace. An empty nsPath is the caller's own namespace.
// The error is ErrHostNetwork if nsPath leads to the host's.
func inNamespace(ctx context.Context, nsPath string, fn func(*netlink.Handle) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if nsPath == "" {
		return namespace.WithHandle(fn)
	}
	ns, err := openNS(nsPath)
	if err != nil {
		return err
	}
	defer closeFile(ns)
	if err := checkNotHost(ns); err != nil {
		return err
	}
	return namespace.InNet(ns, fn)
}

// fd is a file's descriptor. (*os.File).Fd would set it to blocking mode.
func fd(f *os.File) int {
	n := -1
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(u uintptr) { n = int(u) })
	}
	return n
}

// closeFile closes a file that was only read.
func closeFile(f *os.File) { _ = f.Close() }
