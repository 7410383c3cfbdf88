package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"

	"runch/unixsocket"
)

// consoleTimeout is how long the terminal's master may take to come through the
// socket. libcontainer has sent it before it says that the process is there.
const consoleTimeout = 10 * time.Second

// receiveConsole takes the terminal's master that libcontainer sent.
func receiveConsole(socket *os.File) (*os.File, error) {
	c, err := net.FileConn(socket)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	defer c.Close()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("receive terminal: %T is not a unix socket", c)
	}
	if err := conn.SetReadDeadline(time.Now().Add(consoleTimeout)); err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	fd, err := unixsocket.ReceiveDescriptor(conn)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	return consoleFile(fd)
}

// plainNewlines makes a terminal show a newline as it is, with no carriage
// return before it.
func plainNewlines(master *os.File) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return fmt.Errorf("set terminal up: %w", err)
	}
	var ttyErr error
	err = raw.Control(func(fd uintptr) { ttyErr = console.ClearONLCR(fd) })
	if err := errors.Join(err, ttyErr); err != nil {
		return fmt.Errorf("set terminal up: %w", err)
	}
	return nil
}

// dupConsole gives the terminal's master a second descriptor.
func dupConsole(master *os.File) (*os.File, error) {
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("duplicate terminal: %w", err)
	}
	fd, dupErr := -1, error(nil)
	err = raw.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err := errors.Join(err, dupErr); err != nil {
		return nil, fmt.Errorf("duplicate terminal: %w", err)
	}
	return consoleFile(fd)
}

// consoleFile makes a file whose reads have deadlines: for that the Go runtime's
// poller needs a non-blocking descriptor.
func consoleFile(fd int) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), nil
}
