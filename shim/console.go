package shim

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"runch/agentproto"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// Console is the host's pty of a process with a terminal.
type Console struct {
	master console.Console
	// Slave is the shim's end, in raw mode: the line discipline that the
	// program sees is the guest's.
	Slave *os.File
}

// NewConsole makes a pty of the given size, nil or zero for none, and makes it
// the controlling terminal of this process, so that a change of the master's size
// arrives as SIGWINCH, and its end as SIGHUP. The process must be the leader of a
// session without a controlling terminal.
func NewConsole(size *agentproto.TerminalSize) (*Console, error) {
	master, path, err := console.NewPty()
	if err != nil {
		return nil, fmt.Errorf("make a pty: %w", err)
	}
	c := &Console{master: master}
	if err := c.openSlave(path, size); err != nil {
		c.CloseMaster()
		return nil, err
	}
	return c, nil
}

func (c *Console) openSlave(path string, size *agentproto.TerminalSize) error {
	if size.GetHeight() != 0 && size.GetWidth() != 0 {
		// #nosec G115 -- a wrong size is a size all the same
		err := c.master.Resize(console.WinSize{Height: uint16(size.GetHeight()), Width: uint16(size.GetWidth())})
		if err != nil {
			return fmt.Errorf("set the pty's size: %w", err)
		}
	}
	slave, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open the pty: %w", err)
	}
	raw, err := console.ConsoleFromFile(slave)
	if err == nil {
		err = raw.SetRaw()
	}
	if err == nil {
		err = clearOutputProcessing(slave)
	}
	if err == nil {
		err = unix.IoctlSetInt(int(slave.Fd()), unix.TIOCSCTTY, 0)
	}
	if err != nil {
		_ = slave.Close()
		return fmt.Errorf("set the pty up: %w", err)
	}
	c.Slave = slave
	return nil
}

// clearOutputProcessing clears OPOST, which SetRaw leaves set: only the guest translates
// newlines, whatever the owner of the master sets.
func clearOutputProcessing(tty *os.File) error {
	fd := int(tty.Fd())
	termios, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("get the attributes: %w", err)
	}
	termios.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, termios); err != nil {
		return fmt.Errorf("set the attributes: %w", err)
	}
	return nil
}

// Send sends the master to the peer of a unix socket, in one message that
// carries one descriptor, and does not wait for an answer or an accept. After
// success the console has no master.
func (c *Console) Send(conn *net.UnixConn) error {
	fd := int(c.master.Fd())
	_, _, err := conn.WriteMsgUnix([]byte("/dev/ptmx"), unix.UnixRights(fd), nil)
	runtime.KeepAlive(c.master)
	if err != nil {
		return fmt.Errorf("send the terminal over the console socket: %w", err)
	}
	c.CloseMaster()
	return nil
}

// CloseMaster closes the shim's copy of the master.
func (c *Console) CloseMaster() {
	_ = c.master.Close()
}
