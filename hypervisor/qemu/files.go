package qemu

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The driver's sockets in Config.Dir.
const (
	monitorSocket = "qmp.sock"
	agentSocket   = "agent.sock"
)

// memoryFile makes an empty file in memory.
func memoryFile(what string) (*os.File, error) {
	fd, err := unix.MemfdCreate(what, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the file for the %s: %w", what, err)
	}
	return os.NewFile(uintptr(fd), what), nil
}

// socketPair makes a connected pair: ours, for the runtime's poller, and QEMU's.
func socketPair(what string) (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the %s: %w", what, err)
	}
	theirs = os.NewFile(uintptr(fds[1]), what)
	f := os.NewFile(uintptr(fds[0]), what)
	ours, err = net.FileConn(f)
	_ = f.Close() // FileConn has made a copy
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("make the %s: %w", what, err)
	}
	return ours, theirs, nil
}
