package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// awaitDevice waits until the function there reports true. It calls it at once, and again
// after each event about a device that the kernel sends. It ends early with an error of
// that function, or with ctx.
func awaitDevice(ctx context.Context, there func() (bool, error)) error {
	if ok, err := there(); ok || err != nil {
		return err
	}
	events, err := openUevents()
	if err != nil {
		return err
	}
	defer events.Close()
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 8192)
	for {
		// Look again: the device may have come before the socket was open.
		if ok, err := there(); ok || err != nil {
			return err
		}
		if _, err := events.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("wait for devices: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

// openUevents opens a socket that receives the kernel's events about devices.
func openUevents() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen to devices: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen to devices: %w", err)
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}
