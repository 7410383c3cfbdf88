package qemu

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"runch/unixsocket"
)

// The driver's sockets in Config.Dir.
const (
	monitorSocket = "qmp.sock"
	agentSocket   = "agent.sock"
)

// memoryFile makes an empty memfd.
func memoryFile(what string) (*os.File, error) {
	fd, err := unix.MemfdCreate(what, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the file for the %s: %w", what, err)
	}
	return os.NewFile(uintptr(fd), what), nil
}

// socketPair makes a connected pair of sockets: ours and QEMU's.
func socketPair(what string) (ours net.Conn, theirs *os.File, err error) {
	pair, theirs, err := unixsocket.Pair(what)
	if err != nil {
		return nil, nil, fmt.Errorf("make the %s: %w", what, err)
	}
	return pair, theirs, nil
}
